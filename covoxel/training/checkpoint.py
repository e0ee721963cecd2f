"""Checkpoints: the whole state of a training in one file, which appears whole or not at all."""

import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from covoxel.io import atomic_path
from covoxel.memory_errors import is_out_of_memory

_FORMAT = "covoxel training 1"


def save_checkpoint(path: Path, about: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Write `about` (JSON values) and `tensors` (state dictionaries) to `path` atomically."""
    state = {"format": _FORMAT, "about": json.dumps(about, sort_keys=True), "tensors": tensors}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`about` and `tensors` of `save_checkpoint`, tensors on the CPU. Nothing in the file is executed.

    Raises
    ------
    ValueError
        If the file is no checkpoint of this format.
    OSError
        If it cannot be read.
    """
    with Path(path).open("rb") as file:
        whole = zipfile.is_zipfile(file)
    if not whole:
        raise ValueError(f"{path} is no checkpoint of a training, or a part of one")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        form, about, tensors = state["format"], json.loads(state["about"]), state["tensors"]
    except Exception as error:  # what torch raises for a foreign file is many things
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{path} is no checkpoint of a training: {error}") from error
    if form != _FORMAT:
        raise ValueError(f"{path} must be {_FORMAT!r}, got {form!r}")
    return about, tensors
