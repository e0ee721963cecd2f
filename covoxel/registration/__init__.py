"""Registration engines behind one interface: (fixed, moving images) to transforms."""

from collections.abc import Sequence
from typing import Any

import torch

from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.spatial import Image, Transform

_BATCH_VOXELS = {"cpu": 8_000_000, "cuda": 160_000_000}
"""Fixed voxels times moving images that are registered at once: about 200 bytes of working memory each."""


def register(
    engine: str, fixed: Image, moving: Sequence[Image], *, device: torch.device | str = "cpu", **settings: Any
) -> list[Transform]:
    """Register every moving image to the fixed one.

    Parameters
    ----------
    engine
        A name of `ENGINES`: "identity", "affine" or "svf".
    fixed, moving
        Images of one dimension (2-D or 3-D), intensities of about 0 to 1.
    device
        Where the work is done.
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
        If an image has another number of dimensions than the fixed one.
    """
    run = ENGINES[engine]
    for image in moving:
        if image.grid.ndim != fixed.grid.ndim:
            raise ValueError(f"moving images must be {fixed.grid.ndim}-D like the fixed one, got {image.grid.ndim}-D")
    kind = torch.device(device).type
    size = max(1, _BATCH_VOXELS.get(kind, _BATCH_VOXELS["cpu"]) // fixed.grid.size)
    found: list[Transform] = []
    with torch.no_grad():
        for start in range(0, len(moving), size):
            batch = MovingBatch.of(moving[start : start + size], device)
            with torch.enable_grad():
                found += run(fixed.to(device), batch, **settings)
    return [_on_cpu(transform) for transform in found]


def _on_cpu(transform: Transform) -> Transform:
    displacement = transform.displacement_mm
    return Transform(
        transform.grid, transform.moving_from_fixed, None if displacement is None else displacement.detach().cpu()
    )


__all__ = ["ENGINES", "MovingBatch", "register"]
