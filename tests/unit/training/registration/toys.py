"""Toys: blobs that are shifted by a known number of voxels, and a network of seconds that can find out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from covoxel.training.registration import Recipe, Term, TrainingCase

SHIFT = 2.0


@dataclass(frozen=True)
class Said:
    """What the toy says; a class that covoxel has never seen."""

    displacement_vox: Tensor
    velocity_vox: Tensor | None = None
    moving_from_fixed_vox: Tensor | None = None
    inverse_displacement_vox: Tensor | None = None
    levels: tuple[object, ...] = field(default=())


class Toy(nn.Module):
    """Three convolutions; dropout draws from torch's generator."""

    def __init__(self, ndim: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        last = conv(8, ndim, 1)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(
            conv(2, 8, 5, padding=2), nn.SiLU(), nn.Dropout(dropout), conv(8, 8, 5, padding=2), nn.SiLU(), last
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> Said:
        return Said(self.layers(torch.cat([fixed, moving], 1)))


def toy(ndim: int = 2, dropout: float = 0.0) -> Toy:
    """The toy, always with the same weights."""
    torch.manual_seed(1)
    return Toy(ndim, dropout)


def blob(shape: Sequence[int], centre: Tensor, width: float = 2.5) -> Tensor:
    axes = torch.meshgrid(*[torch.arange(side).float() for side in shape], indexing="ij")
    distance = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return torch.exp(-distance / (2 * width**2))


def shifted_cases(shape: Sequence[int], people: int = 6, labelled: bool = False) -> list[TrainingCase]:
    """Two cases of each person: a blob somewhere, and the same shifted by `SHIFT` voxels along the first axis."""
    cases = []
    for person in range(people):
        generator = torch.Generator().manual_seed(person)
        centre = torch.tensor([(side - 1) / 2 for side in shape]) + torch.randn(len(shape), generator=generator)
        step = torch.tensor([SHIFT, *[0.0] * (len(shape) - 1)])
        for visit, at in enumerate((centre, centre + step)):
            image = blob(shape, at)
            labels = (image > 0.5).long() if labelled else None
            mask = torch.ones(tuple(shape), dtype=torch.bool)
            cases.append(TrainingCase(f"p{person}v{visit}", image, mask, labels, f"p{person}"))
    return cases


def recipe(**changes: object) -> Recipe:
    """A recipe of seconds, without augmentation."""
    settings: dict[str, object] = {
        "name": "toy",
        "method": "a test",
        "network": "toy",
        "steps": 6,
        "pairs": "within",
        "similarity": Term("mse"),
        "regularisers": (Term("diffusion", 0.01),),
        "warm_up": 2,
        "learning_rate": 0.01,
        "check_every": 3,
    }
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


class Interrupt(Exception):
    """Stops a training from its progress."""


def interrupt_after(step: int) -> Callable[[int, int, float], None]:
    def progress(done: int, steps: int, loss: float) -> None:
        if done == step:
            raise Interrupt

    return progress
