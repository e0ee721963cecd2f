"""Registration engines behind one interface: (fixed, moving images) to transforms."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from covoxel.preprocessing.content import content_box
from covoxel.registration.base import ENGINES, MovingBatch, PairError
from covoxel.registration.content import continued, cut, cut_labels
from covoxel.registration.model import PairModel
from covoxel.spatial import Image, Transform

_BATCH_VOXELS = {"cpu": 8_000_000, "cuda": 160_000_000}
"""Fixed voxels times moving images that are registered at once: about 200 bytes of working memory each."""


def register(
    engine: str,
    fixed: Image,
    moving: Sequence[Image],
    *,
    device: torch.device | str = "cpu",
    fixed_labels: Tensor | None = None,
    moving_labels: Sequence[Tensor] = (),
    **settings: Any,
) -> list[Transform]:
    """Register every moving image to the fixed one, by what they hold.

    A border of one value or of noise (see `covoxel.preprocessing.content_box`) is cut off each image before.

    Parameters
    ----------
    engine
        A name of `ENGINES`: "identity", "affine", "svf", "learned" or "learned+svf".
    fixed, moving
        Images of one dimension (2-D or 3-D), intensities of about 0 to 1.
    device
        Where the work is done.
    fixed_labels, moving_labels
        For an engine that labels can drive: probabilities `(label, *shape)` on the grid of the fixed image and on that
        of each moving one (0 and 1, or truth values), the same labels in one order, label 0 background.
    **settings
        Settings of the engine, see its documentation.

    Returns
    -------
    list of Transform
        From points of `fixed` to points of each moving image, on the CPU.

    Raises
    ------
    KeyError
        If no engine has that name.
    ValueError
        If an image has another number of dimensions than the fixed one, labels do not fit the images, or the engine
        takes no labels.
    """
    run = ENGINES[engine]
    for image in moving:
        if image.grid.ndim != fixed.grid.ndim:
            raise ValueError(f"moving images must be {fixed.grid.ndim}-D like the fixed one, got {image.grid.ndim}-D")
    boxes = [content_box(image) for image in (fixed, *moving)]
    if fixed_labels is not None:
        _check_labels(engine, fixed, moving, fixed_labels, moving_labels)
        settings["fixed_labels"] = cut_labels(fixed_labels, boxes[0]).to(device)
        moving_labels = [cut_labels(labels, box) for labels, box in zip(moving_labels, boxes[1:], strict=True)]
    elif moving_labels:
        raise ValueError("fixed_labels must be given with moving_labels, got None")
    kind = torch.device(device).type
    whole, fixed = fixed.grid, cut(fixed, boxes[0])
    moving = [cut(image, box) for image, box in zip(moving, boxes[1:], strict=True)]
    size = max(1, _BATCH_VOXELS.get(kind, _BATCH_VOXELS["cpu"]) // fixed.grid.size)
    found: list[Transform] = []
    with torch.no_grad():
        for start in range(0, len(moving), size):
            part = slice(start, start + size)
            batch = MovingBatch.of(moving[part], device, labels=moving_labels[part], first=start)
            with torch.enable_grad():
                found += run(fixed.to(device), batch, **settings)
    return [continued(_on_cpu(transform), boxes[0], whole) for transform in found]


def takes(engine: str, setting: str) -> bool:
    """Whether an engine has a setting of that name, such as `model` or `fixed_labels`."""
    return setting in inspect.signature(ENGINES[engine]).parameters


def _check_labels(
    engine: str, fixed: Image, moving: Sequence[Image], fixed_labels: Tensor, moving_labels: Sequence[Tensor]
) -> None:
    if not takes(engine, "fixed_labels"):
        raise ValueError(f"fixed_labels cannot drive the engine {engine!r}; one that takes labels is learned+svf")
    if len(moving_labels) != len(moving):
        raise ValueError(f"moving_labels must be one for each of {len(moving)} moving images, got {len(moving_labels)}")
    for name, labels, image in (
        ("fixed_labels", fixed_labels, fixed),
        *(("moving_labels", *pair) for pair in zip(moving_labels, moving, strict=True)),
    ):
        wanted = (len(fixed_labels), *image.grid.shape)
        if tuple(labels.shape) != wanted or len(labels) < 2:
            raise ValueError(f"{name} must be {wanted}, two labels or more, got {tuple(labels.shape)}")


def _on_cpu(transform: Transform) -> Transform:
    displacement = transform.displacement_mm
    return transform if displacement is None else replace(transform, displacement_mm=displacement.detach().cpu())


__all__ = ["ENGINES", "MovingBatch", "PairError", "PairModel", "register", "takes"]
