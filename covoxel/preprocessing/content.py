"""Where the content of an image ends and padding begins: a border of one value, or of noise, holds nothing."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import rankdata

from covoxel.spatial import Image

T = TypeVar("T", bound=np.generic)
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Bounds = tuple[tuple[int, int], ...]
Faces = Sequence[tuple[int, int]]
"""Axis of each, and 0 for its first layer or -1 for its last."""

_MARGIN = 0.25
"""Left around content that fades into its background, such as a head: this share of its longest side."""
_DENSE = 0.5
"""A field of view ends where so much of a face of the box is content."""
_TEXTURE = 0.02
"""The least spread of a cut face, as a share of the spread of all content: a flat face is the side of an object."""
_CORRELATED = 0.35
"""Neighbours in anatomy correlate by more (by 0.66 and up on faces of real images), those in noise by less."""
_ONE_VALUE = 0.9
"""A layer with so much of one value is no noise, whatever the rest does."""
_FEWEST_VALUES = 100
"""A face of fewer voxels is not tested for noise: their correlation is too uncertain."""
_WINDOW = {2: 7, 3: 5}
"""Side of the windows, voxels, in which noise is described, by dimension."""
_FEWEST_IN_BLOCK = 49
"""The same for a block of a face, of which there are nine."""
_BOXED = 0.75
"""So many of the blocks of a face are content where a field of view ends; a ball lacks the four corners."""
_SLACK = 0.25
"""How far beyond what the windows of a face range over, as a share of the range, a window is noise too."""
_MOST_VALUES = 2**24
"""Noise around larger images is sought on every second voxel, or third."""
_ROUNDS = 4
"""Borders within borders that are looked for."""


_REMEMBERED = 256
_boxes: dict[tuple[Hashable, ...], "Box"] = {}


@dataclass(frozen=True)
class Box:
    """A box of voxels: index of the first (negative: padding) and number along each axis."""

    start: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def window(self) -> tuple[slice, ...]:
        """Where it lies in an image that it does not exceed."""
        return tuple(slice(first, first + side) for first, side in zip(self.start, self.shape, strict=True))


def content_box(image: Image) -> Box:
    """Smallest box that holds the content, without a border of one value or of noise.

    A border is a face of the image with one value alone (0, -1024, any), or whose values are noise: neighbours do not
    correlate. Noise around content differs from it in mean, spread or correlation over small windows. Where content
    fills a face of its box, the field of view ended there, and the box ends with it, on the voxel. Where it does not,
    as with a head or a body in air, a quarter of the longest side of the content is left around it.

    Parameters
    ----------
    image
        Any intensities, 2-D or 3-D.

    Returns
    -------
    Box
        The whole image if it has no border, or nothing within one. An image that is asked about again, as an atlas is
        for each case, is known by its values: the last 256 boxes are remembered.
    """
    values, spacing = image.data.detach().cpu().contiguous().numpy(), image.grid.spacing_mm
    key = (values.dtype.str, values.shape, tuple(spacing.tolist()), blake2b(values.data).digest())
    found = _boxes.get(key)
    if found is None:
        while len(_boxes) >= _REMEMBERED:
            _boxes.pop(next(iter(_boxes)), None)
        found = _boxes[key] = _found(values.astype(np.float64), spacing)
    return found


def _found(data: Values, spacing: Values) -> Box:
    bounds = _whole(data)
    if not np.isfinite(data).all():
        return _box(bounds)
    for _ in range(_ROUNDS):
        smaller = _within(bounds, _peeled(data[_window(bounds)], spacing))
        if smaller == bounds:
            break
        bounds = smaller
    return _box(bounds)


def _peeled(data: Values, spacing_mm: Values) -> Bounds:
    """Bounds of the content after the constant or else the noisy border was taken off."""
    faces = {(axis, end): _layer(data, axis, end) for axis in range(data.ndim) for end in (0, -1)}
    constants = {float(face.flat[0]) for face in faces.values() if np.ptp(face) == 0}
    if constants:
        return _without_constants(data, constants, spacing_mm)
    noisy = [face for face, values in faces.items() if _is_noise_all_over(values)]
    if noisy and min(data.shape) > _WINDOW[data.ndim]:
        return _without_noise(data, noisy, spacing_mm)
    return _whole(data)


def _without_constants(data: Values, constants: set[float], spacing_mm: Values) -> Bounds:
    mask = ~np.isin(data, list(constants))
    tight = _bounds(mask)
    if tight is None:
        return _whole(data)
    inside, values = mask[_window(tight)], data[_window(tight)]
    spread = float(values[inside].std())
    cut = {
        (axis, end): _ends_the_field(_layer(inside, axis, end), _layer(values, axis, end), spread)
        for axis in range(data.ndim)
        for end in (0, -1)
    }
    return _with_margins(data, tight, tight, cut, spacing_mm)


def _without_noise(data: Values, noisy: Faces, spacing_mm: Values) -> Bounds:
    step = int(np.ceil((data.size / _MOST_VALUES) ** (1 / data.ndim)))
    if step > 1:
        coarse = data[(slice(None, None, step),) * data.ndim]
        found = _without_noise(coarse, noisy, spacing_mm * step)
        return tuple((a * step, min(b * step, side)) for (a, b), side in zip(found, data.shape, strict=True))
    rough = _bounds(_structured(data, noisy))
    if rough is None or _is_noise(_layer(data[_window(rough)], 0, sum(rough[0]) // 2 - rough[0][0])):
        return _whole(data)
    exact = _on_the_voxel(data, rough)
    if exact is None:
        return _with_margins(data, rough, rough, {}, spacing_mm)
    inside = data[_window(exact)]
    cut = {(axis, end): _is_boxed(_layer(inside, axis, end)) for axis in range(data.ndim) for end in (0, -1)}
    either = tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(rough, exact, strict=True))
    return _with_margins(data, either, exact, cut, spacing_mm)


def _layer(values: NDArray[T], axis: int, index: int) -> NDArray[T]:
    """One layer across an axis."""
    return np.asarray(values.take(index, axis))


def _is_noise(values: Values, fewest: int = _FEWEST_VALUES) -> bool:
    """Whether neighbours are unrelated along every axis; what nearly all has one value is no noise."""
    if values.size < fewest or float((values == np.median(values)).mean()) > _ONE_VALUE:
        return False
    ranks = _centred_ranks(values)
    return all(_correlation(ranks, axis) < _CORRELATED for axis in range(values.ndim) if values.shape[axis] > 1)


def _centred_ranks(values: Values) -> Values:
    """Ranks about their mean: a few voxels far off all others do not hide how the rest correlates."""
    return np.asarray(rankdata(values).reshape(values.shape) - (values.size + 1) / 2)


def _correlation(ranks: Values, axis: int) -> float:
    """Correlation of the ranks of neighbours along an axis."""
    ahead = np.take(ranks, range(1, ranks.shape[axis]), axis)
    behind = np.take(ranks, range(ranks.shape[axis] - 1), axis)
    return float((ahead * behind).mean() / ranks.var())


def _structured(data: Values, noisy: Faces) -> Mask:
    """Voxels in whose window the values are not such as on any of the `noisy` faces; the largest such body."""
    features = _features(data, _WINDOW[data.ndim], data)
    known = [[_layer(feature, axis, end) for feature in features] for axis, end in noisy]
    eroded = ndimage.minimum_filter(_beyond(features, known), 3, mode="constant", cval=0)
    structured = ndimage.maximum_filter(eroded, 3, mode="constant", cval=0)
    bodies, count = ndimage.label(structured)
    largest = 1 + np.argmax(np.bincount(bodies.ravel())[1:]) if count else 0
    return np.asarray(bodies == largest) if count else structured


def _is_noise_all_over(face: Values) -> bool:
    """Whether each block of a face is noise: loud noise on a part of it would drown the rest."""
    blocks = next((blocks for count in (3, 2) if _smallest(blocks := _blocks(face, count)) >= _FEWEST_VALUES), [face])
    return all(_is_noise(block) for block in blocks)


def _is_boxed(face: Values) -> bool:
    """Whether a face is content up to its corners: most blocks of a third of its sides are no noise."""
    blocks = _blocks(face, 3)
    if _smallest(blocks) < _FEWEST_IN_BLOCK:
        return False
    return bool(np.mean([not _is_noise(block, _FEWEST_IN_BLOCK) for block in blocks]) > _BOXED)


def _blocks(face: Values, count: int) -> list[Values]:
    """Parts of a face, `count` along each of its axes."""
    blocks = [face]
    for axis in range(face.ndim):
        blocks = [part for block in blocks for part in np.array_split(block, count, axis)]
    return blocks


def _smallest(blocks: list[Values]) -> int:
    return min(block.size for block in blocks)


def _beyond(features: list[Values], known: list[list[Values]]) -> Mask:
    """Where the features lie outside the ranges of those of every face of noise."""
    beyond = np.ones(features[0].shape, dtype=bool)
    for face in known:
        alike = np.ones_like(beyond)
        for feature, noise in zip(features, face, strict=True):
            slack = _SLACK * float(np.ptp(noise))
            alike &= (feature >= noise.min() - slack) & (feature <= noise.max() + slack)
        beyond &= ~alike
    return beyond


def _features(values: Values, size: int, scale: Values) -> list[Values]:
    """Mean, logarithm of the spread, and correlation of neighbours, of the window around each voxel.

    Measured by the mean and the spread of all of `scale`.
    """
    scaled = (values - scale.mean()) / scale.std()

    def mean(of: Values) -> Values:
        found: Values = ndimage.uniform_filter(of, size, mode="nearest")
        return found

    middle = mean(scaled)
    variance = np.maximum(mean(scaled**2) - middle**2, 1e-12)
    steps = np.zeros_like(scaled)
    for axis in range(values.ndim):
        if values.shape[axis] > 1:
            steps += np.diff(scaled, axis=axis, append=scaled.take([-2], axis)) ** 2
    return [middle, 0.5 * np.log(variance), np.log(np.maximum(mean(steps) / variance, 1e-12))]


def _on_the_voxel(data: Values, rough: Bounds) -> Bounds | None:
    """Bounds of the content where it fills its box: a layer of noise correlates with nothing, a layer of it does.

    None where too little is known of a layer.
    """
    reach, bounds = _WINDOW[data.ndim] // 2 + 1, rough
    for turn, axis in product(range(2), range(data.ndim)):
        if turn == 1 and axis == 0 and bounds == rough:
            break  # the layers of a second turn would be the same
        inner = [(first + reach, stop - reach) if stop - first > 4 * reach else (first, stop) for first, stop in bounds]
        inner[axis] = (0, data.shape[axis])
        layers = np.moveaxis(data[_window(tuple(inner))], axis, 0)
        if layers[0].size < _FEWEST_VALUES:
            return None
        first, stop = bounds[axis]
        low, high = _edge(layers[:stop], first), len(layers) - 1 - _edge(layers[first:][::-1], len(layers) - stop)
        if low >= stop or high < first:
            return None
        bounds = (*bounds[:axis], (low, high + 1), *bounds[axis + 1 :])
    return bounds


def _edge(layers: Values, rough: int) -> int:
    """Index of the first layer of content, from its `rough` place outwards, or inwards if that is noise.

    The number of layers if all from there on are noise.
    """
    if _is_noise(layers[rough]):
        return next((index for index in range(rough + 1, len(layers)) if not _is_noise(layers[index])), len(layers))
    return next((index + 1 for index in range(rough - 1, -1, -1) if _is_noise(layers[index])), 0)


def _with_margins(
    data: Values, rough: Bounds, exact: Bounds, cut: dict[tuple[int, int], bool], spacing_mm: Values
) -> Bounds:
    """The exact bounds where a field of view was cut, else a margin away from the rough ones."""
    longest_mm = max((stop - first) * float(mm) for (first, stop), mm in zip(rough, spacing_mm, strict=True))
    found = []
    for axis, side in enumerate(data.shape):
        margin = int(np.ceil(_MARGIN * longest_mm / float(spacing_mm[axis])))
        low = exact[axis][0] if cut.get((axis, 0)) else max(0, rough[axis][0] - margin)
        high = exact[axis][1] if cut.get((axis, -1)) else min(side, rough[axis][1] + margin)
        found.append((low, high))
    return tuple(found)


def _ends_the_field(content: Mask, values: Values, spread: float) -> bool:
    """Whether content fills a face and varies there; the flat side of an object is no end of a field of view."""
    return bool(content.mean() > _DENSE and values[content].std() > _TEXTURE * spread)


def _bounds(mask: Mask) -> Bounds | None:
    """First and one past the last index of the mask along each axis; None where it is empty."""
    found = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        if not hit.size:
            return None
        found.append((int(hit[0]), int(hit[-1]) + 1))
    return tuple(found)


def _whole(data: Values) -> Bounds:
    return tuple((0, side) for side in data.shape)


def _window(bounds: Bounds) -> tuple[slice, ...]:
    return tuple(slice(first, stop) for first, stop in bounds)


def _within(outer: Bounds, inner: Bounds) -> Bounds:
    return tuple((a + first, a + stop) for (a, _), (first, stop) in zip(outer, inner, strict=True))


def _box(bounds: Bounds) -> Box:
    return Box(tuple(first for first, _ in bounds), tuple(stop - first for first, stop in bounds))
