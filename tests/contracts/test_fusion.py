"""What every fusion rule must be."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion import FUSION_RULES, Evidence, fuse

MakeEvidence = Callable[..., Evidence]


@pytest.fixture(params=sorted(FUSION_RULES))
def rule(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[(24, 19), (13, 12, 11)], ids=["2-D", "3-D"])
def shape(request: pytest.FixtureRequest) -> tuple[int, ...]:
    return tuple(request.param)


def structure(shape: tuple[int, ...]) -> Tensor:
    """Two labels, 3 and 8, that touch."""
    labels = torch.zeros(shape, dtype=torch.int64)
    labels[3:9, 3:8] = 3
    labels[3:9, 8 : shape[1] - 1] = 8
    return labels


def indicators(label_map: Tensor, values: Tensor) -> Tensor:
    return (label_map[None] == values.view(-1, *[1] * label_map.ndim)).float()


def evidence_of(shape: tuple[int, ...], atlases: int = 5, seed: int = 0) -> Evidence:
    """Noisy atlases, each a little shifted, some of the view of each missing."""
    generator = torch.Generator().manual_seed(seed)
    truth, values = structure(shape), torch.tensor([0, 3, 8])
    fixed = truth.float() + 0.3 * torch.randn(shape, generator=generator)
    moved, labels = [], []
    for shift in range(atlases):
        there = truth.roll((shift % 3 - 1, shift % 2), (0, 1))
        moved.append(there.float() + 0.3 * torch.randn(shape, generator=generator))
        labels.append(0.8 * indicators(there, values) + 0.2 * indicators(there.roll(1, 0), values))
    valid = torch.ones((atlases, *shape), dtype=torch.bool)
    valid[0, :4] = False
    return Evidence(fixed, torch.stack(moved), torch.stack(labels), values, valid)


def test_probabilities_are_probabilities(rule: str, shape: tuple[int, ...]) -> None:
    fused = fuse(rule, evidence_of(shape))
    assert fused.probabilities.shape == (3, *shape)
    assert fused.probabilities.dtype == torch.float32
    assert fused.probabilities.min() >= 0
    assert_close(fused.probabilities.sum(0), torch.ones(shape), atol=1e-5, rtol=0)


def test_the_label_map_holds_label_values_and_the_confidence_their_probability(
    rule: str, shape: tuple[int, ...]
) -> None:
    fused = fuse(rule, evidence_of(shape))
    assert fused.label_map.dtype == torch.int64
    assert set(fused.label_map.unique().tolist()) == {0, 3, 8}
    assert_close(fused.confidence, fused.probabilities.amax(0), atol=2e-5, rtol=0)


@pytest.mark.parametrize("atlases", [1, 2, 7])
def test_copies_of_one_atlas_give_the_copy(rule: str, shape: tuple[int, ...], atlases: int) -> None:
    one = evidence_of(shape, 1)
    seen = torch.ones_like(one.valid)
    copies = Evidence(
        one.fixed,
        one.moved.expand(atlases, *shape),
        one.labels.expand(atlases, 3, *shape),
        one.values,
        seen.expand(atlases, *shape),
    )
    assert_close(fuse(rule, copies).probabilities, one.labels[0], atol=1e-5, rtol=0)


def test_unanimity_is_kept_and_certain(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    truth = indicators(structure(shape), evidence.values)
    fused = fuse(rule, replace(evidence, labels=truth.expand(5, *truth.shape)))
    assert torch.equal(fused.label_map, structure(shape))
    assert_close(fused.confidence, torch.ones(shape), atol=1e-6, rtol=0)


def test_the_order_of_atlases_is_irrelevant_to_rounding(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    order = torch.tensor([3, 0, 4, 2, 1])
    turned = replace(evidence, moved=evidence.moved[order], labels=evidence.labels[order], valid=evidence.valid[order])
    first, second = fuse(rule, evidence), fuse(rule, turned)
    assert_close(first.probabilities, second.probabilities, atol=1e-5, rtol=0)
    top = first.probabilities.topk(2, dim=0).values
    decided = top[0] - top[1] > 1e-4
    assert decided.float().mean() > 0.9
    assert torch.equal(first.label_map[decided], second.label_map[decided])


def test_flipping_everything_flips_the_result(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    flipped = Evidence(
        evidence.fixed.flip(0), evidence.moved.flip(1), evidence.labels.flip(2), evidence.values, evidence.valid.flip(1)
    )
    assert_close(fuse(rule, flipped).probabilities.flip(1), fuse(rule, evidence).probabilities, atol=2e-4, rtol=0)


def test_an_atlas_has_no_say_where_it_is_not_valid(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    away = ~evidence.valid[0]
    other = replace(evidence, moved=evidence.moved.clone(), labels=evidence.labels.clone())
    other.moved[0][away] = 1e3
    other.labels[0][:, away] = torch.tensor([0.0, 0.0, 1.0])[:, None]
    assert_close(fuse(rule, other).probabilities, fuse(rule, evidence).probabilities, atol=1e-5, rtol=0)


def test_where_no_atlas_sees_it_is_background_without_confidence(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    evidence.valid[:, 5] = False
    fused = fuse(rule, evidence)
    assert (fused.label_map[5] == 0).all()
    assert (fused.confidence[5] == 0).all()
    assert (fused.probabilities[0, 5] == 1).all()


def test_an_exact_tie_goes_to_the_smallest_label(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape, 2)
    labels = torch.zeros_like(evidence.labels)
    labels[0, 2] = 1
    labels[1, 1] = 1
    same = evidence.moved[:1].expand_as(evidence.moved)
    fused = fuse(rule, replace(evidence, moved=same, labels=labels, valid=torch.ones_like(evidence.valid)))
    assert (fused.label_map == 3).all()
    assert_close(fused.confidence, torch.full(shape, 0.5), atol=1e-5, rtol=0)


def test_a_label_absent_from_an_atlas_is_voted_against(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape, 3)
    truth = structure(shape)
    without = truth.masked_fill(truth == 8, 0)
    labels = torch.stack([indicators(t, evidence.values) for t in (truth, without, without)])
    same = evidence.moved[:1].expand_as(evidence.moved)
    fused = fuse(rule, replace(evidence, moved=same, labels=labels, valid=torch.ones_like(evidence.valid)))
    assert 8 not in fused.label_map
    # Far enough from other labels for a rule that looks around; one that sums up the habits of atlases may go lower.
    assert (fused.probabilities[2, 5, 9] <= 1 / 3 + 1e-5).all()
    assert rule == "staple" or (fused.probabilities[2, 5, 9] >= 1 / 3 - 1e-5).all()
    assert (fused.label_map[5, 9] == 0).all()


def test_constant_images_are_no_accident(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    flat = replace(evidence, fixed=torch.full_like(evidence.fixed, 7.0), moved=torch.full_like(evidence.moved, 2.0))
    assert fuse(rule, flat).probabilities.isfinite().all()


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_gives(rule: str, shape: tuple[int, ...]) -> None:
    evidence = evidence_of(shape)
    parts = (evidence.fixed, evidence.moved, evidence.labels, evidence.values, evidence.valid)
    there = fuse(rule, Evidence(*(part.cuda() for part in parts)))
    assert there.probabilities.is_cuda
    assert_close(there.probabilities.cpu(), fuse(rule, evidence).probabilities, atol=1e-3, rtol=0)


def test_it_is_documented_with_its_source(rule: str) -> None:
    assert "References" in (FUSION_RULES[rule].__doc__ or "")
