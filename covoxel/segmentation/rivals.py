"""Rivals: of the fused label map, the networks' and their means, the one to keep for a case, and what to expect of it.

docs/decisions/0011-candidates.md says why the numbers are as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from covoxel.segmentation.candidates import (
    BY_COHORT,
    FUSION,
    NETWORKS,
    candidates_of,
    in_words,
    members_of,
    networks_of,
)

PRIOR: Mapping[str, float] = {
    "joint": 0.003,
    "nnunet": 0.003,
    "fusion+joint": 0.005,
    "fusion+nnunet": 0.005,
    "fusion+joint+nnunet": 0.006,
}
"""Gain over the fusion of many atlases, in Dice, that is expected before a held-out atlas was seen."""
PRIOR_OF_ONE: Mapping[str, float] = {
    "joint": 0.023,
    "nnunet": 0.023,
    "fusion+joint": 0.012,
    "fusion+nnunet": 0.012,
    "fusion+joint+nnunet": 0.016,
    BY_COHORT: 0.05,
}
"""The same where there is one atlas: fusion is one warp then, and a network has seen that atlas on many images.

Measured for the joint network and the cohort; nnU-Net is taken to be as good."""
PRIOR_CASES = 16.0
"""Held-out atlases that this is worth: what one of them says scatters by 0.015, the gain itself by 0.004."""
MARGIN = 0.05
"""What a case may fall short of the cohort's median and still be usual, and"""
SPREADS = 2.0
"""how many robust standard deviations of the cohort, if that is more."""
SHARED = 0.5
"""Share of what makes a case hard for fusion that makes it hard for a network too."""
GROSS, GOOD = 0.5, 0.75
"""Agreement below `GROSS`, where fusion is predicted to be at least `GOOD`, speaks against a network by itself."""

_MAD = 1.4826  # median absolute deviation to standard deviation, for a normal distribution


def expected_gain(candidate: str, atlases: int) -> float:
    """Gain of a candidate over the fusion of so many atlases, in Dice, before a held-out one was seen."""
    return PRIOR_OF_ONE[candidate] if atlases == 1 else PRIOR[candidate]


@dataclass(frozen=True)
class Standing:
    """What is known of the candidates of one case.

    Parameters
    ----------
    predicted
        Predicted Dice of the fused label map.
    agreement
        Dice of each network's label map with the fused one, mean over structures, by name of the network; None where
        neither has any.
    empty
        Names of the networks that found no structure at all.
    cohort
        Whether other cases, as atlases, have labelled it too (with one atlas alone).
    """

    predicted: float
    agreement: Mapping[str, float | None]
    empty: frozenset[str] = field(default_factory=frozenset)
    cohort: bool = False

    def refused(self, network: str) -> str:
        """Why a network is not to be believed here, in words; empty if nothing is wrong."""
        if network in self.empty:
            return f"{NETWORKS[network]} found no structure"
        agreement = self.agreement[network]
        if agreement is not None and agreement < GROSS and self.predicted >= GOOD:
            return (
                f"{NETWORKS[network]} contradicts a fused label map that is expected to be good (agreement "
                f"{agreement:.2f}, predicted Dice {self.predicted:.2f})"
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
        Remark for the reader, where a network was asked for and is not used; else empty.
    """

    candidate: str
    predicted: Mapping[str, float]
    reason: str
    flag: str = ""


@dataclass(frozen=True)
class Usual:
    """What is usual in a cohort: the median, and the least that is not unusual."""

    median: float
    least: float

    @classmethod
    def of(cls, values: Sequence[float], otherwise: float) -> "Usual":
        """Of the values of all cases; without any everything is usual and the median is `otherwise`."""
        if not values:
            return cls(otherwise, -math.inf)
        median = float(np.median(values))
        spread = _MAD * float(np.median(np.abs(np.asarray(values) - median)))
        return cls(median, median - max(MARGIN, SPREADS * spread))


@dataclass(frozen=True)
class Rivals:
    """What held-out atlases and the cohort teach about the candidates.

    Parameters
    ----------
    advantages
        Over fusion, of every other candidate.
    agreement
        What is usual of each network's agreement with fusion.
    predicted
        What is usual of fusion's predicted Dice.
    """

    advantages: Mapping[str, Advantage]
    agreement: Mapping[str, Usual]
    predicted: Usual

    @classmethod
    def fit(
        cls, networks: Sequence[str], judged: Sequence[Mapping[str, float]], cohort: Sequence[Standing], atlases: int
    ) -> "Rivals":
        """Rivals by what is true of held-out atlases, maybe none, and by what is known of all cases.

        Parameters
        ----------
        networks
            Names of the networks that segment.
        judged
            True Dice, mean over structures, by candidate, of each atlas that taught some candidates nothing: fusion
            and those are in it.
        cohort
            The cases, of which most are taken to be as they should be.
        atlases
            Number of those that are fused.
        """
        advantages = {
            name: Advantage.of([one[name] - one[FUSION] for one in judged if name in one], expected_gain(name, atlases))
            for name in candidates_of(networks)
            if name != FUSION
        }
        if any(one.cohort for one in cohort):
            advantages[BY_COHORT] = Advantage.of([], PRIOR_OF_ONE[BY_COHORT])
        agreements = {
            name: [value for one in cohort if (value := one.agreement[name]) is not None] for name in networks
        }
        return cls(
            advantages,
            {name: Usual.of(values, otherwise=1.0) for name, values in agreements.items()},
            Usual.of([one.predicted for one in cohort], otherwise=1.0),
        )

    def predict(self, standing: Standing) -> dict[str, float]:
        """Predicted Dice of all candidates, 0 to 1, of a case.

        A network is expected to be as much better than fusion as on the held-out atlases. Where fusion is predicted
        to be poor for this cohort the network gains half of that, for it does not depend on registration. Where the
        two agree less than is usual, one of them is wrong: what fusion's own shortfall does not explain is taken off
        the network. A mean gains and loses by each member its share. So a candidate never falls with agreement, and
        its lead over fusion never grows with fusion's predicted Dice.
        """
        return {name: float(np.clip(value, 0, 1)) for name, value in self._raw(standing).items()}

    def choose(self, standing: Standing, *, always: str | None = None) -> Chosen:
        """The candidate to keep: the one predicted best, or a network's unless it is refused.

        Parameters
        ----------
        standing
            What is known of the case.
        always
            Name of the network whose label map was asked for whatever is predicted.
        """
        predicted, raw = self.predict(standing), self._raw(standing)
        refused = {name: why for name in self.agreement if (why := standing.refused(name))}
        if always is not None:
            if always not in refused:
                return Chosen(always, predicted, _sentence(f"{in_words(always)} was asked for"))
            why = f"{refused[always]}; the fused label map is kept"
            return Chosen(FUSION, predicted, _sentence(why), why)
        fit = [name for name in raw if not refused.keys() & networks_of(name)]
        best = max(fit, key=lambda name: (raw[name], len(members_of(name))))
        return Chosen(best, predicted, self._reason(best, raw, standing, refused))

    def _raw(self, standing: Standing) -> dict[str, float]:
        poor = max(0.0, self.predicted.least - standing.predicted)
        own = {name: SHARED * poor - max(0.0, self._apart(name, standing) - poor) for name in self.agreement}
        raw = {FUSION: standing.predicted}
        for name, advantage in self.advantages.items():
            if name == BY_COHORT and not standing.cohort:
                continue
            share = sum(own[network] for network in networks_of(name)) / len(members_of(name))
            raw[name] = standing.predicted + advantage.mean + share
        return raw

    def _apart(self, network: str, standing: Standing) -> float:
        """What is missing of the agreement that a network should have."""
        agreement = standing.agreement[network]
        return 0.0 if agreement is None else max(0.0, self.agreement[network].least - agreement)

    def _reason(self, best: str, raw: Mapping[str, float], standing: Standing, refused: Mapping[str, str]) -> str:
        without = "".join(f" {_sentence(why)}" for why in refused.values())
        if best != FUSION:
            lead = raw[best] - raw[FUSION]
            more = " Fusion is expected to be poor here." if standing.predicted < self.predicted.least else ""
            better = f"{in_words(best)} is expected to be better here by {lead:.3f} Dice than fusion"
            return _sentence(better) + more + without
        unusual = [name for name in self.agreement if name not in refused and self._apart(name, standing)]
        if unusual:
            apart = ", ".join(
                f"{NETWORKS[name]} agrees with it less than is usual in this cohort (Dice "
                f"{standing.agreement[name]:.2f}, usually {self.agreement[name].median:.2f})"
                for name in unusual
            )
            return _sentence(f"{in_words(FUSION)} is kept: {apart}") + without
        if without:
            return without.strip()[:-1] + "; the fused label map is kept."
        return _sentence(f"{in_words(FUSION)} is kept: on held-out atlases nothing was better")


def _sentence(words: str) -> str:
    is_name = any(words.startswith(name) for name in NETWORKS.values() if not name.startswith("the "))
    return f"{words if is_name else words[0].upper() + words[1:]}."
