"""Toys of one network that registers and segments: one whose answers are known by hand, small real ones, a recipe."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from covoxel.training.joint_net import JointNetRecipe
from covoxel.training.registration import Term, TrainingCase
from nets.joint import JOINT_NETS, JointNet
from tests.unit.training.registration.toys import Said

P = 0.75
"""What the network by hand says of label 1 wherever the image is 1, and of background elsewhere."""

MOVING, FIXED = [0, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]
MOVING_LABELS, FIXED_LABELS = [0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]
SEEN = [1.0, 1, 1, 1, 1, 0]
"""The network by hand takes every voxel from the next one along the row; the last one from beyond the border."""


@dataclass(frozen=True)
class Joint:
    """What the toys say; a class that covoxel has never seen."""

    registered: Any
    fixed_logits: Tensor
    moving_logits: Tensor | None = None
    foreign: Tensor | None = None
    foreign_levels: tuple[Tensor, ...] = field(default=())


class ByHand(nn.Module):
    """Probability `P` where an image is 1, and a shift by one voxel; one parameter each, at nought.

    Parameters
    ----------
    both
        Segment the moving image too.
    labels
        Number of labels; those above 1 are never said.
    """

    def __init__(self, both: bool = False, labels: int = 2) -> None:
        super().__init__()
        self.both, self.labels = both, labels
        self.contrast, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor | None] = []

    def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
        self.seen.append(moving_labels)
        along = torch.ones_like(fixed[:, 0]) + self.shift
        field_vox = torch.stack([torch.zeros_like(along), along], 1)
        moving_logits = self.logits(moving) if self.both else None
        return Joint(Said(field_vox), self.logits(fixed), moving_logits)

    def logits(self, image: Tensor) -> Tensor:
        logit = (2 * image - 1) * torch.log(torch.tensor(P / (1 - P))) + self.contrast
        never = torch.full_like(logit, -50.0)
        return torch.cat([torch.zeros_like(logit), logit, *[never] * (self.labels - 2)], 1)


def case(name: str, row: list[int], labels: list[int] | None, subject: str = "") -> TrainingCase:
    """Two rows that are alike."""
    image = torch.tensor([row, row]).float()
    truth = None if labels is None else torch.tensor([labels, labels])
    return TrainingCase(name, image, torch.ones((2, 6), dtype=torch.bool), truth, subject)


def dice_loss(said: list[float], truth: list[float], weight: list[float] | None = None) -> float:
    """One minus soft Dice, as in a school book."""
    weight = weight or [1.0] * len(said)
    both = sum(s * t * w for s, t, w in zip(said, truth, weight, strict=True))
    return 1 - 2 * both / sum((s + t) * w for s, t, w in zip(said, truth, weight, strict=True))


def said_of(row: list[int]) -> list[float]:
    """Probabilities of the network by hand."""
    return [P if value else 1 - P for value in row]


class Toy(nn.Module):
    """Three convolutions; dropout draws from torch's generator."""

    def __init__(self, labels: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.labels = labels
        self.layers = nn.Sequential(
            nn.Conv2d(2 + labels, 8, 5, padding=2),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(8, 8, 5, padding=2),
            nn.SiLU(),
        )
        self.field, self.logits = nn.Conv2d(8, 2, 1), nn.Conv2d(8, labels, 1)
        nn.init.normal_(self.field.weight, std=1e-3)

    def forward(self, fixed: Tensor, moving: Tensor, moving_labels: Tensor | None = None) -> Joint:
        unknown = fixed.new_zeros(len(fixed), self.labels, *fixed.shape[2:])
        labels = unknown if moving_labels is None else moving_labels
        features = self.layers(torch.cat([fixed, moving, labels], 1))
        return Joint(Said(self.field(features)), self.logits(features))


def toy(labels: int = 2, dropout: float = 0.0) -> Toy:
    """The toy, always with the same weights."""
    torch.manual_seed(1)
    return Toy(labels, dropout)


def net(name: str, labels: int = 2, **settings: Any) -> JointNet:
    """A small real network in 2-D, always with the same weights."""
    torch.manual_seed(1)
    return JOINT_NETS[name](2, labels=labels, **({"widths": (4, 6, 8)} | settings))


def recipe(**changes: object) -> JointNetRecipe:
    """A recipe of seconds."""
    settings: dict[str, object] = {
        "name": "toys",
        "method": "a test",
        "network": "toy",
        "steps": 6,
        "batch": 4,
        "similarity": Term("mse"),
        "regularisers": (Term("diffusion", 0.01),),
        "warm_up": 1,
        "learning_rate": 0.01,
        "check_every": 3,
    }
    return JointNetRecipe(**(settings | changes))  # type: ignore[arg-type]
