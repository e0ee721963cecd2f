"""How alike a window of an atlas, here or nearby, is to that of the image, and the weight that gives."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from covoxel.fusion.source import Source
from covoxel.fusion.survey import scales_of
from covoxel.fusion.tiling import Window, grown, within
from covoxel.fusion.windows import correlation, locally_normalised, window_mean

Kernel = Literal["ssd", "lncc"]
_DISTANCE_FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class Pairs:
    """Image and atlases made comparable: `(atlas, 1, *shape)` each, `inside` ones and zeros."""

    fixed: Tensor
    moved: Tensor
    inside: Tensor

    def part(self, window: tuple[slice, ...]) -> "Pairs":
        """The same pairs on a part of their shape; views, no copies."""
        return Pairs(*(x[:, :, *window] for x in (self.fixed, self.moved, self.inside)))

    def padded(self, margin: int) -> "Pairs":
        """The pairs with `margin` voxels that no atlas sees added on every side."""
        sides = [margin] * (2 * (self.fixed.ndim - 2))
        return Pairs(*(functional.pad(x, sides) for x in (self.fixed, self.moved, self.inside)))


def comparable(source: Source, normalisation_radius: int | None, window: Window) -> Pairs:
    """Pairs within `window`, normalised over the whole image and then, if a radius is given, in windows of it."""
    outer = grown(window, normalisation_radius or 0, source.shape)
    even = standardised(source, outer)
    moved, inside = even.moved, even.inside
    fixed = even.fixed.expand_as(moved)
    if normalisation_radius is not None:
        moved = locally_normalised(moved, inside, normalisation_radius)
        fixed = locally_normalised(fixed, inside, normalisation_radius)
    return Pairs(fixed, moved, inside).part(within(window, outer))


def standardised(source: Source, window: Window) -> Pairs:
    """Pairs within `window`, each image with mean 0 and standard deviation 1 over the voxels that all atlases see.

    Where the atlases share no voxel, over all voxels. A constant image becomes zero. `fixed` is `(1, 1, *window)`.
    """
    scales = scales_of(source)
    looks = [source.look(atlas, window) for atlas in range(source.atlases)]
    moved = torch.stack([_even(image, scale) for (image, _), scale in zip(looks, scales.moved, strict=True)])
    inside = torch.stack([valid for _, valid in looks])[:, None].to(moved.dtype)
    return Pairs(_even(source.fixed[window], scales.fixed)[None, None], moved[:, None], inside)


def _even(image: Tensor, scale: tuple[float, float] | None) -> Tensor:
    if scale is None:
        return torch.zeros_like(image)
    return ((image - scale[0]) / scale[1]).to(image.dtype)


def window_distance(pairs: Pairs, kernel: Kernel, radius: int, count: Tensor | None = None) -> Tensor:
    """Distance, `(atlas, *shape)`, of the windows around each voxel; infinite where an atlas is not inside.

    "ssd": mean squared difference; "lncc": 1 less the correlation coefficient. `count` as for `window_mean`.
    """
    if kernel == "ssd":
        distance = window_mean((pairs.moved - pairs.fixed).square_(), pairs.inside, radius, count).clamp_(min=0)
    else:
        distance = 1 - correlation(pairs.fixed, pairs.moved, pairs.inside, radius, count)
    return distance.masked_fill_(pairs.inside == 0, torch.inf)[:, 0]


def weights_of(distance: Tensor, kernel: Kernel, power: float) -> Tensor:
    """Weights, `(voter, m)`, of `distance` `(voter, m)`: 1 for the most alike of a column, 0 at infinite distance."""
    if kernel == "ssd":
        best = distance.amin(0)
        floor = torch.where(best.isfinite(), best, 0.0) + _DISTANCE_FLOOR
        return torch.where(distance.isfinite(), torch.exp((best - distance) * (power / floor)), 0.0)
    # Where nothing correlates all weights are one: better a majority than chance.
    correlated = (1 - distance).clamp_(0, 1).add_(_DISTANCE_FLOOR)
    return torch.where(distance.isfinite(), (correlated / correlated.amax(0)).pow_(power), 0.0)
