"""All figures of one case in one call, from images on any grid."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch

from covoxel.report import figures
from covoxel.report.canvas import round_length
from covoxel.report.gaps import Gap, Guard
from covoxel.report.pictures import CAPTIONS
from covoxel.report.planes import Array, Frame, Plane, choose_planes
from covoxel.spatial import Grid, Image, Transform, sample

LINES = 10


def case_figures(
    fixed: Image,
    label_map: Image | None = None,
    *,
    confidence: Image | None = None,
    moved: Image | None = None,
    transform: Transform | None = None,
    guard: Guard | None = None,
) -> dict[str, bytes]:
    """Figures of one case by key, in the order they are shown.

    Parameters
    ----------
    fixed
        The case, 2-D or 3-D, any orientation; `(*shape)` intensities of any range.
    label_map
        Its segmentation on the same grid.
    confidence
        0 to 1 on the same grid.
    moved
        A moving image (best the most similar atlas) resampled onto the same grid.
    transform
        The transform that moved it; its grid may be another one. Its displacement is drawn, its affine part is not.
    guard
        Learns which figures could not be drawn, and why; they are missing then, and the others are there. None lets
        the error through.

    Returns
    -------
    dict
        WebP bytes for those of "overlay", "checkerboard", "confidence", "grid", "jacobian" whose input was given.

    Raises
    ------
    ValueError
        If an image is not on the grid of `fixed`.
    """
    for name, image in (("label_map", label_map), ("confidence", confidence), ("moved", moved)):
        if image is not None and not image.grid.isclose(fixed.grid, tolerance_mm=1e-2):
            raise ValueError(f"{name} must lie on the grid of fixed {fixed.grid.shape}, got {image.grid.shape}")
    if guard is None:
        return {key: draw() for key, draw in _drawing(fixed, label_map, confidence, moved, transform).items()}
    drawing = guard.one("The figures", lambda: _drawing(fixed, label_map, confidence, moved, transform))
    if isinstance(drawing, Gap):
        return {}
    drawn = {key: guard.one(CAPTIONS[key][0], draw) for key, draw in drawing.items()}
    return {key: picture for key, picture in drawn.items() if not isinstance(picture, Gap)}


def _drawing(
    fixed: Image, label_map: Image | None, confidence: Image | None, moved: Image | None, transform: Transform | None
) -> dict[str, Callable[[], bytes]]:
    """What draws each figure, by key."""
    frame = Frame.of(fixed.grid)
    ours = _array(fixed, frame)
    labels = None if label_map is None else _array(label_map, frame)
    planes = choose_planes(ours, labels, frame.spacing_mm)
    draw: dict[str, Callable[[], bytes]] = {}
    if labels is not None:
        draw["overlay"] = partial(figures.overlay, ours, labels, planes)
    if moved is not None:
        draw["checkerboard"] = lambda: figures.checkerboard(ours, _array(moved, frame), planes)
    if confidence is not None:
        draw["confidence"] = lambda: figures.confidence_map(ours, _array(confidence, frame), planes)
    if transform is not None and transform.displacement_mm is not None:
        slabs = cache(lambda: [_slab(transform, frame.grid(fixed.grid), plane) for plane in planes])
        every_mm = round_length(max(max(plane.size_mm) for plane in planes) / LINES)
        draw["grid"] = lambda: figures.deformation_grid(ours, slabs(), planes, every_mm)
        draw["jacobian"] = lambda: figures.log_jacobian(slabs(), planes, labels)
    return draw


def _array(image: Image, frame: Frame) -> Array:
    return frame.view(image.data.detach().cpu().numpy())


def _slab(transform: Transform, grid: Grid, plane: Plane) -> Array:
    """Displacement in voxels of `grid`, `(n, *window)`, three voxels thick along the axis that is cut."""
    assert transform.displacement_mm is not None
    n = grid.ndim
    ranges = [
        np.arange(plane.index - 1, plane.index + 2) if axis == plane.axis else np.arange(window.start, window.stop)
        for axis, window in enumerate(plane.window)
    ]
    voxel = np.stack(np.meshgrid(*ranges, indexing="ij"), -1)
    at = torch.from_numpy(np.moveaxis(transform.grid.to_voxel(grid.to_ras(voxel)), -1, 0)[None])
    field = transform.displacement_mm[None].detach().cpu().float()
    shift_mm = sample(field, at.float())[0].numpy()
    return np.asarray(np.einsum("cd,d...->c...", grid.voxel_from_ras[:n, :n], shift_mm))
