"""Evidence spoilt on purpose: three bad atlases of ten, and whole cases whose registrations failed."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.fusion_evidence import Cohort
from benchmarks.fusion_rules import CANDIDATES
from benchmarks.fusion_scores import Score
from covoxel.fusion import Evidence
from covoxel.fusion.candidates import candidates
from covoxel.fusion.choice import Selector
from covoxel.fusion.facts import mean_dice
from covoxel.fusion.planted import displaced, flipped

SHIFT_VOX = 5
KINDS = ("shifted", "flipped", "foreign")
FAR_VOX = (4.0, 8.0)
BROKEN_SHARE = 0.7


def generator_of(seed: int, *key: str) -> torch.Generator:
    """A generator of its own for each key."""
    digest = hashlib.sha256(":".join((str(seed), *key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def with_bad_atlases(cohort: Cohort, case: str, count: int, seed: int) -> tuple[Evidence, dict[str, str]]:
    """Evidence in which the labels of three atlases drawn at random are bad, and what was done to each, by name.

    The labels of one are shifted by 5 voxels along an axis, those of another mirrored, those of the third are the
    ones the same atlas has on another case, pasted in. Their images stay as they are: the labels alone are wrong.
    """
    evidence, names = cohort.evidence(case, count), cohort.names(case, count)
    generator = generator_of(seed, "bad atlases", case)
    bad = torch.randperm(len(names), generator=generator)[: len(KINDS)].tolist()
    labels, shape = evidence.labels.clone(), evidence.fixed.shape
    axes = torch.randint(len(shape), (2,), generator=generator).tolist()
    sign = 1 - 2 * int(torch.randint(2, (), generator=generator))
    labels[bad[0]] = shifted(labels[bad[0]], axes[0], sign * SHIFT_VOX)
    labels[bad[1]] = labels[bad[1]].flip(1 + axes[1])
    foreign = cohort.evidence(another_case(cohort, case), count)
    labels[bad[2]] = _one_hot(pasted(foreign.labels[bad[2]], shape))
    return replace(evidence, labels=labels), {names[index]: kind for index, kind in zip(bad, KINDS, strict=True)}


def failures(cohort: Cohort, case: str, count: int, seed: int) -> Iterator[tuple[str, Evidence]]:
    """The evidence of one case after failures, each with its name.

    "displaced": all atlases by one shift of 4 to 8 voxels in a random direction; "mirrored": all, along a random axis;
    "foreign": all as they lie on another case; "mostly broken": seven of ten, each by a shift of its own of 4 to 8
    voxels. Images go with their labels, as they do where a registration fails.
    """
    evidence, generator = cohort.evidence(case, count), generator_of(seed, "failures", case)
    atlases, n = len(evidence.moved), evidence.fixed.ndim

    def shifts(number: int) -> Tensor:
        way = torch.randn(number, n, generator=generator)
        low, high = FAR_VOX
        length = low + (high - low) * torch.rand(number, 1, generator=generator)
        return length * functional.normalize(way, dim=1)

    yield "displaced", displaced(evidence, shifts(1).expand(atlases, -1))
    yield "mirrored", flipped(evidence, int(torch.randint(n, (), generator=generator)))
    other, shape = cohort.evidence(another_case(cohort, case), count), evidence.fixed.shape
    yield (
        "foreign",
        replace(
            evidence,
            moved=pasted(other.moved, shape),
            labels=_one_hot(pasted(other.labels, shape)),
            valid=pasted(other.valid, shape),
        ),
    )
    each = shifts(atlases)
    each[torch.randperm(atlases, generator=generator)[: atlases - round(BROKEN_SHARE * atlases)]] = 0
    yield "mostly broken", displaced(evidence, each)


def score_failures(job: tuple[Cohort, str, int, Selector, int]) -> list[Score]:
    """True and predicted Dice of what is selected after each failure."""
    cohort, case, count, selector, seed = job
    truth, scores = cohort.truth(case), []
    for kind, evidence in failures(cohort, case, count, seed):
        results = candidates(evidence, {rule: {} for rule in CANDIDATES})
        selected = selector.select(evidence, results)
        predicted = selected.predicted[selected.rule].dice
        dice = mean_dice(selected.fused, truth, evidence)
        scores.append(Score("failures", count, kind, case, dice, predicted=predicted, chosen=selected.rule))
    return scores


def another_case(cohort: Cohort, case: str) -> str:
    """The next case; of a cohort of one, an atlas."""
    everybody = cohort.cases if len(cohort.cases) > 1 else (*cohort.cases, cohort.atlases[-1])
    return everybody[(everybody.index(case) + 1) % len(everybody)]


def shifted(x: Tensor, axis: int, voxels: int) -> Tensor:
    """Indicators `(label, *shape)` moved by whole voxels along an axis; what comes in is background."""
    moved = x.roll(voxels, 1 + axis)
    side = x.shape[1 + axis]
    empty = moved.narrow(1 + axis, 0 if voxels > 0 else side + voxels, abs(voxels))
    empty.zero_()
    empty[0] = 1
    return moved


def pasted(x: Tensor, shape: torch.Size) -> Tensor:
    """`x` `(..., *other)` copied voxel by voxel onto a grid of `shape`, nothing registered; zeros beyond it."""
    result = x.new_zeros((*x.shape[: x.ndim - len(shape)], *shape))
    both: Any = (..., *(slice(min(sides)) for sides in zip(shape, x.shape[-len(shape) :], strict=True)))
    result[both] = x[both]
    return result


def _one_hot(labels: Tensor) -> Tensor:
    """Indicators `(..., label, x, y, z)` of which those without any label are background."""
    background = labels.select(-4, 0)
    background += 1 - labels.sum(-4)
    return labels
