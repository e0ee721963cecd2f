"""A template as a function of covariates: its image, its labels and their volumes at any values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from covoxel.atlas.conditional.brightness import Brightness
from covoxel.atlas.conditional.design import CovariateError, Design, Value
from covoxel.atlas.conditional.effect import Effect
from covoxel.atlas.placement import Placement
from covoxel.metrics.folding import folding
from covoxel.spatial import Image, resample, sample


@dataclass(frozen=True, eq=False)
class At:
    """The template at some values of the covariates.

    Parameters
    ----------
    image
        Intensities.
    probabilities
        `(label, *grid.shape)`, background first; None without labels.
    placement
        Where the template of the middle of the cohort lies: from its points to points of this one.
    """

    image: Image
    probabilities: Tensor | None
    placement: Placement

    def volumes_mm3(self, labels: Sequence[int]) -> dict[int, float]:
        """Volume of each label but background, mm³ (mm² in 2-D); a voxel half in a structure counts half."""
        if self.probabilities is None:
            return {}
        voxel = self.image.grid.voxel_volume_mm
        pairs = zip(labels, self.probabilities, strict=True)
        return {label: float(p.double().sum()) * voxel for label, p in pairs if label != 0}


@dataclass(frozen=True, eq=False)
class ConditionalTemplate:
    r"""A template :math:`T(a) = (T_0 + r(a)) \circ \psi(a)^{-1}` of covariates `a`; in their middle it is `T_0`.

    Parameters
    ----------
    image
        `T_0`, the template of the middle of the cohort.
    design
        How covariates become numbers.
    effect, brightness
        How the mean shape `psi` and the intensities `r` follow them.
    labels, probabilities
        Values, background 0 first, and `(label, *grid.shape)` probabilities on `image`; empty and None without any.
    """

    image: Image
    design: Design
    effect: Effect
    brightness: Brightness | None = None
    labels: tuple[int, ...] = ()
    probabilities: Tensor | None = None

    def at(self, values: Mapping[str, Value]) -> At:
        """The template at values by covariate; one that is not named is at the middle of the cohort.

        Raises
        ------
        CovariateError
            If a value is unknown or lies too far outside the cohort.
        """
        row, grid = self.design.row(values), self.image.grid
        self.design.outside(values)
        placement = self.effect.at(row)
        if folding(placement.transform()).minimum <= 0:
            asked = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise CovariateError(f"there is no template at {asked}: its shape would fold")
        back = placement.inverse(grid)
        data = self.image.data
        if self.brightness is not None:
            data = data + self.brightness.at(row, grid.shape).to(data)
        image = resample(Image(data, grid), grid, back, padding="border")
        if self.probabilities is None:
            return At(image, None, placement)
        rest = sample(self.probabilities[None, 1:].float(), back.moving_coordinates_vox(grid), padding="zeros")[0]
        return At(image, torch.cat([1 - rest.sum(0, keepdim=True).clamp(max=1), rest]), placement)
