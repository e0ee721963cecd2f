"""Terms of a recipe as functions: found by name, with their weights and options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from covoxel.losses.base import (
    AFFINE_REGULARISERS,
    CONSISTENCY,
    LABEL_LOSSES,
    REGULARISERS,
    SIMILARITIES,
    masked_mean,
)
from covoxel.spatial.smoothing import cell_means
from covoxel.training.registration.answer import Field, cells
from covoxel.training.registration.recipe import Recipe, Term

OF_DISPLACEMENT = frozenset({"anti_folding", "negative_jacobian", "volume_change"})
"""Regularisers of folds and volume, which mean nothing on a velocity."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """A loss with its weight and options."""

    name: str
    weight: float
    loss: Callable[..., Any]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, term: Term, registry: Mapping[str, Callable[..., Any]], recipe: str) -> "Weighted":
        """Find the loss.

        Raises
        ------
        ValueError
            If there is none of that name.
        """
        try:
            return cls(term.name, term.weight, registry[term.name], dict(term.options))
        except KeyError as error:
            raise ValueError(f"recipe {recipe}: {error.args[0]}") from error

    def __call__(self, *args: Any, **more: Any) -> Any:
        """What the loss says, without its weight."""
        return self.loss(*args, **self.options, **more)


class Terms:
    """All terms of a recipe.

    Parameters
    ----------
    recipe
        Which ones.
    spacing_mm
        Spacing along each axis of the frame.

    Raises
    ------
    ValueError
        If a term is not registered.
    """

    def __init__(self, recipe: Recipe, spacing_mm: Sequence[float]) -> None:
        def found(terms: Sequence[Term], registry: Mapping[str, Callable[..., Any]]) -> list[Weighted]:
            return [Weighted.of(term, registry, recipe.name) for term in terms if term.weight]

        self.similarity = Weighted.of(recipe.similarity, SIMILARITIES, recipe.name)
        self.labels = Weighted.of(recipe.labels, LABEL_LOSSES, recipe.name)
        self.consistency = found(recipe.consistency, CONSISTENCY)
        self._regularisers = found(recipe.regularisers, REGULARISERS)
        self._affine = found(recipe.affine_regularisers, AFFINE_REGULARISERS)
        self.spacing_mm = tuple(spacing_mm)
        mean = float(torch.tensor(self.spacing_mm).log().mean().exp())
        self.relative_spacing = tuple(spacing / mean for spacing in self.spacing_mm)

    def alike(self, fixed: Tensor, mask: Tensor, moved: Tensor, counting: Tensor | None = None) -> Tensor:
        """Weighted dissimilarity, `(batch,)`, of images `(batch, 1, *shape)` in full precision.

        `counting`, `(batch, 1, *shape)` of 0 to 1, says how far a voxel of the mask counts; one that does not, costs
        nothing, and the others cost no more for it.
        """
        if not self.similarity.weight:
            return moved.new_zeros(moved.shape[0])
        inside = mask if counting is None else mask * counting
        loss: Tensor = self.similarity.weight * self.similarity(fixed, inside)(moved)
        return loss if counting is None else loss * masked_mean(counting, mask)

    def irregularity(self, field: Field, counting: Tensor | None = None) -> Tensor:
        """Weighted sum of the regularisers of a field, `(batch,)`; the mean over the times of a velocity.

        `counting` as for `alike`, on the grid of the displacement. A difference counts as far as all the voxels that it
        is taken from, multiplied; the others cost hardly more for it.
        """
        total = field.displacement_vox.new_zeros(field.displacement_vox.shape[0])
        for term in self._regularisers:
            total = total + term.weight * self._penalty(term, field, counting)
        return total

    def _penalty(self, term: Weighted, field: Field, counting: Tensor | None) -> Tensor:
        velocity = None if term.name in OF_DISPLACEMENT else field.velocity_vox
        if velocity is None:
            return self._counted(term, field.displacement_vox, counting)
        if counting is not None:
            factor = cells(counting.shape[2:], velocity.shape[3:])
            coarse = cell_means(counting, [min(factor, side) for side in counting.shape[2:]])
            counting = coarse.repeat_interleave(velocity.shape[1], 0)
        return self._counted(term, velocity.flatten(0, 1), counting).view(velocity.shape[:2]).mean(1)

    def _counted(self, term: Weighted, field_vox: Tensor, counting: Tensor | None) -> Tensor:
        penalty: Tensor = term(field_vox, mask=counting, spacing_mm=self.relative_spacing)
        return penalty if counting is None else penalty * counting.flatten(1).mean(1)

    def distortion(self, moving_from_fixed_vox: Tensor, shape: Sequence[int], factor: int) -> Tensor:
        """Weighted sum of the affine regularisers, `(batch,)`.

        Parameters
        ----------
        moving_from_fixed_vox
            `(batch, n + 1, n + 1)` between cells of `factor` voxels on the frame of sides `shape`.
        """
        matrix = moving_from_fixed_vox
        if not self._affine:
            return matrix.new_zeros(matrix.shape[0])
        spacing = matrix.new_tensor(self.spacing_mm)
        first = [(factor - 1) / 2 - (side - 1) / 2 for side in shape]
        ras_from_cell = torch.diag(torch.cat([spacing * factor, spacing.new_ones(1)]))
        ras_from_cell[:-1, -1] = spacing * spacing.new_tensor(first)
        in_mm = ras_from_cell @ matrix @ torch.linalg.inv(ras_from_cell)
        return torch.stack([term.weight * term(in_mm) for term in self._affine]).sum(0)

    @property
    def has_affine(self) -> bool:
        """Whether there is an affine regulariser."""
        return bool(self._affine)
