"""All rules and `select` on the same evidence of one case, and joint label fusion of ANTs beside ours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from benchmarks.fusion_evidence import Cohort
from benchmarks.fusion_scores import Score
from benchmarks.measure import Stopwatch, import_ants
from covoxel.fusion import Evidence, Fused, fuse
from covoxel.fusion.base import smallest_winner
from covoxel.fusion.candidates import CONSENSUS, VOTE, consensus_of
from covoxel.fusion.choice import Selector
from covoxel.fusion.facts import Fact, facts_of, mean_dice

CANDIDATES = (VOTE, "locally_weighted", "joint_label_fusion")
JLF = "joint_label_fusion"
SELECT = "select"
DATA_PARAMETERS = "data_parameters"
ANTS_JLF = "ANTs joint_label_fusion"


@dataclass(frozen=True)
class RulesJob:
    """One case, labelled by the first atlases of each number.

    Parameters
    ----------
    cohort, case
        What is labelled.
    selectors
        What the leave-one-out of so many atlases taught, by their number.
    learnt
        Data parameter of each atlas; empty: that rule is left out.
    """

    cohort: Cohort
    case: str
    selectors: Mapping[int, Selector]
    learnt: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """Wall clock and processor seconds."""

    seconds: float
    cpu_seconds: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


def fuse_case(job: RulesJob) -> list[Score]:
    """Scores of every rule and of `select`, for each number of atlases."""
    truth, most = job.cohort.truth(job.case), max(job.selectors)
    everything, scores = job.cohort.evidence(job.case, most), []
    for count, selector in sorted(job.selectors.items(), reverse=True):
        evidence = everything if count == most else everything.of_atlases(torch.arange(count))
        rules: dict[str, dict[str, Any]] = {name: {} for name in (*CANDIDATES, "staple")}
        if job.learnt and count == most:
            rules[DATA_PARAMETERS] = {"parameters": [job.learnt[n] for n in job.cohort.names(job.case, count)]}
        results, spent = timed(evidence, rules)
        for rule, fused in results.items():
            scores.append(_score(count, rule, job.case, mean_dice(fused, truth, evidence), spent[rule]))
        scores += _selected(selector, evidence, results, spent, truth, job.case)
    return scores


def timed(evidence: Evidence, rules: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Fused], dict[str, Spent]]:
    """Results by rule, and what each took; none is helped by what another has worked out."""
    results, spent = {}, {}
    for rule, settings in rules.items():
        afresh = replace(evidence)
        with Stopwatch() as watch:
            results[rule] = fuse(rule, afresh, **settings)
        spent[rule] = Spent(watch.seconds, watch.cpu_seconds)
    return results, spent


def _selected(
    selector: Selector,
    evidence: Evidence,
    results: Mapping[str, Fused],
    spent: Mapping[str, Spent],
    truth: torch.Tensor,
    case: str,
) -> list[Score]:
    """Scores of the consensus and of `select`, which costs all its candidates."""
    own = {rule: results[rule] for rule in CANDIDATES}
    with Stopwatch() as watch:
        own[CONSENSUS] = consensus_of(evidence, {rule: fused for rule, fused in own.items() if rule != VOTE})
    together = sum((spent[rule] for rule in CANDIDATES), Spent(watch.seconds, watch.cpu_seconds))
    with Stopwatch() as watch:
        selected = selector.select(evidence, own)
    cost, count = together + Spent(watch.seconds, watch.cpu_seconds), len(evidence.moved)
    predicted = selected.predicted[selected.rule].dice
    dice = mean_dice(selected.fused, truth, evidence)
    return [
        _score(count, CONSENSUS, case, mean_dice(own[CONSENSUS], truth, evidence), together),
        _score(count, SELECT, case, dice, cost, predicted=predicted, chosen=selected.rule),
    ]


def _score(count: int, method: str, case: str, dice: float, spent: Spent, **more: Any) -> Score:
    return Score("rules", count, method, case, dice, spent.seconds, spent.cpu_seconds, **more)


def facts_on_atlas(job: tuple[Cohort, str, int, int]) -> list[Fact]:
    """What labelling one atlas from the others among the first so many teaches; nothing if there are no others."""
    cohort, atlas, count, seed = job
    if not cohort.names(atlas, count):
        return []
    rules: dict[str, dict[str, Any]] = {name: {} for name in CANDIDATES}
    return facts_of(atlas, cohort.evidence(atlas, count), cohort.truth(atlas), rules, seed=seed)


def beside_ants(job: tuple[Cohort, str, int, int]) -> list[Score]:
    """Joint label fusion of ANTs and ours, one after the other, on the same evidence."""
    cohort, case, count, seed = job
    evidence, truth = cohort.evidence(case, count), cohort.truth(case)
    results, spent = timed(evidence, {JLF: {}})
    theirs, cost = _ants(evidence, cohort.image(case).grid.spacing_mm.tolist(), seed)
    found = {JLF: (results[JLF], spent[JLF]), ANTS_JLF: (theirs, cost)}
    return [
        Score("ants", count, method, case, mean_dice(fused, truth, evidence), took.seconds, took.cpu_seconds)
        for method, (fused, took) in found.items()
    ]


def _ants(evidence: Evidence, spacing_mm: list[float], seed: int) -> tuple[Fused, Spent]:
    """ANTs on discrete label maps; only its own call is timed."""
    ants = import_ants(seed)

    def image(data: torch.Tensor) -> Any:
        return ants.from_numpy(data.numpy().astype("float32"), spacing=spacing_mm)

    maps = [evidence.values[smallest_winner(labels)] for labels in evidence.labels]
    fixed, moved = image(evidence.fixed), [image(data) for data in evidence.moved]
    mask = ants.iMath(image(torch.stack(maps).ne(0).any(0)), "MD", 1)
    label_list = [image(label_map) for label_map in maps]
    with Stopwatch() as watch:
        found = ants.joint_label_fusion(
            fixed, mask, moved, label_list=label_list, rad=[2] * evidence.fixed.ndim, max_lab_plus_one=True
        )
    label_map = torch.from_numpy(found["segmentation"].numpy()).round().long()
    nothing = torch.full(label_map.shape, math.nan)
    return Fused(label_map, nothing, nothing[None]), Spent(watch.seconds, watch.cpu_seconds)
