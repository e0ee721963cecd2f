"""Gathering: atlases and their label maps, laid onto one fixed image once and kept to be read part by part."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion.base import Evidence, smallest_type
from covoxel.fusion.source import Source
from covoxel.fusion.tiling import Window, voxels_in
from covoxel.io.scratch import Scratch, ScratchArray
from covoxel.spatial import Image, Transform, corners, sample

_SLAB = 2**19  # voxels that are laid onto the image at once
_BLOCK = 8  # voxels: side of the blocks of which it is known what structures occur in them

Atlas = tuple[Image, Image, Transform]
"""Intensities, integer label map on the same grid, and the transform from points of the fixed image to points there."""


@dataclass(frozen=True, eq=False)
class _Laid:
    """One atlas: moved intensities, where they are valid, where each voxel lies in the label map, and that map."""

    moved: ScratchArray
    valid: ScratchArray
    coordinates: tuple[ScratchArray, ...]
    labels: ScratchArray


class Gathered(Source):
    """Atlases laid onto an image. Labels stay whole numbers; indicators are interpolated where a part is read.

    Parameters
    ----------
    fixed, values
        As for `Source`.
    laid
        The atlases.
    occurs
        `(label, *blocks)` bool, which structures occur in which block of 8 voxels a side, in any atlas.
    """

    def __init__(self, fixed: Tensor, values: Tensor, laid: Sequence[_Laid], occurs: Tensor) -> None:
        super().__init__(fixed, values, len(laid))
        self._laid, self._occurs = laid, occurs

    def look(self, atlas: int, window: Window) -> tuple[Tensor, Tensor]:
        """Read from scratch."""
        own = self._laid[atlas]
        return own.moved.read(window).to(self.device), own.valid.read(window).to(self.device)

    def indicators(self, atlas: int, window: Window, values: Tensor) -> Tensor:
        """Interpolated linearly; background where the atlas is not valid."""
        own = self._laid[atlas]
        result = torch.zeros((len(values) + 1, *(w.stop - w.start for w in window)), device=self.device)
        for rows, part in _slabs(window):
            here = torch.stack([axis.read(part) for axis in own.coordinates])
            seen = own.valid.read(part)
            result[:, rows] = _interpolated(here, seen, own.labels, values, self.device)
        return result[:-1]

    def indicators_at(self, atlas: int, voxels: Tensor) -> Tensor:
        """Interpolated linearly; background where the atlas is not valid."""
        own = self._laid[atlas]
        here = torch.stack([axis.at(voxels) for axis in own.coordinates])
        return _interpolated(here, own.valid.at(voxels), own.labels, self.values, self.device)[:-1]

    def present(self, window: Window) -> Tensor:
        """Those that occur in the blocks around the window."""
        blocks = tuple(slice(w.start // _BLOCK, -(-w.stop // _BLOCK)) for w in window)
        return self._occurs[(slice(None), *blocks)].flatten(1).any(1)


def gather(fixed: Image, atlases: Iterable[Atlas], scratch: Scratch) -> Gathered:
    """Lay atlases onto `fixed`, one at a time.

    Parameters
    ----------
    fixed
        The image to label; everything is computed on its grid and device.
    atlases
        May be read as they are asked for: no more than one is in memory. All label values met become `values`.
    scratch
        Takes 17 bytes a voxel of `fixed` (13 in 2-D) and one or more a voxel of the label map, for each atlas. The
        result can be read until it is closed.

    Raises
    ------
    ValueError
        If there is no atlas, or a label map is on another grid than its image.
    """
    laid: list[_Laid] = []
    occurs = {0: torch.ones(_blocks(fixed.grid.shape), dtype=torch.bool)}
    for image, label_map, transform in atlases:
        if not image.grid.isclose(label_map.grid):
            place = len(laid)
            raise ValueError(f"label map {place} must lie on the grid of its image {image.grid}, got {label_map.grid}")
        laid.append(_lay(fixed, image, label_map, transform, scratch, occurs))
        del image, label_map, transform  # before the next is read
    if not laid:
        raise ValueError("there must be at least one atlas, got none")
    values = torch.tensor(sorted(occurs))
    blocks = torch.stack([occurs[value] for value in values.tolist()])
    return Gathered(fixed.data.float(), values.to(fixed.data.device), laid, blocks)


def gather_evidence(
    fixed: Image, moving: Sequence[Image], label_maps: Sequence[Image], transforms: Sequence[Transform]
) -> Evidence:
    """Evidence of all atlases about a whole image and all structures at once: for small images.

    Parameters
    ----------
    fixed
        The image to label.
    moving, label_maps, transforms
        Of each atlas, as for `gather`.

    Raises
    ------
    ValueError
        If the counts differ, or a label map is on another grid than its image.
    """
    if not len(moving) == len(label_maps) == len(transforms) > 0:
        raise ValueError(
            "moving, label_maps and transforms must be as many, at least one, "
            f"got {len(moving)}, {len(label_maps)}, {len(transforms)}"
        )
    with Scratch() as scratch:
        return gather(fixed, zip(moving, label_maps, transforms, strict=True), scratch).evidence()


def _lay(
    fixed: Image, image: Image, label_map: Image, transform: Transform, scratch: Scratch, occurs: dict[int, Tensor]
) -> _Laid:
    """Lay one atlas onto the image, and note in `occurs` where its structures are."""
    grid, device = fixed.grid, fixed.data.device
    labels = label_map.data
    own, places = torch.unique(labels, return_inverse=True)
    kind = smallest_type(own)
    laid = _Laid(
        scratch.array(grid.shape, torch.float32),
        scratch.array(grid.shape, torch.bool),
        tuple(scratch.array(grid.shape, torch.float32) for _ in grid.shape),
        scratch.array(tuple(labels.shape), kind),
    )
    laid.labels.write((), labels.to(kind))
    places = places.to(smallest_type(torch.tensor([0, len(own)]))).flatten()
    blocks = _blocks(grid.shape)
    found = torch.zeros((len(own), prod(blocks)), dtype=torch.bool)
    intensities = image.data.to(device)[None, None].float()
    for _, part in _slabs(tuple(slice(0, side) for side in grid.shape)):
        here = _part_of(transform, part).moving_coordinates_vox(image.grid, device)
        laid.moved.write(part, sample(intensities, here)[0, 0])
        laid.valid.write(part, _inside(here, image.grid.shape))
        for axis, coordinate in zip(laid.coordinates, here[0], strict=True):
            axis.write(part, coordinate)
        _note(found, places, here[0].cpu(), tuple(labels.shape), part, blocks)
    for value, where in zip(own.tolist(), found, strict=True):
        there = where.view(blocks)
        occurs[value] = occurs[value] | there if value in occurs else there
    return laid


def _note(
    found: Tensor, places: Tensor, coordinates: Tensor, shape: tuple[int, ...], part: Window, blocks: tuple[int, ...]
) -> None:
    """Note in `found` `(label, block)` which labels are among the corners of the voxels of a part of the image."""
    block = torch.zeros((), dtype=torch.int64)
    for axis, (own, count) in enumerate(zip(part, blocks, strict=True)):
        along = torch.arange(own.start, own.stop) // _BLOCK
        block = block * count + along.view(-1, *[1] * (len(part) - axis - 1))
    for index in corners(coordinates, shape)[0]:
        found.view(-1)[places[index].long() * found.shape[1] + block] = True


def _interpolated(
    coordinates: Tensor, seen: Tensor, labels: ScratchArray, values: Tensor, device: torch.device
) -> Tensor:
    """Indicators, `(label + 1, *output_shape)`, of `values` and of all others, at coordinates `(n, *output_shape)`."""
    shape = tuple(seen.shape)
    box = _box(coordinates, labels.shape)
    around = labels.read(box)
    first = coordinates.new_tensor([side.start for side in box]).view(-1, *[1] * len(shape))
    index, weight = corners((coordinates - first).to(device), tuple(around.shape))
    place = _places(around, values.cpu()).to(device).flatten()[index]
    result = torch.zeros((len(values) + 1, *shape), device=device)
    result.scatter_add_(0, place, weight)
    unseen = ~seen.to(device)
    result.masked_fill_(unseen, 0.0)
    result[0].masked_fill_(unseen, 1.0)
    return result


def _places(labels: Tensor, values: Tensor) -> Tensor:
    """Where each label is in ascending `values`; beyond their end if it is not there."""
    least, most = int(labels.min()), int(labels.max())
    if most - least > 2**16:
        place = torch.searchsorted(values, labels.to(values.dtype).contiguous()).clamp_(max=len(values) - 1)
        return torch.where(values[place] == labels, place, len(values))
    table = torch.full((most - least + 1,), len(values))
    known = (values >= least) & (values <= most)
    table[values[known] - least] = known.nonzero()[:, 0]
    return table[labels.long() - least]


def _box(coordinates: Tensor, shape: tuple[int, ...]) -> Window:
    """The window of an image of `shape` that linear interpolation at these coordinates looks at."""
    sides = []
    for own, side in zip(coordinates, shape, strict=True):
        low = min(max(int(own.min().floor()), 0), side - 1)
        sides.append(slice(low, min(max(int(own.max().floor()) + 2, low + 1), side)))
    return tuple(sides)


def _slabs(window: Window) -> Iterator[tuple[slice, Window]]:
    """Parts of a window along its first axis: the rows of it, and where they are on the grid."""
    first = window[0]
    rows = max(1, _SLAB * (first.stop - first.start) // max(1, voxels_in(window)))
    for start in range(first.start, first.stop, rows):
        part = slice(start, min(start + rows, first.stop))
        yield slice(part.start - first.start, part.stop - first.start), (part, *window[1:])


def _part_of(transform: Transform, part: Window) -> Transform:
    """The transform on a part of its grid."""
    start = tuple(own.start for own in part)
    shape = tuple(own.stop - own.start for own in part)
    if shape == transform.grid.shape:
        return transform
    at: Any = (slice(None), *part)
    displacement = None if transform.displacement_mm is None else transform.displacement_mm[at]
    return Transform(transform.grid.cropped(start, shape), transform.moving_from_fixed, displacement)


def _blocks(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-side // _BLOCK) for side in shape)


def _inside(coordinates_vox: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Whether points `(1, n, *fixed_shape)` lie inside the voxels (up to their outer faces) of a grid of `shape`."""
    inside = torch.ones(coordinates_vox.shape[2:], dtype=torch.bool, device=coordinates_vox.device)
    for axis, side in enumerate(shape):
        inside &= (coordinates_vox[0, axis] >= -0.5) & (coordinates_vox[0, axis] <= side - 0.5)
    return inside
