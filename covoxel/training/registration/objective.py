"""Objective: the loss of each pair of a batch, term by term."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from covoxel.losses.base import RoundTrip, masked_mean
from covoxel.memory_errors import is_out_of_memory
from covoxel.spatial import voxel_coordinates, warp
from covoxel.spatial.smoothing import cell_means
from covoxel.training.registration.answer import Answer, Field, RegisteredLike, cells
from covoxel.training.registration.pairs import Pairs, sample_all
from covoxel.training.registration.recipe import Recipe
from covoxel.training.registration.terms import Terms

PARTS = ("similarity", "labels", "regularity", "levels", "consistency", "warps")
"""What the loss is the sum of; each weighted, `(batch,)`, and left out where the recipe has no such term."""

Network = Callable[[Tensor, Tensor], RegisteredLike]


class Objective:
    """Loss of pairs under a network.

    Parameters
    ----------
    recipe
        The terms.
    terms
        Found by name.
    """

    def __init__(self, recipe: Recipe, terms: Terms) -> None:
        self.recipe, self.terms = recipe, terms
        names = {term.name for term in terms.consistency}
        self._to_itself, self._second = "identity" in names, "cycle" in names
        self._proven = False

    def __call__(self, network: Network, pairs: Pairs) -> dict[str, Tensor]:
        """Weighted parts of the loss of each pair, some of `PARTS`, each `(batch,)`."""
        if not self.terms.consistency:
            return self._one_way(pairs, self._ask(network, pairs.fixed, pairs.moving))
        return self._both_ways(network, pairs)

    def _ask(self, network: Network, fixed: Tensor, moving: Tensor) -> Answer:
        """What the network says; if it fails the first time, a sentence about the size of the images."""
        shape = tuple(fixed.shape[2:])
        try:
            answer = Answer.of(network(fixed, moving))
        except (RuntimeError, IndexError) as error:
            if self._proven or is_out_of_memory(error):
                raise
            raise ValueError(f"the network cannot register images of {shape}, too small perhaps: {error}") from error
        got, wanted = tuple(answer.whole.displacement_vox.shape), (fixed.shape[0], len(shape), *shape)
        if got != wanted:
            raise ValueError(f"the network must say a displacement of {wanted} for such images, got {got}")
        self._proven = True
        return answer

    def _one_way(self, pairs: Pairs, answer: Answer) -> dict[str, Tensor]:
        with full_precision(pairs.fixed):
            if pairs.truth_vox is None:
                parts = self._agreement(pairs, answer.whole)
            else:
                parts = {"warps": _error(answer.whole.displacement_vox, pairs.truth_vox, pairs.fixed_mask)}
            parts["regularity"] = self._irregularity(pairs, answer)
            if self.recipe.level_weight and answer.coarser:
                levels = [self._level(pairs, level) for level in answer.coarser]
                parts["levels"] = self.recipe.level_weight * torch.stack(levels).sum(0)
        return parts

    # Terms of one direction

    def _agreement(self, pairs: Pairs, field: Field) -> dict[str, Tensor]:
        """Images, and labels of the pairs that have them, compared after one warp of all."""
        at = voxel_coordinates(tuple(pairs.fixed.shape[2:]), field.displacement_vox) + field.displacement_vox
        moved, seen, labels = sample_all(pairs.moving, pairs.moving_mask, pairs.moving_labels, at)
        mask = pairs.fixed_mask * seen
        parts = {"similarity": self.terms.alike(pairs.fixed, mask, moved)}
        if pairs.labelled:
            truth, said = with_background(pairs.fixed_labels), with_background(labels)
            loss = self.terms.labels.weight * self.terms.labels(said, truth, mask=mask[: pairs.labelled])
            parts["labels"] = torch.cat([loss, loss.new_zeros(len(pairs) - pairs.labelled)])
        return parts

    def _irregularity(self, pairs: Pairs, answer: Answer) -> Tensor:
        """Regularisers of the whole field; not a number where the field is not, which no mask may hide.

        Backward at coordinates that are not finite would be the end of the process on a CPU.
        """
        total = self.terms.irregularity(answer.whole)
        total = total + 0 * answer.whole.displacement_vox.detach().flatten(1).sum(1)
        if not self.terms.has_affine:
            return total
        shape = pairs.fixed.shape[2:]
        fields = [answer.whole] if answer.whole.moving_from_fixed_vox is not None else list(answer.levels)
        for field in fields:
            if field.moving_from_fixed_vox is not None:
                factor = cells(shape, field.displacement_vox.shape[2:])
                total = total + self.terms.distortion(field.moving_from_fixed_vox, shape, factor)
        return total

    def _level(self, pairs: Pairs, level: Field) -> Tensor:
        """Loss of one level on its own grid, `(batch,)`: what it leaves apart, and its regularisers."""
        if pairs.truth_vox is None:
            return self.terms.alike(*on_level(pairs, level)) + self.terms.irregularity(level)
        shape = pairs.fixed.shape[2:]
        factor = cells(shape, level.displacement_vox.shape[2:])
        sides = [min(factor, side) for side in shape]
        truth, mask = cell_means(pairs.truth_vox, sides), cell_means(pairs.fixed_mask, sides)
        return _error(level.displacement_vox * factor, truth, mask) + self.terms.irregularity(level)

    # Both directions

    def _both_ways(self, network: Network, pairs: Pairs) -> dict[str, Tensor]:
        """Mean of both directions, and how well they fit one another; the network sees all at once."""
        count, back = len(pairs), pairs.exchanged
        fixed, moving = [pairs.fixed, pairs.moving], [pairs.moving, pairs.fixed]
        if self._to_itself:
            fixed, moving = [*fixed, pairs.fixed, pairs.moving], [*moving, pairs.fixed, pairs.moving]
        said = self._ask(network, torch.cat(fixed), torch.cat(moving))
        answers = [said.rows(slice(first, first + count)) for first in range(0, count * len(fixed), count)]
        there, again = self._one_way(pairs, answers[0]), self._one_way(back, answers[1])
        parts = {name: (there[name] + again[name]) / 2 for name in there}
        trip = self._round_trip(network, pairs, [answer.whole.displacement_vox for answer in answers])
        with full_precision(pairs.fixed):
            losses = [term.weight * term(trip) for term in self.terms.consistency]
            parts["consistency"] = torch.stack(losses).sum(0)
        return parts

    def _round_trip(self, network: Network, pairs: Pairs, fields: list[Tensor]) -> RoundTrip:
        forward, backward = fields[:2]
        itself = fields[2:] if self._to_itself else [None, None]
        second: list[Tensor | None] = [None, None]
        if self._second:
            with full_precision(pairs.fixed):
                moved = warp(pairs.moving, forward), warp(pairs.fixed, backward)
            second = list(self._again(network, *moved))
        return RoundTrip(
            forward,
            backward,
            pairs.fixed,
            pairs.moving,
            fixed_to_itself_vox=itself[0],
            moving_to_itself_vox=itself[1],
            second_forward_vox=second[0],
            second_backward_vox=second[1],
            fixed_mask=pairs.fixed_mask,
            moving_mask=pairs.moving_mask,
            spacing_mm=self.terms.relative_spacing,
        )

    def _again(self, network: Network, moving_moved: Tensor, fixed_moved: Tensor) -> tuple[Tensor, ...]:
        """Displacements between images that were just moved onto one another, in both directions."""
        said = self._ask(network, torch.cat([moving_moved, fixed_moved]), torch.cat([fixed_moved, moving_moved]))
        return said.whole.displacement_vox.chunk(2)


class Batch(Protocol):
    """What a network is trained on in one step: pairs, or images."""

    def __len__(self) -> int: ...

    def rows(self, wanted: slice) -> "Batch":
        """Some of it."""
        ...


Score = Callable[[Any, Any], dict[str, Tensor]]
"""An objective: weighted parts of the loss, each `(batch,)`, of a network and a batch."""


class Sealed:
    """A batch that Fabric hands on as it is: it would turn images and masks to half precision."""

    def __init__(self, pairs: Batch) -> None:
        self.pairs = pairs


class Scored(nn.Module):
    """A network and its objective as one module, from pairs to the parts of their loss.

    What Fabric wraps: whatever a network returns, tensors come out, in one call.
    """

    def __init__(self, network: nn.Module, objective: Score) -> None:
        super().__init__()
        self.network, self.objective = network, objective

    def forward(self, sealed: Sealed) -> dict[str, Tensor]:
        """Parts of the loss, each `(batch,)` float32."""
        return self.objective(self.network, sealed.pairs)


def on_level(pairs: Pairs, level: Field) -> tuple[Tensor, Tensor, Tensor]:
    """Fixed image, mask and moved image on the grid of a level, `(batch, 1, *coarse)` each."""
    coarse, shape = level.displacement_vox.shape[2:], pairs.fixed.shape[2:]
    sides = [min(cells(shape, coarse), side) for side in shape]
    moving = cell_means(torch.cat([pairs.moving, pairs.moving_mask], 1), sides)
    moved = warp(moving, level.displacement_vox)
    mask = cell_means(pairs.fixed_mask, sides) * moved[:, 1:].detach()
    return cell_means(pairs.fixed, sides), mask, moved[:, :1]


def _error(displacement_vox: Tensor, truth_vox: Tensor, mask: Tensor) -> Tensor:
    """Mean squared length of the difference in the mask, voxel², `(batch,)`."""
    return masked_mean(((displacement_vox - truth_vox) ** 2).sum(1, keepdim=True), mask)


def with_background(foreground: Tensor) -> Tensor:
    """Probabilities of all labels, background first."""
    return torch.cat([1 - foreground.sum(1, keepdim=True), foreground], 1)


def full_precision(like: Tensor) -> torch.autocast:
    """Context without autocast on the device of `like`."""
    return torch.autocast(like.device.type, enabled=False)
