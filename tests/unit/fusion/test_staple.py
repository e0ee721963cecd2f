"""STAPLE: against the iteration written out voxel by voxel, its counts, and what it must find."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from covoxel.fusion import Evidence, fuse
from covoxel.fusion.agreement import disagreement
from covoxel.fusion.staple import agreed_counts


def raters(truth: Tensor, right: list[float], labels: int = 3, seed: int = 0) -> Evidence:
    """Atlases that say the truth with a probability each, and any label otherwise."""
    generator = torch.Generator().manual_seed(seed)
    said = []
    for share in right:
        any_label = torch.randint(0, labels, truth.shape, generator=generator)
        said.append(torch.where(torch.rand(truth.shape, generator=generator) < share, truth, any_label))
    return saying(torch.stack(said), labels)


def saying(said: Tensor, labels: int) -> Evidence:
    indicators = torch.stack([(said == value).float() for value in range(labels)], 1)
    shape = said.shape[1:]
    valid = torch.ones(said.shape, dtype=torch.bool)
    return Evidence(torch.zeros(shape), torch.zeros(said.shape), indicators, torch.arange(labels), valid)


def truth_by_hand(votes: list[int], theta: list[Tensor], share: list[float], prior: str) -> list[float]:
    weights = []
    for s in range(len(share)):
        here = votes.count(s)
        start = (here / len(votes) if prior == "local" else share[s]) if here else 0.0
        weights.append(start * math.prod(float(theta[i][said, s]) for i, said in enumerate(votes)))
    return [w / sum(weights) for w in weights]


def by_hand(evidence: Evidence, prior: str, agreed: bool, rounds: int) -> dict[tuple[int, ...], list[float]]:
    """Probabilities at the undecided voxels by the published iteration, one voxel at a time."""
    atlases, labels = evidence.labels.shape[:2]
    undecided = disagreement(evidence)
    votes = {tuple(at): evidence.labels.argmax(1)[(slice(None), *at)].tolist() for at in undecided.nonzero().tolist()}
    decided = evidence.labels.argmax(1)[:, ~undecided]
    share = [float((evidence.labels.argmax(1) == s).double().mean()) for s in range(labels)]
    eye = torch.eye(labels, dtype=torch.float64)
    first = 0.9 * eye + 0.1 / (labels - 1) * (1 - eye)
    theta = [first] * atlases
    for _ in range(rounds):
        truth = {at: truth_by_hand(v, theta, share, prior) for at, v in votes.items()}
        theta = []
        for i in range(atlases):
            count = 0.3 * len(votes) * first
            for at, said in votes.items():
                count[said[i]] += torch.tensor(truth[at], dtype=torch.float64)
            if agreed:
                count += torch.diag(decided[i].bincount(minlength=labels))
            theta.append(count / count.sum(0))
    return {at: truth_by_hand(v, theta, share, prior) for at, v in votes.items()}


@pytest.mark.parametrize("prior", ["global", "local"])
@pytest.mark.parametrize("agreed", [True, False])
def test_it_is_the_published_iteration(prior: str, agreed: bool) -> None:
    evidence = raters(torch.randint(0, 3, (9, 8)), [0.9, 0.7, 0.5, 0.8])
    got = fuse("staple", evidence, prior=prior, agreed=agreed, iterations=7, tolerance=0.0, steadiness=0.3)
    expected = by_hand(evidence, prior, agreed, 7)
    assert len(expected) > 20
    for at, probabilities in expected.items():
        assert_close(got.probabilities[(slice(None), *at)], torch.tensor(probabilities), atol=1e-5, rtol=0)


@pytest.mark.parametrize("prior", ["global", "local"])
def test_two_who_know_outvote_three_who_do_not(prior: str) -> None:
    """The three agree by chance alone; that the two agree so often shows that they know."""
    truth = torch.randint(0, 3, (40, 40))
    evidence = raters(truth, [0.97, 0.95, 0.1, 0.1, 0.1])
    wrong = {rule: int((fuse(rule, evidence).label_map != truth).sum()) for rule in ("majority",)}
    assert int((fuse("staple", evidence, prior=prior).label_map != truth).sum()) < 0.4 * wrong["majority"]


def test_it_has_converged_and_says_so_by_stopping() -> None:
    evidence = raters(torch.randint(0, 3, (20, 20)), [0.9, 0.8, 0.7, 0.6])
    once, more = (fuse("staple", evidence, iterations=n).probabilities for n in (100, 1000))
    assert torch.equal(once, more)


def test_a_count_goes_beyond_what_float32_can_count() -> None:
    """2^24 + 1 voxels, an odd number that float32 has not."""
    voxels = 2**24 + 1
    ones = torch.ones(1).expand(voxels)
    counts = agreed_counts(ones[None], ones.bool()[None], ones.bool())
    assert counts.tolist() == [[voxels]]


def test_the_work_done_in_parts_is_the_work_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = raters(torch.randint(0, 3, (20, 20)), [0.9, 0.8, 0.7, 0.6])
    whole = fuse("staple", evidence).probabilities
    monkeypatch.setattr("covoxel.fusion.staple._WORK", 30)
    assert_close(fuse("staple", evidence).probabilities, whole, atol=1e-6, rtol=0)


def test_three_hundred_likelihoods_multiplied_are_not_nothing() -> None:
    truth = torch.randint(0, 3, (12, 11))
    evidence = raters(truth, [0.2] * 300)
    got = fuse("staple", evidence)
    assert got.probabilities.isfinite().all()
    assert (got.label_map == truth).float().mean() > 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"prior": "flat"},
        {"trust": 1.0},
        {"trust": 0.3},
        {"steadiness": 0.0},
        {"steadiness": math.nan},
        {"iterations": 0},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} must"):
        fuse("staple", raters(torch.randint(0, 3, (6, 6)), [0.9, 0.8]), **wrong)
