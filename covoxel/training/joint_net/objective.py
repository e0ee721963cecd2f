"""Objective of one network that registers and segments: what there is of a pair, by the labels that there are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from covoxel.losses.base import LABEL_LOSSES
from covoxel.memory_errors import is_out_of_memory
from covoxel.spatial import voxel_coordinates
from covoxel.spatial.smoothing import cell_means
from covoxel.training.joint.batch import JointPairs
from covoxel.training.joint.material import Given
from covoxel.training.joint_net.answer import JointNetwork, Said, ask
from covoxel.training.joint_net.batch import ShownPairs
from covoxel.training.joint_net.counting import calm_of, present, price, tells_voxels
from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.registration.answer import cells
from covoxel.training.registration.objective import full_precision, on_level, with_background
from covoxel.training.registration.pairs import Pairs, sample_all
from covoxel.training.registration.terms import Terms, Weighted

LABELS = ("supervised", "propagated")
"""Parts of the loss that true labels decide: what held-out cases judge by."""


class JointNetObjective:
    """Loss of pairs under a network; see `JointNetRecipe`.

    Parameters
    ----------
    recipe
        The terms.
    spacing_mm
        Of the frame.

    Attributes
    ----------
    registers_alone
        Whether the network is in the first of two phases, in which it does not say what has no counterpart.

    Raises
    ------
    ValueError
        If a loss is not registered.
    """

    registers_alone = False

    def __init__(self, recipe: JointNetRecipe, spacing_mm: Sequence[float]) -> None:
        self.recipe = recipe
        self.terms = Terms(recipe.registration, spacing_mm)
        self._losses = {
            name: [Weighted.of(term, LABEL_LOSSES, recipe.name) for term in getattr(recipe, name) if term.weight]
            for name in (*LABELS, "agreement")
        }
        self._weight = {Given.TRUE: 1.0, Given.FUSED: recipe.fused_weight, Given.NONE: 0.0}
        self._segments_moving = False
        similarity = self.terms.similarity
        if recipe.foreign_volume and similarity.weight and not tells_voxels(similarity):
            raise ValueError(
                f"recipe {recipe.name}: similarity {similarity.name} does not weigh voxels one by one, from which to "
                f"learn what has no counterpart: take mse or mind"
            )

    def __call__(self, network: JointNetwork, batch: ShownPairs) -> dict[str, Tensor]:
        """Weighted parts of the loss of each pair, `(batch,)` each.

        "similarity" and "regularity" of every pair; as the recipe has them and the network says what they need,
        "levels", "foreign", "supervised", "fused", "propagated" and "agreement", 0 where they are not of a pair.

        Raises
        ------
        ValueError
            If the network does not say what the recipe needs.
        """
        pairs = batch.pairs
        said = self._checked(self._asked(network, batch), pairs)
        with full_precision(pairs.fixed.image):
            carried, trust = self._carried(pairs, said)
            displacement = said.answer.whole.displacement_vox
            at = voxel_coordinates(tuple(displacement.shape[2:]), displacement) + displacement
            moving = pairs.moving
            moved, seen, labels = sample_all(moving.image, moving.mask, torch.cat([carried, trust], 1), at)
            mask = pairs.fixed.mask * seen
            parts = self._of_images(pairs, said, moved, mask)
            parts |= self._supervision(pairs, said)
            parts |= self._of_moved_labels(pairs, said, labels[:, :-1], mask * labels[:, -1:].detach())
        return parts

    def counts(self, name: str, fixed: Given, moving: Given) -> bool:
        """Whether a pair of cases with such labels has that part of the loss."""
        sides = (fixed, moving) if self._segments_moving else (fixed,)
        if name in ("supervised", "fused"):
            return (Given.TRUE if name == "supervised" else Given.FUSED) in sides
        if name == "propagated":
            return self._labelled(fixed) and self._labelled(moving)
        if name == "agreement":
            return not self._labelled(fixed) and (self._labelled(moving) or self._segments_moving)
        return True

    # The network

    def _asked(self, network: JointNetwork, batch: ShownPairs) -> Said:
        try:
            return ask(network, batch)
        except (RuntimeError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            shape = tuple(batch.pairs.fixed.image.shape[2:])
            raise ValueError(f"the network cannot take images of {shape}, too small perhaps: {error}") from error

    def _checked(self, said: Said, pairs: JointPairs) -> Said:
        """See that the network says what the recipe needs."""
        batch, _, *shape = pairs.fixed.image.shape
        labels = pairs.fixed.labels.shape[1] + 1
        for name, got, channels in (
            ("a displacement", said.answer.whole.displacement_vox, len(shape)),
            ("fixed logits", said.fixed, labels),
            ("moving logits", said.moving, labels),
        ):
            if got is not None and tuple(got.shape) != (batch, channels, *shape):
                raise ValueError(f"the network must say {name} of {(batch, channels, *shape)}, got {tuple(got.shape)}")
        name, priced = self.recipe.name, self.recipe.foreign_volume > 0
        if self.recipe.level_weight and not said.answer.coarser:
            raise ValueError(f"recipe {name}: level_weight must be 0 for a network that says no levels")
        if not self.registers_alone and priced != (said.foreign is not None):
            rule = "0 for a network that does not say" if priced else "positive for a network that says"
            raise ValueError(f"recipe {name}: foreign_volume must be {rule} what has no counterpart")
        self._segments_moving = said.moving is not None
        return said

    # Images

    def _of_images(self, pairs: JointPairs, said: Said, moved: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Similarity and regularity, of the levels too, and the price of what has no counterpart."""
        recipe, whole = self.recipe, said.answer.whole
        calm = calm_of(said.fixed, recipe.lesions, recipe.relax)
        finite = 0 * whole.displacement_vox.flatten(1).sum(
            1
        )  # not a number where the field is not, whatever masks hide
        parts = {
            "similarity": self.terms.alike(pairs.fixed.image, mask, moved, present(said.foreign, calm)),
            "regularity": self.terms.irregularity(whole, calm) + finite,
        }
        if recipe.level_weight:
            parts["levels"] = recipe.level_weight * self._levels(pairs, said, calm)
        if said.foreign is not None:
            levels = [recipe.level_weight * self._price(level) for level in said.foreign_levels]
            parts["foreign"] = torch.stack([self._price(said.foreign), *levels]).sum(0)
        return parts

    def _price(self, foreign: Tensor) -> Tensor:
        return price(foreign, self.recipe.foreign_volume, self.recipe.foreign_perimeter)

    def _levels(self, pairs: JointPairs, said: Said, calm: Tensor | None) -> Tensor:
        """Loss of the coarser levels, each on its own grid, `(batch,)`."""
        fixed, moving, shape = pairs.fixed, pairs.moving, pairs.fixed.image.shape[2:]
        none = fixed.image.new_zeros((0, 0))
        images = Pairs(fixed.image, moving.image, fixed.mask, moving.mask, none, none)
        losses = []
        for place, level in enumerate(said.answer.coarser):
            factor = cells(shape, level.displacement_vox.shape[2:])
            coarse = None if calm is None else cell_means(calm, [min(factor, side) for side in shape])
            foreign = said.foreign_levels[place] if said.foreign_levels else None
            alike = self.terms.alike(*on_level(images, level), present(foreign, coarse))
            losses.append(alike + self.terms.irregularity(level, coarse))
        return torch.stack(losses).sum(0)

    # Labels

    def _labelled(self, given: Given) -> bool:
        return self._weight[given] > 0

    def _supervision(self, pairs: JointPairs, said: Said) -> dict[str, Tensor]:
        """Segmentations against the labels of their own images, summed over both where the network says both."""
        if not self._losses["supervised"]:
            return {}
        parts = {"supervised": pairs.fixed.image.new_zeros(len(pairs))}
        if self.recipe.fused_weight:
            parts["fused"] = parts["supervised"].clone()
        sides = [(pairs.fixed, said.fixed)] + ([] if said.moving is None else [(pairs.moving, said.moving)])
        for images, probabilities in sides:
            for name, given in (("supervised", Given.TRUE), ("fused", Given.FUSED)):
                rows = [row for row, kind in enumerate(images.given) if kind is given and self._labelled(given)]
                if rows:
                    some, foreground = images.at(rows), probabilities[rows, 1:]
                    loss = self._loss("supervised", foreground * some.known, some.labels, some.mask * some.weight)
                    parts[name] = _added(parts[name], rows, self._weight[given] * loss)
        return parts

    def _carried(self, pairs: JointPairs, said: Said) -> tuple[Tensor, Tensor]:
        """Foreground of the moving image, its labels or else what the network says of it, and how far it is trusted."""
        labelled = _rows([self._labelled(given) for given in pairs.moving.given], pairs.moving.labels)
        said_of_it = torch.zeros_like(pairs.moving.labels) if said.moving is None else said.moving.detach()[:, 1:]
        trust = torch.where(labelled, pairs.moving.weight, torch.ones_like(pairs.moving.weight))
        return torch.where(labelled, pairs.moving.labels, said_of_it), trust

    def _of_moved_labels(self, pairs: JointPairs, said: Said, moved: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Moved labels against those of the fixed image, or against its segmentation where it has none."""
        parts = {}
        if self._losses["propagated"]:
            weight = moved.new_tensor([self._weight[min(kinds)] for kinds in _kinds(pairs)])
            inside = mask * pairs.fixed.weight
            parts["propagated"] = weight * self._compared("propagated", pairs, moved, pairs.fixed.labels, inside)
        if self._losses["agreement"]:
            parts["agreement"] = self._compared("agreement", pairs, said.fixed[:, 1:], moved, mask)
        return parts

    def _compared(self, name: str, pairs: JointPairs, foreground: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """Disagreement of two foregrounds, `(batch,)`; 0 of pairs that have no such part."""
        rows = [row for row, kinds in enumerate(_kinds(pairs)) if self.counts(name, *kinds)]
        total = truth.new_zeros(len(pairs))
        if not rows:
            return total
        known = (pairs.fixed.known * pairs.moving.known)[rows]
        return _added(total, rows, self._loss(name, foreground[rows] * known, truth[rows] * known, mask[rows]))

    def _loss(self, name: str, foreground: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
        """Weighted losses of that name, summed, `(batch,)`."""
        both = with_background(foreground), with_background(truth)
        return torch.stack([term.weight * term(*both, mask=mask) for term in self._losses[name]]).sum(0)


def _kinds(pairs: JointPairs) -> list[tuple[Given, Given]]:
    return list(zip(pairs.fixed.given, pairs.moving.given, strict=True))


def _rows(which: Sequence[bool], like: Tensor) -> Tensor:
    """Truth values of the rows, `(batch, 1, 1, …)`, on the device of `like`."""
    return torch.tensor(which, device=like.device).view(-1, *[1] * (like.ndim - 1))


def _added(total: Tensor, rows: Sequence[int], loss: Tensor) -> Tensor:
    """`total` `(batch,)` with `loss` added to its `rows`."""
    return total.index_add(0, torch.tensor(rows, dtype=torch.int64, device=loss.device), loss)
