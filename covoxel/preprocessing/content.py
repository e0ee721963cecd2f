"""Where the content of an image ends and padding begins: a border of one value, or of noise, holds nothing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from covoxel.spatial import Image

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Bounds = tuple[tuple[int, int], ...]

_MARGIN = 0.25
"""Left around content that fades into its background, such as a head: this share of its longest side."""
_DENSE = 0.5
"""A field of view ends where so much of a face of the box is content."""
_TEXTURE = 0.02
"""The least spread of a cut face, as a share of the spread of all content: a flat face is the side of an object."""
_CORRELATED = 0.35
"""Neighbours in anatomy correlate by more (by 0.66 and up on faces of real images), those in noise by less."""
_FEWEST_VALUES = 100
"""A face of fewer voxels is not tested for noise: their correlation is too uncertain."""
_WINDOW = {2: 7, 3: 5}
"""Side of the windows, voxels, in which noise is described, by dimension."""
_SLACK = 0.25
"""How far beyond what the windows of a face range over, as a share of the range, a window is noise too."""
_ROUNDS = 4
"""Borders within borders that are looked for."""


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
        The whole image if it has no border, or nothing within one.
    """
    data = image.data.detach().cpu().numpy().astype(np.float64)
    bounds: Bounds = tuple((0, side) for side in data.shape)
    if not np.isfinite(data).all():
        return _box(bounds)
    spacing = image.grid.spacing_mm
    for _ in range(_ROUNDS):
        smaller = _within(bounds, _peeled(data[_window(bounds)], spacing))
        if smaller == bounds:
            break
        bounds = smaller
    return _box(bounds)


def _peeled(data: Values, spacing_mm: Values) -> Bounds:
    """Bounds of the content after the constant or else the noisy border was taken off."""
    whole: Bounds = tuple((0, side) for side in data.shape)
    faces = [data.take(end, axis) for axis in range(data.ndim) for end in (0, -1)]
    constants = {float(face.flat[0]) for face in faces if np.ptp(face) == 0}
    if constants:
        mask = ~np.isin(data, list(constants))
        tight = _bounds(mask)
        return whole if tight is None else _with_margins(data, mask, tight, spacing_mm)
    noisy = [face for face in range(len(faces)) if _is_noise(faces[face])]
    if not noisy or min(data.shape) <= _WINDOW[data.ndim]:
        return whole
    mask = _structured(data, noisy)
    tight = _bounds(mask)
    if tight is None or _is_noise(data[_window(tight)]):
        return whole
    refined = _on_the_voxel(data, tight)
    # A window that is half noise is no content yet.
    mask = ndimage.binary_dilation(mask, np.ones([2 * _reach(data) + 1] * data.ndim))
    return _with_margins(data, mask, tight if refined is None else refined, spacing_mm)


def _is_noise(values: Values) -> bool:
    """Whether neighbours are unrelated along every axis."""
    if values.size < _FEWEST_VALUES or np.ptp(values) == 0:
        return False
    return all(_correlation(values, axis) < _CORRELATED for axis in range(values.ndim) if values.shape[axis] > 1)


def _correlation(values: Values, axis: int) -> float:
    """Correlation of neighbours along an axis, taken about the mean of all."""
    centred = values - values.mean()
    ahead = np.take(centred, range(1, values.shape[axis]), axis)
    behind = np.take(centred, range(values.shape[axis] - 1), axis)
    return float((ahead * behind).mean() / centred.var())


def _structured(data: Values, noisy: list[int]) -> Mask:
    """Voxels in whose window the values are not such as on any of the `noisy` faces; the largest such body."""
    features = _features(data)
    structured = np.ones(data.shape, dtype=bool)
    for face in noisy:
        alike = np.ones(data.shape, dtype=bool)
        for feature in features:
            known = feature.take(-(face % 2), face // 2)
            slack = _SLACK * float(np.ptp(known))
            alike &= (feature >= known.min() - slack) & (feature <= known.max() + slack)
        structured &= ~alike
    structured = ndimage.binary_opening(structured, np.ones([3] * data.ndim))
    bodies, count = ndimage.label(structured)
    return bodies == 1 + np.argmax(np.bincount(bodies.ravel())[1:]) if count else structured


def _features(data: Values) -> list[Values]:
    """Mean, logarithm of the spread, and correlation of neighbours, of the window around each voxel."""
    size = _WINDOW[data.ndim]
    scaled = (data - data.mean()) / data.std()

    def mean(values: Values) -> Values:
        found: Values = ndimage.uniform_filter(values, size, mode="nearest")
        return found

    middle = mean(scaled)
    variance = np.maximum(mean(scaled**2) - middle**2, 1e-12)
    steps = np.zeros_like(scaled)
    for axis in range(data.ndim):
        steps += np.diff(scaled, axis=axis, append=scaled.take([-2], axis)) ** 2
    return [middle, 0.5 * np.log(variance), np.log(np.maximum(mean(steps) / variance, 1e-12))]


def _reach(data: Values) -> int:
    """How far, voxels, the edge of the structured voxels may lie from that of the content."""
    return _WINDOW[data.ndim] // 2 + 1


def _on_the_voxel(data: Values, rough: Bounds) -> Bounds | None:
    """Bounds of the content where it fills its box: a layer of noise correlates with nothing, a layer of it does."""
    reach = _reach(data)
    bounds = rough
    for axis in range(data.ndim):
        inner = [(first + reach, stop - reach) if stop - first > 4 * reach else (first, stop) for first, stop in bounds]
        inner[axis] = (max(0, bounds[axis][0] - reach), min(data.shape[axis], bounds[axis][1] + reach))
        layers = np.moveaxis(data[_window(tuple(inner))], axis, 0)
        sound = [place for place, layer in enumerate(layers) if not _is_noise(layer) and np.ptp(layer) > 0]
        if not sound:
            return None
        found = (inner[axis][0] + sound[0], inner[axis][0] + sound[-1] + 1)
        bounds = (*bounds[:axis], found, *bounds[axis + 1 :])
    return bounds


def _with_margins(data: Values, mask: Mask, tight: Bounds, spacing_mm: Values) -> Bounds:
    """The bounds where content fills a face of the box, or a margin away from it."""
    sides_mm = [(stop - first) * float(mm) for (first, stop), mm in zip(tight, spacing_mm, strict=True)]
    inside, values = mask[_window(tight)], data[_window(tight)]
    spread = float(values[inside].std()) if inside.any() else 0.0
    found = []
    for axis, (first, stop) in enumerate(tight):
        margin = int(np.ceil(_MARGIN * max(sides_mm) / float(spacing_mm[axis])))
        cut = [_ends_the_field(inside.take(end, axis), values.take(end, axis), spread) for end in (0, -1)]
        low = first if cut[0] else max(0, first - margin)
        high = stop if cut[1] else min(data.shape[axis], stop + margin)
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


def _window(bounds: Bounds) -> tuple[slice, ...]:
    return tuple(slice(first, stop) for first, stop in bounds)


def _within(outer: Bounds, inner: Bounds) -> Bounds:
    return tuple((a + first, a + stop) for (a, _), (first, stop) in zip(outer, inner, strict=True))


def _box(bounds: Bounds) -> Box:
    return Box(tuple(first for first, _ in bounds), tuple(stop - first for first, stop in bounds))
