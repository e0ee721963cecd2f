"""What the scores of label fusion say beyond means of Dice, and how that compares with what was promised."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Bar
from benchmarks.fusion_rules import ANTS_JLF, DATA_PARAMETERS, JLF, SELECT
from benchmarks.fusion_scores import Score, auroc, dice_of, interval, spearman
from benchmarks.fusion_trust import AS_IT_IS, WITH_BAD, Trusted
from covoxel.fusion.candidates import CONSENSUS, VOTE

FEW = 5
FAILED = 0.7
BELOW = 0.01
CLEARLY = 0.05
_ALMOST = 1e-12


@dataclass(frozen=True)
class Figure:
    """One number that is no mean Dice of one method."""

    part: str
    figure: str
    value: float


Found = tuple[list[Figure], list[Bar]]


def verdicts(scores: Sequence[Score], trusted: Sequence[Trusted], count: int, seed: int) -> Found:
    """Figures and bars of all parts that were run, `count` being the most atlases."""
    figures, bars = [], []
    for found in (
        _of_rules(scores, count, seed),
        _of_ants(scores, count),
        _of_bad_atlases(scores, trusted, count),
        _of_trust(trusted),
        _of_predictions(scores, count),
        _of_the_vote(scores, count),
    ):
        figures += found[0]
        bars += found[1]
    return figures, bars


def _of_rules(scores: Sequence[Score], count: int, seed: int) -> Found:
    figures, bars = [], []
    for number in (count, FEW):
        own = _by_method(scores, "rules", number)
        selected = own.pop(SELECT, None)
        own.pop(CONSENSUS, None)
        if selected is None:
            continue
        best = max(own, key=lambda rule: float(own[rule].mean()))
        if number == FEW:
            better = max(float(own[best].mean()), float(selected.mean()))
            bars.append(Bar(f"{FEW} atlases, best rule or select, Dice", better, 0.860, True))
        if number == count:
            bars.append(Bar(f"joint label fusion, {count} atlases, Dice", float(own[JLF].mean()), 0.865, True))
            ahead = selected - own[best]
            text = f"select minus the best single rule ({best}), Dice"
            bars.append(Bar(text, float(ahead.mean()), 0.0, True))
            for end, value in zip(("lower", "upper"), interval(ahead, seed), strict=True):
                figures.append(Figure("rules", f"{text}, {end} end of its 95 % interval", value))
            chosen = Counter(s.chosen for s in scores if (s.part, s.method, s.atlases) == ("rules", SELECT, count))
            figures += [Figure("rules", f"cases in which select chose {rule}", n) for rule, n in chosen.most_common()]
    return figures, bars


def _of_the_vote(scores: Sequence[Score], count: int) -> Found:
    selected, vote = (dice_of(scores, "rules", method, count) for method in (SELECT, VOTE))
    if not len(selected):
        return [], []
    below = float((selected < vote - BELOW).mean())
    figure = Figure("prediction", "select minus majority, the worst case", float((selected - vote).min()))
    text = f"share of cases with select below majority by more than {BELOW}"
    return [figure], [Bar(text, below, 0.05, False)]


def _of_ants(scores: Sequence[Score], count: int) -> Found:
    ours, theirs = (dice_of(scores, "ants", method, count) for method in (JLF, ANTS_JLF))
    if not len(ours):
        return [], []
    cpu, wall = ({s.method: 0.0 for s in scores if s.part == "ants"} for _ in range(2))
    for score in scores:
        if score.part == "ants":
            cpu[score.method] += score.cpu_seconds
            wall[score.method] += score.seconds
    return [Figure("ants", "share of cases in which ours has the higher Dice", float((ours > theirs).mean()))], [
        Bar("joint label fusion, ours minus that of ANTs, Dice", float((ours - theirs).mean()), 0.0, True),
        Bar("joint label fusion, ANTs over ours, processor seconds", cpu[ANTS_JLF] / cpu[JLF], 8.0, True),
        Bar("joint label fusion, ANTs over ours, wall clock", wall[ANTS_JLF] / wall[JLF], 8.0, True),
    ]


def _of_bad_atlases(scores: Sequence[Score], trusted: Sequence[Trusted], count: int) -> Found:
    names = _by_method(scores, WITH_BAD, count)
    if not names:
        return [], []
    loss = {n: float((dice_of(scores, AS_IT_IS, n, count) - dice_of(scores, WITH_BAD, n, count)).mean()) for n in names}
    cases = _by_case(trusted, WITH_BAD)
    last, possible = ([_lowest(own, by) for own in cases] for by in ("parameter", "dice"))
    clear = [_lowest(own, "parameter") for own in cases if _lowest(own, "dice", CLEARLY)]
    found = {
        "share of cases with all three last, had true Dice ranked them": _mean(possible),
        f"cases in which all three are worse than any good one by {CLEARLY}": float(len(clear)),
        "share of those cases with all three last": _mean(clear),
    }
    for kind in sorted({t.kind for own in cases for t in own}):
        found[f"{kind or 'good'}: mean true Dice"] = _mean([t.dice for own in cases for t in own if t.kind == kind])
        if kind:
            alone = [[t for t in own if t.kind in ("", kind)] for own in cases]
            found[f"{kind}: share ranked below all good ones"] = _mean([_lowest(own, "parameter") for own in alone])
    found |= {f"{method}: Dice lost to bad atlases": value for method, value in loss.items()}
    return [Figure("planted", text, value) for text, value in found.items()], [
        Bar("share of cases with all three bad atlases ranked last by data parameters", _mean(last), 0.95, True),
        Bar("Dice that the consensus by data parameters loses to bad atlases", loss[DATA_PARAMETERS], 0.01, False),
        Bar("Dice that majority loses beyond that", loss[VOTE] - loss[DATA_PARAMETERS], _ALMOST, True),
    ]


def _lowest(trusted: Sequence[Trusted], by: str, margin: float = 0.0) -> bool:
    """Whether the parameters (or Dice) of the bad ones of one case are below all others, by more than a margin."""
    bad, good = ([getattr(t, by) for t in trusted if bool(t.kind) == planted] for planted in (True, False))
    return bool(max(bad) < min(good) - margin)


def _of_trust(trusted: Sequence[Trusted]) -> Found:
    cases = _by_case(trusted, AS_IT_IS)
    if not cases:
        return [], []
    each = [spearman([t.parameter for t in own], [t.dice for t in own]) for own in cases]
    everyone = [t for own in cases for t in own]
    pooled = spearman([t.parameter for t in everyone], [t.dice for t in everyone])
    bad = [t for own in _by_case(trusted, WITH_BAD) for t in own]
    return [
        Figure("trust", "Spearman within each case, mean", float(np.nanmean(each))),
        Figure("trust", "Spearman within each case, minimum", float(np.nanmin(each))),
        Figure("trust", "Spearman of all pairs, bad atlases among them", spearman(*_both(bad))),
    ], [Bar("data parameter against true Dice, all pairs, Spearman", pooled, 0.6, True)]


def _both(trusted: Sequence[Trusted]) -> tuple[list[float], list[float]]:
    return [t.parameter for t in trusted], [t.dice for t in trusted]


def _of_predictions(scores: Sequence[Score], count: int) -> Found:
    good = [s for s in scores if (s.part, s.method, s.atlases) == ("rules", SELECT, count)]
    bad = [s for s in scores if s.part == "failures"]
    if not good or not bad:
        return [], []
    failed = [s for s in bad if s.dice < FAILED]
    usual = [s.predicted for s in good]
    figures = [
        Figure("prediction", "mean predicted minus true Dice", float(np.mean([s.predicted - s.dice for s in good]))),
        Figure("prediction", "Spearman of predicted and true Dice", spearman(usual, [s.dice for s in good])),
        Figure("prediction", f"planted failures with a true Dice below {FAILED}, share", len(failed) / len(bad)),
        Figure("prediction", "mean absolute error after failures", _error(bad)),
        Figure("prediction", "AUROC of those below alone", auroc([s.predicted for s in failed], usual)),
    ]
    for kind in dict.fromkeys(s.method for s in bad):
        own = [s.predicted for s in bad if s.method == kind]
        figures.append(Figure("prediction", f"AUROC, {kind}", auroc(own, usual)))
    return figures, [
        Bar("predicted against true Dice of select, mean absolute error", _error(good), 0.03, False),
        Bar("AUROC of predicted Dice for planted failures", auroc([s.predicted for s in bad], usual), 0.9, True),
    ]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _error(scores: Sequence[Score]) -> float:
    return float(np.mean([abs(s.predicted - s.dice) for s in scores]))


def _by_method(scores: Sequence[Score], part: str, count: int) -> dict[str, NDArray[np.float64]]:
    names = dict.fromkeys(s.method for s in scores if (s.part, s.atlases) == (part, count))
    return {name: dice_of(scores, part, name, count) for name in names}


def _by_case(trusted: Sequence[Trusted], part: str) -> list[list[Trusted]]:
    cases: dict[str, list[Trusted]] = {}
    for one in trusted:
        if one.part == part:
            cases.setdefault(one.case, []).append(one)
    return list(cases.values())
