"""Signs of quality: known by hand where they can be, in order where they cannot."""

from dataclasses import replace

import pytest
import torch

from covoxel.fusion import Evidence
from covoxel.fusion.candidates import FusedImage, fuse_image
from covoxel.fusion.planted import OF_THE_IMAGE, alone, displaced, planted
from covoxel.fusion.quality import NAMES, signs_of
from covoxel.fusion.source import Source
from tests.unit.fusion.cases import SHAPE, VALUES, one_case


def vote(given: Source | Evidence) -> dict[str, FusedImage]:
    return {"majority": fuse_image(given, "majority")}


@pytest.mark.parametrize("shape", [SHAPE, (24, 22)], ids=["3-D", "2-D"])
def test_every_sign_is_there_and_finite(shape: tuple[int, ...]) -> None:
    evidence, _ = one_case(shape=shape)
    signs = signs_of(evidence, vote(evidence))["majority"]
    assert tuple(signs) == NAMES
    assert all(abs(number) < 10 for number in signs.values())


def test_an_atlas_that_is_the_image_is_in_perfect_agreement() -> None:
    evidence, _ = one_case(atlases=1)
    evidence = replace(evidence, moved=evidence.fixed[None])
    signs = signs_of(evidence, vote(evidence))["majority"]
    for name in ("agreement", "agreement_typical", "agreement_alike", "agreement_least", "with_vote", "expected"):
        assert signs[name] == pytest.approx(1, abs=1e-5), name
    assert signs["likeness"] == pytest.approx(1, abs=0.01)
    assert signs["likeness_mean"] == pytest.approx(1, abs=1e-4)
    assert signs["explained"] == pytest.approx(signs["explained_atlases"], abs=1e-4)
    assert (signs["profile"], signs["size"]) == pytest.approx((0, 0), abs=1e-4)
    assert signs["alone"] == 1


def test_agreement_is_the_mean_dice_with_the_atlases() -> None:
    evidence, _ = one_case()
    result = vote(evidence)
    expected = []
    for value, structure in zip((3, 8), (1, 2), strict=True):
        own = result["majority"].label_map == value
        atlases = evidence.labels[:, structure] > 0.5
        each = [2 * float((own & a).sum()) / float(own.sum() + a.sum()) for a in atlases]
        expected.append(sum(each) / len(each))
    signs = signs_of(evidence, result)["majority"]
    assert signs["agreement"] == pytest.approx(sum(expected) / 2, abs=1e-5)
    assert signs["agreement_least"] == pytest.approx(min(expected), abs=1e-5)


def test_trust_says_whose_agreement_counts() -> None:
    evidence, _ = one_case()
    spoilt = displaced(evidence, torch.tensor([[0.0, 6.0, 0.0], *[[0.0] * 3] * 4]))
    result = vote(evidence)
    without = signs_of(spoilt, result)["majority"]["agreement"]
    assert signs_of(spoilt, result, trust=[0.0, 1, 1, 1, 1])["majority"]["agreement"] > without + 0.05
    assert signs_of(spoilt, result, trust=[2.0] * 5)["majority"]["agreement"] == pytest.approx(without, abs=1e-6)


@pytest.mark.parametrize("trust", [[1.0] * 4, [0.0] * 5, [-1.0, 1, 1, 1, 1], [float("nan"), 1, 1, 1, 1]])
def test_trust_that_makes_no_sense_is_refused(trust: list[float]) -> None:
    evidence, _ = one_case()
    with pytest.raises(ValueError, match="trust must be"):
        signs_of(evidence, vote(evidence), trust=trust)


def test_the_order_of_the_atlases_is_irrelevant() -> None:
    evidence, _ = one_case()
    other = evidence.of_atlases(torch.tensor([3, 1, 4, 0, 2]))
    first, second = (signs_of(e, vote(evidence))["majority"] for e in (evidence, other))
    assert first == pytest.approx(second, abs=1e-5)


@pytest.mark.parametrize("name", ["likeness", "likeness_best", "likeness_mean", "explained"])
def test_what_lies_beside_the_structure_looks_worse(name: str) -> None:
    evidence, _ = one_case()
    spoilt = displaced(evidence, torch.tensor([[0.0, 5.0, 0.0]] * 5))
    good, bad = (signs_of(e, vote(e))["majority"][name] for e in (evidence, spoilt))
    assert bad < good - 0.1


def test_nothing_found_is_nothing_like_it() -> None:
    evidence, _ = one_case()
    background = torch.zeros_like(evidence.labels)
    background[:, 0] = 1
    empty = replace(evidence, labels=background)
    signs = signs_of(empty, vote(empty))["majority"]
    assert set(signs) == set(NAMES)
    assert signs["agreement"] == signs["likeness"] == signs["confidence"] == 0
    only = signs_of(evidence, vote(empty))["majority"]  # the atlases have structures, the result has none
    assert only["agreement"] == only["likeness"] == only["confidence"] == 0


def test_a_label_of_one_atlas_alone_and_a_blind_atlas_are_no_trouble() -> None:
    evidence, _ = one_case()
    labels, valid = evidence.labels.clone(), evidence.valid.clone()
    labels[1:, 0] += labels[1:, 2]
    labels[1:, 2] = 0
    valid[4] = False
    odd = replace(evidence, labels=labels, valid=valid)
    signs = signs_of(odd, vote(odd))["majority"]
    assert all(number == number for number in signs.values())
    assert 0 < signs["agreement"] < 1


def test_a_blind_atlas_is_as_good_as_absent() -> None:
    evidence, _ = one_case()
    result = vote(evidence.of_atlases(torch.tensor([1, 3])))
    first = signs_of(evidence.of_atlases(torch.tensor([1, 3])), result)["majority"]
    blind = signs_of(alone(evidence, torch.tensor([1, 3])), result, trust=[9.0, 1, 9, 1, 9])["majority"]
    assert first["alone"] == 0.5
    assert blind == pytest.approx(first, abs=0.02)  # intensities are standardised over what all atlases see
    assert blind["agreement"] == pytest.approx(first["agreement"], abs=1e-6)


def as_they_are(evidence: Evidence, seed: int, count: int | None = None) -> dict[str, Evidence]:
    return {kind: spoilt.evidence() for kind, spoilt in planted(evidence, seed=seed, count=count)}


def test_planted_failures_are_the_same_for_the_same_seed_and_keep_labels_labels() -> None:
    evidence, _ = one_case()
    first, second = (as_they_are(evidence, seed=4) for _ in range(2))
    assert len(first) >= 10
    for kind, spoilt in first.items():
        assert torch.equal(spoilt.labels, second[kind].labels), kind
        assert torch.equal(spoilt.fixed, second[kind].fixed), kind
        assert torch.equal(spoilt.values, VALUES), kind
        torch.testing.assert_close(spoilt.labels.sum(1), torch.ones_like(spoilt.labels[:, 0]), atol=1e-5, rtol=0)
    other = as_they_are(evidence, seed=5)
    for count in (0, 1, 4):
        some = as_they_are(evidence, seed=4, count=count)
        assert len(some) == count
        assert len(set(some) & set(OF_THE_IMAGE)) == min(1, count)
        assert all(torch.equal(some[kind].labels, first[kind].labels) for kind in some)
    assert not torch.equal(first["shifted"].labels, other["shifted"].labels)
