"""What training reads of a joint network's answer, whatever class it is, and how the network is asked for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from covoxel.training.joint.batch import Images
from covoxel.training.joint_net.batch import ShownPairs
from covoxel.training.registration.answer import Answer, RegisteredLike
from covoxel.training.registration.objective import full_precision, with_background


class JointLike(Protocol):
    """What a joint network returns; see `nets.joint.Joint`."""

    @property
    def registered(self) -> RegisteredLike:
        """The transform from fixed to moving."""
        ...

    @property
    def fixed_logits(self) -> Tensor:
        """`(batch, label, *shape)`."""
        ...

    @property
    def moving_logits(self) -> Tensor | None:
        """The same of the moving image, on its own grid."""
        ...

    @property
    def foreign(self) -> Tensor | None:
        """`(batch, 1, *shape)` logits of having no counterpart."""
        ...

    @property
    def foreign_levels(self) -> Sequence[Tensor]:
        """The same on the cells of each level."""
        ...


JointNetwork = Callable[[Tensor, Tensor, Tensor | None], JointLike]
"""From fixed and moving images and moving labels, or None, to an answer; see `nets.joint.JointNet`."""


@runtime_checkable
class Phased(Protocol):
    """A network that is trained in two phases; see `nets.joint.ncr_net`."""

    def train_phase(self, phase: int) -> None:
        """1: the registration alone; 2: everything."""
        ...


@runtime_checkable
class Stitched(Protocol):
    """A network with cross-stitch units."""

    def stitch_matrices(self) -> dict[str, Tensor]:
        """Alphas `(channel, 2, 2)` of each unit, `[[α_SS, α_SR], [α_RS, α_RR]]`."""
        ...


def shared(network: object) -> dict[str, float]:
    """How far each cross-stitch unit is off the identity: mean size of its α_SR and α_RS; empty without units."""
    if not isinstance(network, Stitched):
        return {}
    alphas = network.stitch_matrices()
    return {f"alpha_{place}": float((a[:, 0, 1].abs() + a[:, 1, 0].abs()).mean()) / 2 for place, a in alphas.items()}


@dataclass(frozen=True, eq=False)
class Said:
    """What the network says of pairs, float32.

    Parameters
    ----------
    answer
        The transform.
    fixed, moving
        `(batch, label, *shape)` probabilities; `moving` is None of a network that segments the fixed image alone.
    foreign, foreign_levels
        `(batch, 1, *shape)` probability of having no counterpart, and on the grids of `answer.levels`.
    """

    answer: Answer
    fixed: Tensor
    moving: Tensor | None
    foreign: Tensor | None
    foreign_levels: tuple[Tensor, ...]

    @classmethod
    def of(cls, joint: JointLike) -> "Said":
        """What the network said, in full precision; to be called without autocast."""
        return cls(
            Answer.of(joint.registered),
            joint.fixed_logits.float().softmax(1),
            None if joint.moving_logits is None else joint.moving_logits.float().softmax(1),
            None if joint.foreign is None else joint.foreign.float().sigmoid(),
            tuple(level.float().sigmoid() for level in joint.foreign_levels),
        )


def ask(network: JointNetwork, batch: ShownPairs) -> Said:
    """What the network says of each pair; those with and those without moving labels go through it by themselves.

    To a network, labels that are all zero may mean something else than none.
    """
    pairs = batch.pairs
    groups = [[row for row, shown in enumerate(batch.shown) if shown is wanted] for wanted in (True, False)]
    answers = []
    for rows, wanted in zip(groups, (True, False), strict=True):
        if rows:
            fixed, moving = (side if len(rows) == len(pairs) else side.at(rows) for side in (pairs.fixed, pairs.moving))
            said = network(fixed.image, moving.image, _probabilities(moving) if wanted else None)
            with full_precision(fixed.image):
                answers.append(Said.of(said))
    if len(answers) == 1:
        return answers[0]
    order = torch.tensor(groups[0] + groups[1]).argsort()
    joined: Said = _joined(answers, order.to(pairs.fixed.image.device))
    return joined


def _probabilities(images: Images) -> Tensor:
    return with_background(images.labels)


def _joined(parts: Sequence[Any], order: Tensor) -> Any:
    """One answer of several, its rows put in order."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(parts))[order]
    if isinstance(first, tuple):
        return tuple(_joined(each, order) for each in zip(*parts, strict=True))
    return type(first)(*(_joined([getattr(part, f.name) for part in parts], order) for f in fields(first)))
