"""Predicted Dice: what the signs of a result meant on the labelled cases, learnt by leaving one out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from covoxel.fusion import strict
from covoxel.fusion.facts import CLEAN, Fact
from covoxel.fusion.planted import OF_THE_IMAGE
from covoxel.fusion.quality import Signs

Floats = NDArray[np.float64]

VERSION = 1

# Of each feature: centre and scale of its values, and slope of the prior for one scale (in the logit of Dice).
_FEATURES = {
    "atlases": (-0.2, 0.2, 0.12),
    "agreement": (0.75, 0.1, 0.05),
    "likeness": (0.5, 0.35, 0.15),
    "likeness of the best": (0.6, 0.3, 0.4),
    "likeness of the mean": (0.6, 0.4, 0.2),
    "explained": (0.0, 0.6, 0.3),
    "expected": (0.78, 0.08, 0.12),
    "profile": (-0.15, 0.1, 0.05),
}
_INTERCEPT = 1.2
_LOOSE = 1.0  # strength of the prior of the intercept beside that of the slopes
_NOISE = 0.05  # error of a single Dice that the fit assumes
_FEWEST = 2  # labelled cases without which nothing is learnt
_PRIOR_CASES = 4.0  # an offset of a rule seen in so many cases is halved


def features_of(signs: Signs) -> dict[str, float]:
    """Numbers, of which more is better, in whose weighted sum a calibration is monotone."""
    ratio = (max(signs["explained"], 0) + 0.02) / (max(signs["explained_atlases"], 0) + 0.02)
    return {
        "atlases": -signs["alone"],
        "agreement": signs["agreement_alike"],
        "likeness": max(0.0, signs["likeness"]),
        "likeness of the best": max(0.0, signs["likeness_best"]),
        "likeness of the mean": max(0.0, signs["likeness_mean"]),
        "explained": float(np.clip(np.log(ratio), -2, 0.7)),
        "expected": signs["expected"],
        "profile": -min(signs["profile"], 1.0),
    }


@dataclass(frozen=True)
class Predicted:
    """A predicted Dice.

    Parameters
    ----------
    dice
        0 to 1, mean over structures.
    spread
        Root mean square error of such predictions on the labelled cases.
    """

    dice: float
    spread: float


@dataclass(frozen=True)
class Calibration:
    """Dice as the logistic function of a weighted sum of features, with the error to be expected.

    Parameters
    ----------
    intercept, slopes
        Of the standardised features, slopes by name and never negative: a better sign cannot mean a worse result.
    spread_good, spread_bad
        Root mean square error where a Dice of 1, and of 0, is predicted; linear in between.
    cases
        Number of labelled cases it was fitted on; 0 is the built-in prior.
    offsets
        What is added to the Dice of a rule's results, by rule; nothing for a rule that is not named.
    """

    intercept: float
    slopes: Mapping[str, float]
    spread_good: float
    spread_bad: float
    cases: int
    offsets: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def prior(cls) -> Self:
        """What is believed before a labelled case was seen; docs/decisions/0007-predicted-quality.md says whence."""
        return cls(_INTERCEPT, {name: slope for name, (_, _, slope) in _FEATURES.items()}, 0.06, 0.2, 0)

    @classmethod
    def fit(cls, facts: Iterable[Fact], *, clean_share: float = 0.85, strength: float = 10.0) -> Self:
        """Calibration on facts of labelled cases, each labelled from the other ones.

        Least squares of the Dice itself, not of its logit; the slopes are drawn to those of the prior, and the more
        so the fewer cases there are. Facts about spoilt images do not count: by its signs their result cannot be
        told from one of failed registrations, and it is safer to believe the worse.

        Parameters
        ----------
        facts
            Rows of `facts_of`, of all labelled cases; their order is of no importance.
        clean_share
            Weight, 0 to 1, of the cases as they are; the planted failures have the rest.
        strength
            Of the prior: its slopes have a standard error of `1 / sqrt(strength)` scales.

        Returns
        -------
        Calibration
            The prior, if there are facts of fewer than two cases.
        """
        rows = sorted((f for f in facts if f.kind not in OF_THE_IMAGE), key=lambda f: (f.case, f.kind, f.rule, f.dice))
        cases = len({fact.case for fact in rows})
        if cases < _FEWEST:
            return cls.prior()
        design, truth = np.stack([_row(fact.signs) for fact in rows]), np.array([fact.dice for fact in rows])
        clean = np.array([fact.kind == CLEAN for fact in rows])
        weight = _weights(clean, clean_share, cases)
        beta = _solved(design, truth, weight, strength)
        expected = _logistic(design @ beta)
        good, bad = _spreads(expected, truth, weight)
        offsets = _offsets([f.rule for f in rows], truth - expected, clean)
        return cls(float(beta[0]), dict(zip(_FEATURES, beta[1:].tolist(), strict=True)), good, bad, cases, offsets)

    def predict(self, signs: Signs, rule: str = "") -> Predicted:
        """Dice to be expected of a result with these signs, by that rule if it is known."""
        beta = np.array([self.intercept, *(self.slopes[name] for name in _FEATURES)])
        dice = float(np.clip(_logistic(_row(signs) @ beta) + self.offsets.get(rule, 0.0), 0, 1))
        return Predicted(dice, dice * self.spread_good + (1 - dice) * self.spread_bad)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, exactly as they are."""
        return {
            "version": VERSION,
            "intercept": self.intercept,
            "slopes": dict(self.slopes),
            "spread_good": self.spread_good,
            "spread_bad": self.spread_bad,
            "cases": self.cases,
            "offsets": dict(self.offsets),
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The calibration that `to_json` gave.

        Raises
        ------
        ValueError
            If anything is missing, unknown, not finite, out of range or of another version.
        """
        what = "a calibration"
        value = strict.mapping(what, value, cls.prior().to_json())
        strict.same_version(what, value, VERSION)
        strict.mapping("slopes", value["slopes"], _FEATURES)
        cases = strict.number("cases", value["cases"], 0, 1e9)
        if cases != int(cases):
            raise ValueError(f"cases of {what} must be a whole number, got {cases}")
        return cls(
            strict.number("intercept", value["intercept"], -100, 100),
            strict.numbers("slopes", value["slopes"], 0, 100),
            strict.number("spread_good", value["spread_good"], 0, 1),
            strict.number("spread_bad", value["spread_bad"], 0, 1),
            int(cases),
            strict.numbers("offsets", value["offsets"], -1, 1),
        )


def _row(signs: Signs) -> Floats:
    features = features_of(signs)
    return np.array([1.0, *((features[name] - centre) / scale for name, (centre, scale, _) in _FEATURES.items())])


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


def _weights(clean: NDArray[np.bool_], clean_share: float, cases: int) -> Floats:
    """Weights of the rows: together they count as often as there are cases, clean and planted ones by their shares."""
    share = np.where(clean, clean_share / max(1, clean.sum()), (1 - clean_share) / max(1, (~clean).sum()))
    return np.asarray(share / share.sum() * cases)


def _solved(design: Floats, truth: Floats, weight: Floats, strength: float) -> Floats:
    prior = np.array([_INTERCEPT, *(slope for _, _, slope in _FEATURES.values())])
    pull = np.sqrt(strength) * np.ones(len(prior))
    pull[0] *= np.sqrt(_LOOSE)
    root = np.sqrt(weight) / _NOISE

    def residuals(beta: Floats) -> Floats:
        return np.concatenate([root * (_logistic(design @ beta) - truth), pull * (beta - prior)])

    least = np.where(np.arange(len(prior)) == 0, -np.inf, 0.0)
    return np.asarray(least_squares(residuals, np.maximum(prior, 1e-3), bounds=(least, np.inf)).x)


def _spreads(expected: Floats, truth: Floats, weight: Floats) -> tuple[float, float]:
    """Root mean square errors at predictions of 1 and 0, by weighted least squares of the absolute errors."""
    parts = np.stack([expected, 1 - expected], 1)
    root = np.sqrt(weight)
    found = least_squares(lambda s: root * (parts @ s - np.abs(truth - expected)), [0.03, 0.1], bounds=(0.005, 0.5)).x
    good, bad = 1.25 * found  # mean absolute to root mean square error, for a normal distribution
    return float(good), float(bad)


def _offsets(rules: list[str], residual: Floats, clean: NDArray[np.bool_]) -> dict[str, float]:
    """Mean residual of each rule on the clean facts, drawn to zero where they are few."""
    offsets = {}
    for rule in sorted(set(rules)):
        own = residual[clean & np.array([r == rule for r in rules])]
        offsets[rule] = float(own.sum() / (len(own) + _PRIOR_CASES))
    return offsets
