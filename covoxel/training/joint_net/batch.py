"""Batches of pairs for one network, and of which of them it sees the moving labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from covoxel.training.joint.batch import JointPairs
from covoxel.training.joint.material import Given, Material
from covoxel.training.joint_net.recipe import JointNetRecipe
from covoxel.training.registration.sampling import Chosen


@dataclass(frozen=True, eq=False)
class ShownPairs:
    """A batch of pairs, and whether the network sees the moving labels of each."""

    pairs: JointPairs
    shown: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def rows(self, wanted: slice) -> "ShownPairs":
        """Some of the pairs."""
        return ShownPairs(self.pairs.rows(wanted), self.shown[wanted])


def shown_of(
    material: Material, chosen: Sequence[Chosen], recipe: JointNetRecipe, source: torch.Generator | None = None
) -> tuple[bool, ...]:
    """Whether the moving labels of each pair go in; with a generator, some are left out as the recipe says."""
    least = {"labelled": Given.FUSED, "true": Given.TRUE}.get(recipe.moving_labels)
    if least is None:
        return (False,) * len(chosen)
    left_out = recipe.drop_labels > torch.rand(len(chosen), generator=source) if source else [False] * len(chosen)
    return tuple(material.given(c.moving) >= least and not left for c, left in zip(chosen, left_out, strict=True))
