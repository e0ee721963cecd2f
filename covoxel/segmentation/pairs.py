"""Segmentation of an image by a network that sees it beside images that are labelled."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.registration.alignment import align
from covoxel.registration.base import MovingBatch
from covoxel.registration.bounded import BoundedNetwork
from covoxel.registration.work import WorkGrid
from covoxel.segmentation.model import PairSegmenter
from covoxel.segmentation.segmented import Segmented, ViewMean, at_once, probabilities_of
from covoxel.spatial import Grid, Image, Transform


def segment_pairs(
    model: PairSegmenter,
    fixed: Image,
    moving: Sequence[Image],
    label_maps: Sequence[Image],
    *,
    onto: Grid | None = None,
    device: torch.device | str = "cpu",
) -> Segmented:
    """Probabilities of labels by what a network says of an image beside each of some labelled ones, averaged.

    Grids, interpolation and memory are as for `segment`; each labelled image makes a view.

    Parameters
    ----------
    model
        The trained network.
    fixed
        The image to segment, intensities of about 0 to 1.
    moving
        Labelled images, at least one, of about 0 to 1.
    label_maps
        Their label maps, each on the grid of its image; of a voxel whose value the network does not know, nothing is
        known.
    onto, device
        As for `segment`.

    Raises
    ------
    ValueError
        As `segment`; and if there is no labelled image, counts differ, or a label map is on another grid than its
        image.
    """
    _check(fixed, moving, label_maps)
    work = WorkGrid.of(fixed.grid, model)
    grid, fixed = onto or fixed.grid, fixed.to(device)
    devices = dict.fromkeys((fixed.data.device, torch.device("cpu")))
    network = BoundedNetwork(model.logits, model, work.grid.shape, list(devices))
    mean, values = ViewMean(model.values, grid, fixed.data.device), torch.tensor(model.values)
    at = Transform.identity(grid).moving_coordinates_vox(work.grid, fixed.data.device)
    together = at_once(2 * len(values), work.grid)  # labels go in as well
    for start in range(0, len(moving), together):
        rows = slice(start, start + together)
        labels = [_indicators(label_map, values) for label_map in label_maps[rows]]
        batch = MovingBatch.of(moving[rows], fixed.data.device, labels=labels, first=start)
        laid = align(fixed, batch, model.alignment)
        with torch.no_grad():
            said = network(*_seen(work, fixed, batch, laid))
            for each in probabilities_of(said, len(values)):
                mean.add(each, at)
    return mean.segmented()


def _seen(work: WorkGrid, fixed: Image, batch: MovingBatch, laid: Sequence[Transform]) -> tuple[Tensor, Tensor, Tensor]:
    """Both images and the moving labels on the grid of the network."""
    assert batch.labels is not None
    return *work.images(fixed, batch, laid), work.moved(batch.labels, batch, laid)


def _indicators(label_map: Image, values: Tensor) -> Tensor:
    """`(label, *shape)` float32 of 0 and 1."""
    return (label_map.data.cpu()[None] == values.view(-1, *[1] * label_map.grid.ndim)).float()


def _check(fixed: Image, moving: Sequence[Image], label_maps: Sequence[Image]) -> None:
    if not len(moving) == len(label_maps) > 0:
        raise ValueError(
            f"moving and label_maps must be as many, at least one, got {len(moving)} and {len(label_maps)}"
        )
    for place, (image, label_map) in enumerate(zip(moving, label_maps, strict=True)):
        if image.grid.ndim != fixed.grid.ndim:
            raise ValueError(f"moving images must be {fixed.grid.ndim}-D like the fixed one, got {image.grid.ndim}-D")
        if not image.grid.isclose(label_map.grid):
            raise ValueError(f"label map {place} must lie on the grid of its image {image.grid}, got {label_map.grid}")
