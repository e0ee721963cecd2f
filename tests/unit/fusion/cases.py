"""A ball in two halves on noise, as atlases see it: shared by the tests of quality, calibration and choice."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from covoxel.fusion import Evidence
from covoxel.fusion.facts import Fact, facts_of

SHAPE = (20, 21, 18)
VALUES = torch.tensor([0, 3, 8])
RULES: dict[str, dict[str, Any]] = {"majority": {}, "locally_weighted": {"search": 0}}


def ball(shape: tuple[int, ...] = SHAPE, offset: float = 0.0, radius: float = 5.0) -> Tensor:
    """Label map: a ball whose halves along the first axis are 3 and 8."""
    axes = [torch.arange(side) - (side - 1) / 2 for side in shape]
    grid = torch.meshgrid(*axes, indexing="ij")
    distance = torch.stack([grid[0] - offset, *grid[1:]]).square().sum(0).sqrt()
    return torch.where(distance <= radius, torch.where(grid[0] < offset, 3, 8), 0)


def one_case(
    seed: int = 0,
    atlases: int = 5,
    *,
    error: float = 1.0,
    shift: float = 0.0,
    noise: float = 0.3,
    shape: tuple[int, ...] = SHAPE,
) -> tuple[Evidence, Tensor]:
    """Evidence of atlases that err by up to `error` voxels each and all by `shift` more, and the true labels."""
    generator = torch.Generator().manual_seed(seed)

    def picture(label_map: Tensor) -> Tensor:
        return label_map.float().sqrt() + noise * torch.randn(shape, generator=generator)

    truth = ball(shape, radius=4.5 + float(torch.rand((), generator=generator)))
    moved, labels = [], []
    for _ in range(atlases):
        own = error * float(2 * torch.rand((), generator=generator) - 1)
        there = ball(shape, shift + own, 5.0 + 0.4 * error * float(torch.randn((), generator=generator)))
        moved.append(picture(there))
        labels.append((there[None] == VALUES.view(-1, *[1] * len(shape))).float())
    valid = torch.ones((atlases, *shape), dtype=torch.bool)
    return Evidence(picture(truth), torch.stack(moved), torch.stack(labels), VALUES, valid), truth


@cache
def labelled_facts() -> tuple[Fact, ...]:
    """Of six labelled cases, each with five atlases and six planted failures."""
    facts = []
    for seed in range(6):
        evidence, truth = one_case(seed)
        facts += facts_of(f"case-{seed}", evidence, truth, RULES, seed=seed, plant=6)
    return tuple(facts)
