"""Rivals: of the fused label map, the network's and that of both, the one to keep for a case, and what to expect of it.

docs/decisions/0011-candidates.md says why the numbers are as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Candidate = Literal["fusion", "joint", "both"]

PRIOR: Mapping[Candidate, float] = {"both": 0.005, "joint": 0.003}
"""Gain over fusion, in Dice, that is expected before a held-out atlas was seen, by candidate."""
PRIOR_CASES = 16.0
"""Held-out atlases that this is worth: what one of them says scatters by 0.015, the gain itself by 0.004."""
MARGIN = 0.05
"""What a case may fall short of the cohort's median and still be usual, and"""
SPREADS = 2.0
"""how many robust standard deviations of the cohort, if that is more."""
SHARED = 0.5
"""Share of what makes a case hard for fusion that makes it hard for the network too."""
OF_BOTH = 0.5
"""Share of what befalls the network that befalls the mean of both."""
GROSS, GOOD = 0.5, 0.75
"""Agreement below `GROSS`, where fusion is predicted to be at least `GOOD`, speaks against the network by itself."""

NAMES: Mapping[Candidate, str] = {
    "fusion": "the fused label map",
    "joint": "the label map of the joint network",
    "both": "the mean of fusion and the joint network",
}
"""Candidates in words."""

_ORDER: tuple[Candidate, ...] = ("both", "joint", "fusion")  # of equal candidates the first one is kept
_MAD = 1.4826  # median absolute deviation to standard deviation, for a normal distribution


@dataclass(frozen=True)
class Judged:
    """True Dice, mean over structures, of the candidates on an atlas that taught none of them."""

    fusion: float
    joint: float
    both: float


@dataclass(frozen=True)
class Standing:
    """What is known of the candidates of one case.

    Parameters
    ----------
    predicted
        Predicted Dice of the fused label map.
    agreement
        Dice of the network's label map with the fused one, mean over structures; None where neither has any.
    empty
        Whether the network found no structure at all.
    """

    predicted: float
    agreement: float | None
    empty: bool = False

    @property
    def refused(self) -> str:
        """Why the network is not to be believed here, in a sentence; empty if nothing is wrong."""
        if self.empty:
            return "the joint network found no structure; the fused label map is kept"
        if self.agreement is not None and self.agreement < GROSS and self.predicted >= GOOD:
            return (
                f"the joint network contradicts a fused label map that is expected to be good (agreement "
                f"{self.agreement:.2f}, predicted Dice {self.predicted:.2f}); the fused one is kept"
            )
        return ""


@dataclass(frozen=True)
class Advantage:
    """Mean gain of a candidate over fusion, in Dice, drawn to the prior; its standard error; and the atlases seen.

    The error is not a number with fewer than two.
    """

    mean: float
    error: float
    cases: int

    @classmethod
    def of(cls, gains: Sequence[float], prior: float) -> "Advantage":
        """Advantage by gains on held-out atlases."""
        n = len(gains)
        mean = (PRIOR_CASES * prior + sum(gains)) / (PRIOR_CASES + n)
        return cls(mean, float(np.std(gains, ddof=1)) / math.sqrt(n) if n > 1 else math.nan, n)


@dataclass(frozen=True)
class Chosen:
    """What is kept for a case.

    Parameters
    ----------
    candidate
        Its name.
    predicted
        Predicted Dice, 0 to 1, of every candidate that there is.
    reason
        Why, in a sentence.
    flag
        Remark for the reader, where the network was asked for and is not used; else empty.
    """

    candidate: Candidate
    predicted: Mapping[str, float]
    reason: str
    flag: str = ""


@dataclass(frozen=True)
class Rivals:
    """What held-out atlases and the cohort teach about the candidates.

    Parameters
    ----------
    advantages
        Of "joint" and "both" over fusion.
    least_agreement, least_predicted
        Below these a case is unusual in its cohort.
    usual_agreement
        The cohort's median.
    """

    advantages: Mapping[str, Advantage]
    least_agreement: float
    least_predicted: float
    usual_agreement: float

    @classmethod
    def fit(cls, judged: Sequence[Judged], cohort: Sequence[Standing]) -> "Rivals":
        """Rivals by what is true of held-out atlases, maybe none, and by what is known of all cases.

        Parameters
        ----------
        judged
            Held-out atlases.
        cohort
            The cases, of which most are taken to be as they should be.
        """
        advantages: dict[str, Advantage] = {
            "joint": Advantage.of([one.joint - one.fusion for one in judged], PRIOR["joint"]),
            "both": Advantage.of([one.both - one.fusion for one in judged], PRIOR["both"]),
        }
        agreements = [one.agreement for one in cohort if one.agreement is not None]
        usual = float(np.median(agreements)) if agreements else 1.0
        return cls(advantages, _least(agreements), _least([one.predicted for one in cohort]), usual)

    def predict(self, standing: Standing) -> dict[str, float]:
        """Predicted Dice of all candidates, 0 to 1, of a case.

        The network is expected to be as much better than fusion as on the held-out atlases. Where fusion is predicted
        to be poor for this cohort the network gains half of that, for it does not depend on registration. Where the
        two agree less than is usual, one of them is wrong: what fusion's own shortfall does not explain is taken off
        the network. The mean of both gains and loses half as much. So a candidate never falls with agreement, and its
        lead over fusion never grows with fusion's predicted Dice.
        """
        raw = self._raw(standing)
        return {name: float(np.clip(value, 0, 1)) for name, value in raw.items()}

    def choose(self, standing: Standing, *, always_joint: bool = False) -> Chosen:
        """The candidate to keep: the one predicted best, or the network's unless it is refused.

        Parameters
        ----------
        standing
            What is known of the case.
        always_joint
            Whether the network's label map was asked for whatever is predicted.
        """
        predicted, raw = self.predict(standing), self._raw(standing)
        if standing.refused:
            flag = standing.refused if always_joint else ""
            return Chosen("fusion", predicted, _sentence(standing.refused), flag)
        if always_joint:
            return Chosen("joint", predicted, _sentence(f"{NAMES['joint']} was asked for"))
        best = max(_ORDER, key=lambda name: raw[name])
        return Chosen(best, predicted, self._reason(best, raw, standing))

    def _raw(self, standing: Standing) -> dict[Candidate, float]:
        poor = max(0.0, self.least_predicted - standing.predicted)
        apart = 0.0 if standing.agreement is None else max(0.0, self.least_agreement - standing.agreement)
        own = SHARED * poor - max(0.0, apart - poor)
        return {
            "fusion": standing.predicted,
            "joint": standing.predicted + self.advantages["joint"].mean + own,
            "both": standing.predicted + self.advantages["both"].mean + OF_BOTH * own,
        }

    def _reason(self, best: Candidate, raw: Mapping[Candidate, float], standing: Standing) -> str:
        if best != "fusion":
            lead = raw[best] - raw["fusion"]
            more = " Fusion is expected to be poor here." if standing.predicted < self.least_predicted else ""
            return _sentence(f"{NAMES[best]} is expected to be better here by {lead:.3f} Dice than fusion") + more
        if standing.agreement is not None and standing.agreement < self.least_agreement:
            return _sentence(
                f"{NAMES['fusion']} is kept: the network agrees with it less than is usual in this cohort "
                f"(Dice {standing.agreement:.2f}, usually {self.usual_agreement:.2f})"
            )
        return _sentence(f"{NAMES['fusion']} is kept: on held-out atlases nothing was better")


def _least(values: Sequence[float]) -> float:
    """What a value of the cohort may be and still be usual: the median less the margin; anything without a cohort."""
    if not values:
        return -math.inf
    median = float(np.median(values))
    spread = _MAD * float(np.median(np.abs(np.asarray(values) - median)))
    return median - max(MARGIN, SPREADS * spread)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."
