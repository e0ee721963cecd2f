"""STAPLE: how reliable each atlas is and what the truth is, each estimated from the other."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from covoxel.fusion.base import FUSION_RULES, Evidence, weighted_vote
from covoxel.fusion.source import Source, place_of
from covoxel.fusion.survey import votes_of
from covoxel.fusion.tiling import Window

_WORK = 2**22  # float64 numbers of one quantity that are in memory at once
_SAMPLED = 2**25  # votes from which the matrices are estimated
Prior = Literal["global", "local"]


@FUSION_RULES.register("staple")
def staple(
    evidence: Evidence,
    *,
    prior: Prior = "local",
    trust: float = 0.9,
    steadiness: float = 0.3,
    agreed: bool = False,
    tolerance: float = 1e-6,
    iterations: int = 100,
) -> Tensor:
    """Probability of each label given what all atlases say and how they are in the habit of confusing labels.

    By expectation maximisation: the confusion matrix `theta_i[l, s]`, how often atlas i says l where the truth is s,
    from the truth so far, and `p(s) ∝ prior(s) prod_i theta_i[l_i, s]` from the matrices. An interpolated vote counts
    as its parts do: `prod_l theta_i[l, s]^vote_l`. Computed in the log domain and counted in float64, at the voxels
    where atlases disagree; where they agree the truth is what they agree on, and those voxels are counted once.

    A label no atlas votes for at a voxel has probability zero there, whatever the matrices say.

    Parameters
    ----------
    evidence
        The warped atlases. Their intensities are not looked at.
    prior
        "global": share of all votes a label has; "local": share of the votes at the voxel.
    trust
        Diagonal of the first confusion matrices, between 1 / labels and 1.
    steadiness
        How much the first matrices count beside what is seen, as a share of the undecided voxels, to every label as
        much: without it, the matrix of a label that hardly occurs is decided by chance. Positive.
    agreed
        Whether voxels where all atlases agree are counted in the matrices. They are most voxels and show no atlas to
        be better than another, yet they make every atlas look right about the background: measured, it is better to
        leave them out.
    tolerance
        Largest change of any entry of the matrices at which the iteration ends.
    iterations
        The most iterations.

    Returns
    -------
    Tensor
        `(label, *shape)` probabilities. Beside the evidence the votes of the undecided voxels are held once more, and
        32 MiB times a small number. The matrices are estimated once for an image, from 2^25 votes at most (128 MiB): of
        more, those of one in so many of the undecided voxels.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    References
    ----------
    Warfield et al., Simultaneous truth and performance level estimation (STAPLE): an algorithm for the validation of
    image segmentation, IEEE TMI 2004; Commowick and Warfield, Incorporating priors on expert performance parameters
    for segmentation validation and label fusion: a maximum a posteriori STAPLE, MICCAI 2010.
    """
    place = place_of(evidence)
    _check(prior, trust, steadiness, iterations, max(2, len(place.source.values)))
    probabilities = weighted_vote(evidence, evidence.valid.to(evidence.labels.dtype))
    undecided = votes_of(place.source).undecided[place.core]
    if not undecided.any():
        return probabilities
    habits = Habits(prior, trust, steadiness, agreed, tolerance, iterations)
    confusion, frequency = place.source.once(habits, lambda: _learnt(place.source, habits))
    # A view: what is written there is written into the probabilities.
    result = probabilities[(slice(None), *place.inner)]
    labels = place.source.places_of(evidence.values)
    result[:, undecided] = _ballot(evidence, labels, undecided, prior, frequency).truth(confusion)
    return probabilities


@dataclass(frozen=True)
class Habits:
    """How the atlases' habits are estimated: the settings of `staple`."""

    prior: Prior
    trust: float
    steadiness: float
    agreed: bool
    tolerance: float
    iterations: int


def _learnt(source: Source, habits: Habits) -> tuple[Tensor, Tensor]:
    """Confusion matrices, `(atlas, said, true)`, and how often each label is voted for, `(label,)`, float64 each."""
    votes, windows = votes_of(source), list(source.windows(reach=0))
    step = max(1, -(-sum(_numbers(source, window, votes.undecided) for window in windows) // _SAMPLED))
    counted = _agreed(source, windows if habits.agreed or habits.prior == "global" else [])
    frequency = votes.usual + counted.sum(0)
    ballots = []
    for window in windows:
        if votes.undecided[window].any():
            evidence = source.evidence(window)
            labels = source.places_of(evidence.values)
            ballots.append(_ballot(evidence, labels, votes.undecided[window], habits.prior, frequency, step))
    first = _first_confusion(source.atlases, len(source.values), habits.trust).to(source.device)
    added = habits.steadiness * sum(ballot.votes.shape[2] for ballot in ballots) * first
    if habits.agreed:
        added = added + torch.diag_embed(counted) / step
    confusion = first
    for _ in range(habits.iterations):
        counts = added.clone()
        for ballot in ballots:
            ballot.count(confusion, counts)
        previous, confusion = confusion, counts / counts.sum(1, keepdim=True)
        if float((confusion - previous).abs().amax()) <= habits.tolerance:
            break
    return confusion, frequency


def _agreed(source: Source, windows: Iterable[Window]) -> Tensor:
    """Counts, `(atlas, label)` float64, of the voxels on which all agree, over these windows."""
    counted = torch.zeros((source.atlases, len(source.values)), dtype=torch.float64, device=source.device)
    for window in windows:
        evidence = source.evidence(window)
        probabilities = weighted_vote(evidence, evidence.valid.to(evidence.labels.dtype))
        own = agreed_counts(probabilities, evidence.valid, ~votes_of(source).undecided[window])
        counted[:, source.places_of(evidence.values)] += own
    return counted


def _numbers(source: Source, window: Window, undecided: Tensor) -> int:
    """How many votes there are at the undecided voxels of a window."""
    return source.atlases * int(source.present(window).sum()) * int(undecided[window].sum())


def _ballot(
    evidence: Evidence, labels: Tensor, undecided: Tensor, prior: Prior, frequency: Tensor, step: int = 1
) -> "Ballot":
    """The votes at every `step`-th undecided voxel of the core of evidence."""
    inner = place_of(evidence).inner
    here: Any = (slice(None), slice(None), *inner)
    own, valid = evidence.labels[here], evidence.valid[here[1:]]
    if step > 1:
        chosen = undecided.flatten().nonzero()[::step, 0]
        undecided = torch.zeros_like(undecided)
        undecided.view(-1)[chosen] = True
    votes = own[:, :, undecided] * valid[:, None, undecided]
    return Ballot(votes, _log_prior(votes, prior, frequency, labels), labels)


@dataclass(frozen=True, eq=False)
class Ballot:
    """The votes `(atlas, label, m)` at undecided voxels, zero where an atlas does not see, and the log of the prior.

    The prior `(label, m)` is minus infinity where a label has no vote at all. `labels` are those that occur, by their
    places in the list of all that the matrices have.
    """

    votes: Tensor
    log_prior: Tensor
    labels: Tensor

    def truth(self, confusion: Tensor) -> Tensor:
        """Probabilities, `(label, m)` float32, given matrices `(atlas, said, true)`."""
        return torch.cat([truth.float() for _, truth in self._parts(self._own(confusion))], 1)

    def count(self, confusion: Tensor, total: Tensor) -> None:
        """Add the voxels, `(atlas, said, true)` float64, expected to be of each kind given the matrices."""
        own = self._own(confusion)
        found = torch.zeros_like(own)
        for votes, truth in self._parts(own):
            for count, each in zip(found, votes, strict=True):
                count.addmm_(each.double(), truth.T)
        total[:, self.labels[:, None], self.labels] += found

    def _own(self, confusion: Tensor) -> Tensor:
        return confusion[:, self.labels[:, None], self.labels]

    def _parts(self, confusion: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Votes and the truth they and the matrices make likely, float64, a number of voxels at a time."""
        evidence_of = confusion.log().transpose(1, 2)
        step = max(1, _WORK // self.votes.shape[1])
        for start in range(0, self.votes.shape[2], step):
            votes = self.votes[:, :, start : start + step]
            score = self.log_prior[:, start : start + step].double()
            for log_likelihood, own in zip(evidence_of, votes, strict=True):
                score.addmm_(log_likelihood, own.double())
            yield votes, score.softmax(0)


def agreed_counts(probabilities: Tensor, valid: Tensor, agreed: Tensor) -> Tensor:
    """Voxels of each label, `(atlas, label)` float64, that an atlas sees and on which all who see agree.

    Parameters
    ----------
    probabilities
        `(label, *shape)`, what they agree on.
    valid
        `(atlas, *shape)` bool.
    agreed
        `(*shape)` bool, the voxels to count.
    """
    # Summed in float64: a float32 counts to 2^24 and no further.
    rows = [[p[seen & agreed].sum(dtype=torch.float64) for p in probabilities] for seen in valid]
    return torch.stack([torch.stack(row) for row in rows])


def _first_confusion(atlases: int, labels: int, trust: float) -> Tensor:
    eye = torch.eye(labels, dtype=torch.float64)
    return (trust * eye + (1 - trust) / max(1, labels - 1) * (1 - eye)).expand(atlases, -1, -1).clone()


def _log_prior(votes: Tensor, prior: Prior, frequency: Tensor, labels: Tensor) -> Tensor:
    here = votes.sum(0)
    usual = (frequency[labels] / frequency.sum())[:, None]
    share: Any = here / here.sum(0) if prior == "local" else usual.expand_as(here)
    return torch.where(here > 0, share, 0.0).log().float()


def _check(prior: str, trust: float, steadiness: float, iterations: int, labels: int) -> None:
    if prior not in ("global", "local"):
        raise ValueError(f"prior must be 'global' or 'local', got {prior!r}")
    if not 1 / labels < trust < 1:
        raise ValueError(f"trust must lie between 1 / labels = {1 / labels:.3g} and 1, got {trust}")
    if not 0 < steadiness < math.inf:
        raise ValueError(f"steadiness must be positive and finite, got {steadiness}")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
