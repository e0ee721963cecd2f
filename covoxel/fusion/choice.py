"""`select`: the rule for one case, by what the labelled cases taught about each and by what this case shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from covoxel.fusion import strict
from covoxel.fusion.base import Evidence
from covoxel.fusion.calibration import Calibration, Predicted
from covoxel.fusion.candidates import CONSENSUS, VOTE, FusedImage
from covoxel.fusion.facts import CLEAN, Fact
from covoxel.fusion.planted import OF_THE_IMAGE
from covoxel.fusion.quality import Signs, signs_of
from covoxel.fusion.source import Source

VERSION = 1
_ORDER = ("joint_label_fusion", CONSENSUS, "locally_weighted", "data_parameters", "staple", VOTE)
"""Rules from the one most believed in before a labelled case was seen to the least."""
_FEWEST = 2  # labelled cases without which nothing is learnt
_ENOUGH = 8  # labelled cases from which on nothing is said about their number
_CAUTION = 1.5  # a rule takes the favourite's place for a gain above so many of its errors,
_WORTH = 0.005  # and above this Dice
_TELLING = {"expected": 1.0, "explained": 0.5}  # signs that tell rules apart, and the prior of their slopes
_PRIOR_WEIGHT = 0.01**2  # strength of that prior: the variance of differences at which it counts half
_UNKNOWN_SPREAD = 0.02


@dataclass(frozen=True)
class Gain:
    """What a rule gains over the favourite, in Dice, from how much better its signs are.

    Parameters
    ----------
    mean
        Gain on the labelled cases as they are.
    usual
        By sign ("expected", "explained"): how much better the rule's is there.
    slope
        By sign: gain for being better by 1 more than usual; not negative.
    spread
        Root mean square error of this on the labelled cases, as they are and with spoilt images; where registrations
        failed there is nothing left to choose.
    """

    mean: float
    usual: Mapping[str, float]
    slope: Mapping[str, float]
    spread: float

    def on(self, signs: Signs, favourite: Signs) -> float:
        """Gain to be expected of a rule with these signs over the favourite with those."""
        return self.mean + sum(
            self.slope[sign] * (signs[sign] - favourite[sign] - self.usual[sign]) for sign in _TELLING
        )


@dataclass(frozen=True, eq=False)
class Selected:
    """The result chosen for one case.

    Parameters
    ----------
    rule
        Its name.
    fused
        Its result.
    predicted
        Predicted Dice of every candidate, by rule.
    reason
        Why, in a sentence.
    """

    rule: str
    fused: FusedImage
    predicted: Mapping[str, Predicted]
    reason: str

    def of(self, fused: FusedImage) -> Self:
        """The same choice with another result of the rule, say on smaller voxels."""
        return replace(self, fused=fused)


@dataclass(frozen=True)
class Selector:
    """What the labelled cases taught: quality from signs, the favourite rule, and when another is better.

    Parameters
    ----------
    calibration
        Of predicted Dice.
    favourites
        Rules, best first; the first of them that is among the results is the favourite. Joint label fusion stays first
        unless another rule was better on the labelled cases beyond the standard error of their difference.
    gains
        Of each other rule over the first favourite.
    flags
        Sentences for the report: what could not be learnt, and what is done instead.
    """

    calibration: Calibration
    favourites: tuple[str, ...] = _ORDER
    gains: Mapping[str, Gain] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    @classmethod
    def fit(cls, facts: Iterable[Fact]) -> Self:
        """Selector by the facts of all labelled cases, each labelled from the other ones; their order is irrelevant.

        With fewer than two labelled cases nothing can be left out: what is returned is the prior, with a flag that
        says so.
        """
        rows = sorted(facts, key=lambda f: (f.case, f.kind, f.rule, f.dice))
        cases = len({fact.case for fact in rows})
        if cases < _FEWEST:
            flag = (
                f"Predicted quality rests on other data: {cases} labelled case(s) of this cohort could be labelled "
                f"from others, and at least {_FEWEST} are needed to learn from."
            )
            return cls(Calibration.prior(), flags=(flag,))
        flags: tuple[str, ...] = ()
        if cases < _ENOUGH:
            flags = (f"Predicted quality was learnt on {cases} labelled cases only: it may lie too high or too low.",)
        table = _Table.of(rows)
        favourites = table.favourites()
        gains = {rule: table.gain(rule, favourites[0]) for rule in favourites[1:]}
        return cls(Calibration.fit(rows), favourites, gains, flags)

    def select(
        self, given: Source | Evidence, results: Mapping[str, FusedImage], *, trust: Sequence[float] | None = None
    ) -> Selected:
        """The result to keep: the favourite's, unless this case gives good reason for another.

        Parameters
        ----------
        given, results, trust
            As for `signs_of`; `results` of `covoxel.fusion.candidates.candidates`.

        Raises
        ------
        ValueError
            If there is no result.
        """
        if not results:
            raise ValueError("results must hold at least one rule's, got none")
        signs = signs_of(given, results, trust=trust)
        predicted = {rule: self.calibration.predict(own, rule) for rule, own in signs.items()}
        favourite = next((rule for rule in self.favourites if rule in results), min(results))
        rivals = sorted(set(results) & set(self.gains)) if favourite == self.favourites[0] else []
        gains = {rule: self.gains[rule].on(signs[rule], signs[favourite]) for rule in rivals}
        margins = {rule: max(_WORTH, _CAUTION * self.gains[rule].spread) for rule in rivals}
        better = [rule for rule in rivals if gains[rule] > margins[rule]]
        best = max(better, key=lambda rule: gains[rule], default=favourite)
        return Selected(best, results[best], predicted, _reason(favourite, best, gains, margins))

    def to_json(self) -> dict[str, Any]:
        """Plain words and numbers, exactly as they are."""
        return {
            "version": VERSION,
            "calibration": self.calibration.to_json(),
            "favourites": list(self.favourites),
            "gains": {rule: asdict(gain) for rule, gain in self.gains.items()},
            "flags": list(self.flags),
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The selector that `to_json` gave.

        Raises
        ------
        ValueError
            If anything is missing, unknown, not finite, out of range or of another version.
        """
        value = strict.mapping("a selector", value, ("version", "calibration", "favourites", "gains", "flags"))
        strict.same_version("a selector", value, VERSION)
        gains = {rule: _gain_of(parts) for rule, parts in strict.mapping("gains", value["gains"]).items()}
        return cls(
            Calibration.from_json(value["calibration"]),
            strict.words("favourites", value["favourites"]),
            gains,
            strict.words("flags", value["flags"]),
        )


def _reason(favourite: str, best: str, gains: Mapping[str, float], margins: Mapping[str, float]) -> str:
    """Why a result is that of `best`, and not of the default rule, or of one that is predicted better."""
    if best != favourite:
        return (
            f"{best} is used in place of the default rule {favourite}: it is expected to be better here by "
            f"{gains[best]:.3f} Dice, more than the margin of {margins[best]:.3f}."
        )
    if not gains:
        return f"{favourite} is the default rule, and no other can be compared with it."
    nearest = max(gains, key=lambda rule: gains[rule] - margins[rule])
    return (
        f"{favourite}, the default rule, is kept: another rule must be expected to be better by a margin. {nearest} "
        f"comes nearest to that: {gains[nearest]:+.3f} Dice are expected, and more than {margins[nearest]:.3f} needed."
    )


def _gain_of(value: Any) -> Gain:
    value = strict.mapping("a gain", value, ("mean", "usual", "slope", "spread"))
    for part in ("usual", "slope"):
        strict.mapping(f"{part} of a gain", value[part], _TELLING)
    return Gain(
        strict.number("mean of a gain", value["mean"], -1, 1),
        strict.numbers("usual of a gain", value["usual"], -1, 1),
        strict.numbers("slope of a gain", value["slope"], 0, 100),
        strict.number("spread of a gain", value["spread"], 0, 1),
    )


@dataclass(frozen=True, eq=False)
class _Table:
    """Facts as a table: Dice and telling signs, one row a case and kind, one column a rule, nan where there is none."""

    rules: tuple[str, ...]
    clean: NDArray[np.bool_]
    fine: NDArray[np.bool_]  # registrations are as they were: clean, or the image alone is spoilt
    weight: NDArray[np.float64]
    dice: NDArray[np.float64]
    signs: NDArray[np.float64]  # (row, rule, sign)

    @classmethod
    def of(cls, facts: Sequence[Fact]) -> "_Table":
        rules = tuple(sorted({f.rule for f in facts}, key=_rank))
        rows = sorted({(f.case, f.kind) for f in facts})
        at = {row: index for index, row in enumerate(rows)}
        dice, signs = np.full((len(rows), len(rules)), np.nan), np.full((len(rows), len(rules), len(_TELLING)), np.nan)
        for fact in facts:
            place = at[fact.case, fact.kind], rules.index(fact.rule)
            dice[place], signs[place] = fact.dice, [fact.signs[sign] for sign in _TELLING]
        clean = np.array([kind == CLEAN for _, kind in rows])
        image = np.array([kind in OF_THE_IMAGE for _, kind in rows])
        weight = np.zeros(len(rows))
        for mask, share in ((clean, 0.4), (image, 0.4), (~clean & ~image, 0.2)):
            weight[mask] = share / max(1, mask.sum())
        return cls(rules, clean, clean | image, weight, dice, signs)

    def favourites(self) -> tuple[str, ...]:
        """Rules by mean Dice on the clean cases, but the first of `_ORDER` stays first unless beaten beyond error."""
        own = self.dice[self.clean]
        mean = dict(zip(self.rules, np.nan_to_num(np.nanmean(own, 0)).tolist(), strict=True))
        order = sorted(self.rules, key=lambda rule: (-mean[rule], _rank(rule)))
        usual = min(order, key=_rank)
        lead = own[:, self.rules.index(order[0])] - own[:, self.rules.index(usual)]
        lead = lead[np.isfinite(lead)]
        if len(lead) < _FEWEST or lead.mean() <= lead.std(ddof=1) / np.sqrt(len(lead)):
            order.remove(usual)
            order.insert(0, usual)
        return tuple(order)

    def gain(self, rule: str, favourite: str) -> Gain:
        """Of a rule over the favourite, by differences on the same evidence: ridge regression about the clean mean."""
        own, other = self.rules.index(rule), self.rules.index(favourite)
        gain, ahead = self.dice[:, own] - self.dice[:, other], self.signs[:, own] - self.signs[:, other]
        known = np.isfinite(gain)
        if not (known & self.clean).any():
            return Gain(0.0, dict.fromkeys(_TELLING, 0.0), dict(_TELLING), _UNKNOWN_SPREAD)
        mean, usual = float(gain[known & self.clean].mean()), ahead[known & self.clean].mean(0)
        x, y, w = ahead[known] - usual, gain[known] - mean, self.weight[known]
        pull, prior = np.sqrt(_PRIOR_WEIGHT), np.array(list(_TELLING.values()))
        design = np.concatenate([np.sqrt(w)[:, None] * x, pull * np.eye(len(prior))])
        slope = nnls(design, np.concatenate([np.sqrt(w) * y, pull * prior]))[0]
        error, fine = w * (y - x @ slope) ** 2, self.fine[known]
        spread = max(float(np.sqrt(error[fine].sum() / w[fine].sum())), 1e-4)
        usually, slopes = (dict(zip(_TELLING, each.tolist(), strict=True)) for each in (usual, slope))
        return Gain(mean, usually, slopes, spread)


def _rank(rule: str) -> tuple[int, str]:
    return (_ORDER.index(rule) if rule in _ORDER else len(_ORDER), rule)
