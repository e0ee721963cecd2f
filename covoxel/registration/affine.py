"""Affine engine: a start pose, then descent on rotation, translation, scale and shear, coarse to fine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covoxel.registration.base import ENGINES, MovingBatch
from covoxel.registration.objective import AffineObjective, AffineSetting, Contents, Freedom, descend
from covoxel.registration.plausible import implausible
from covoxel.registration.poses import centre_of_mass, plain_poses, start_poses
from covoxel.spatial import Grid, Image, Transform
from covoxel.spatial.affine import AffineParameters

_Agreement = Callable[[AffineParameters], Tensor]
_LESS_FREE: dict[Freedom, tuple[Freedom, ...]] = {
    "affine": ("similarity", "rigid"),
    "similarity": ("rigid",),
    "rigid": (),
}


@ENGINES.register("affine")
def affine(
    fixed: Image,
    moving: MovingBatch,
    *,
    freedom: Freedom = "affine",
    similarity: str = "lncc",
    radius: int = 3,
    search: bool = True,
    iterations: tuple[int, ...] = (40, 30, 30),
    finest_voxels: int = 80_000,
) -> list[Transform]:
    """Register by an affine transform about the centre of mass of the fixed image.

    Parameters
    ----------
    fixed, moving
        Intensities of about 0 to 1.
    freedom
        "rigid" (6 parameters in 3-D), "similarity" (7) or "affine" (12).
    similarity
        A name of `covoxel.losses.SIMILARITIES`; "lncc" does not mind an inverted contrast, "nmi" and "mind" are for
        images of different modalities.
    radius
        Half-width of the similarity's window, cells of the level.
    search
        Compare poses turned by up to 26° about each axis and shifted onto each other's centres first; False trusts
        the headers.
    iterations
        Steps a level, coarse to fine; each level halves the spacing.
    finest_voxels
        The finest level has about so many cells at the most: more buys little accuracy.

    Returns
    -------
    list of Transform
        Without displacement. By its own measure over the union of what both images hold none is worse than its start;
        none scales or changes volumes as no anatomy does, and where that was refused it has a remark. The cost is
        `sum(iterations)` samplings and similarities of at most `finest_voxels` cells a pair, and a tenth of that for
        the search; a pair that had to be refused costs as much again for each freedom that is tried in its place.
    """
    setting = AffineSetting(freedom, similarity, radius)
    centre = centre_of_mass(fixed.data.float(), fixed.grid)
    pairs = _Pairs(fixed, moving, Contents.of(fixed, moving), centre, iterations, finest_voxels)
    start = start_poses(fixed, moving, centre, setting, search=search)
    return pairs.settled(start, setting)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Images to align, and how far the descent goes; settings of `affine`."""

    fixed: Image
    moving: MovingBatch
    contents: Contents
    centre_ras: NDArray[np.float64]
    iterations: tuple[int, ...]
    finest_voxels: int

    def settled(self, start: AffineParameters, setting: AffineSetting) -> list[Transform]:
        """What the descent finds, unless that is worse than where it began or what no anatomy does.

        Where it ends worse than the start, or than what the headers say, the best there is takes its place; where no
        anatomy does what it finds, the best of the maps with less freedom, too.
        """
        plain = plain_poses(self.fixed, self.moving, self.centre_ras)
        found, agreement = self._descended(start, setting)
        score = agreement(found)
        poor = score < agreement(start)
        if not self._same(start, plain):
            poor |= score < agreement(plain)
        transforms = self._transforms(found)
        for row, transform in enumerate(transforms):
            why = implausible(transform.moving_from_fixed)
            if why or poor[row]:
                alone, begins = self._alone(row), [_row(each, row) for each in (start, plain)]
                remark = f"the affine part {why}, which no anatomy does: it was refused" if why else ""
                freedoms = _LESS_FREE[setting.freedom] if why else ()
                transforms[row] = replace(alone.best(begins, _row(found, row), setting, freedoms), remark=remark)
        return transforms

    def best(
        self,
        begins: Sequence[AffineParameters],
        found: AffineParameters,
        setting: AffineSetting,
        freedoms: Sequence[Freedom],
    ) -> Transform:
        """The plausible map that agrees best of the only pair.

        Of what was found from the first of `begins`; these themselves; what is found from the last, if that is another;
        and what is found from there with each of the `freedoms`.
        """
        candidates, last = [*begins, found], begins[-1]
        if not self._same(begins[0], last):
            candidates.append(self._descended(last, setting)[0])
        candidates += [self._descended(last, replace(setting, freedom=freedom))[0] for freedom in freedoms]
        agreement = self._agreement(self._objective(0, setting), last)
        sound = [each for each in candidates if not implausible(self._transforms(each)[0].moving_from_fixed)]
        return self._transforms(max(sound, key=lambda each: float(agreement(each)), default=last))[0]

    def _descended(self, start: AffineParameters, setting: AffineSetting) -> tuple[AffineParameters, _Agreement]:
        """From the start coarse to fine; with the agreement over the union on the finest cells."""
        parameters = start
        for power, steps in zip(reversed(range(len(self.iterations))), self.iterations, strict=True):
            objective = self._objective(power, setting)
            parameters = descend(objective, parameters, steps)
        return parameters, self._agreement(objective, start)

    def _agreement(self, objective: AffineObjective, like: AffineParameters) -> _Agreement:
        unrelated = objective.unrelated(like)
        return lambda parameters: objective.union_agreement(parameters, self.contents, unrelated)

    def _same(self, one: AffineParameters, other: AffineParameters) -> bool:
        return torch.equal(one.matrix(self.centre_ras), other.matrix(self.centre_ras))

    def _alone(self, row: int) -> "_Pairs":
        return replace(self, moving=self.moving.part([row]), contents=self.contents.part([row]))

    def _objective(self, power: int, setting: AffineSetting) -> AffineObjective:
        """With cells of the finest width times two to that power."""
        grid, data = self.fixed.grid, self.fixed.data[None, None].float()
        spacing = _finest_spacing(grid, self.finest_voxels) * 2**power
        return AffineObjective(data, grid, self.moving, self.centre_ras, spacing, setting)

    def _transforms(self, parameters: AffineParameters) -> list[Transform]:
        matrices = parameters.map(lambda part: part.double().cpu()).matrix(self.centre_ras).numpy()
        return [Transform(self.fixed.grid, matrix) for matrix in matrices]


def _row(parameters: AffineParameters, row: int) -> AffineParameters:
    return parameters.map(lambda part: part[row : row + 1])


def _finest_spacing(grid: Grid, voxels: int) -> float:
    """Width of the cells of which `voxels` fill the image; no less than the finest spacing there is."""
    extent = np.asarray(grid.shape) * grid.spacing_mm
    cube: float = float(np.prod(extent) / voxels) ** (1 / grid.ndim)
    return max(cube, float(grid.spacing_mm.min()))
