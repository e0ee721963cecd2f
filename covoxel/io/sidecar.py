"""Sidecars: the JSON file beside an artifact that says what made it."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import covoxel
from covoxel.io.atomic import write_json

_SUFFIXES = (".nii.gz", ".nii", ".h5", ".mat", ".tsv", ".safetensors", ".html")


def sidecar_path(artifact: Path) -> Path:
    """Path of the sidecar: `X.json` beside `X.nii.gz` or `X.h5`."""
    artifact = Path(artifact)
    suffix = next((s for s in _SUFFIXES if artifact.name.lower().endswith(s)), artifact.suffix)
    return artifact.with_name(f"{artifact.name[: len(artifact.name) - len(suffix)]}.json")


def write_sidecar(
    artifact: Path, inputs: Mapping[str, str], settings: Mapping[str, Any], seconds: float, device: str
) -> Path:
    """Write the sidecar of `artifact`, atomically.

    Parameters
    ----------
    artifact
        The file that was made.
    inputs
        SHA-256 of each input, by name.
    settings
        What was set, as JSON values.
    seconds
        How long it took.
    device
        Where it ran, as torch names it.

    Returns
    -------
    Path
        The sidecar.

    Raises
    ------
    ValueError
        If the artifact is itself a `.json`, or a setting is no JSON value.
    """
    path = sidecar_path(artifact)
    if path == Path(artifact):
        raise ValueError(f"{artifact} must not end in .json: its sidecar would replace it")
    versions = {"covoxel": covoxel.__version__, "python": platform.python_version(), "torch": torch.__version__}
    content = {
        "device": device,
        "inputs": dict(inputs),
        "seconds": round(float(seconds), 3),
        "settings": dict(settings),
        "versions": versions,
    }
    write_json(path, content)
    return path
