"""Scores of what a run of `few-shot` left: its segmentations, their candidates, and networks by themselves."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from benchmarks.fusion_evidence import Cohort
from benchmarks.fusion_scores import interval
from benchmarks.sweep_ground import SEPARATE, Atlases
from benchmarks.sweep_scores import CaseScore, dice_of, score_of
from benchmarks.sweep_two_networks import load_two
from covoxel.io import read_labels, read_table
from covoxel.metrics import summarise
from covoxel.preprocessing import canonical
from covoxel.segmentation.candidates import BY_COHORT, NETWORKS, candidates_of
from covoxel.training.joint import JointRecipe
from tasks.joint_facts import joint_facts
from tasks.layout import Layout

FINAL, FUSION, JOINT = "final", "fusion", "joint"
ALONE, UNGUARDED = "segmentation alone", "joint network without the alarm"
_VIEWS = 8


def rows_of(layout: Layout, cohort: Cohort, seed: int) -> list[dict[str, object]]:
    """A row for the result and each of its candidates: Dice with interval, and of how many cases it was kept."""
    places: dict[str, Callable[[str], Path]] = {
        FINAL: layout.segmentation,
        FUSION: layout.fused,
        **{
            name: partial(_candidate, layout, name)
            for name in (*candidates_of(tuple(NETWORKS)), BY_COHORT)
            if name != FUSION
        },
    }
    kept = kept_of(layout, cohort.cases)
    rows = []
    for name, place in places.items():
        cases = [case for case in cohort.cases if place(case).is_file()]
        scores = [score_of(case, canonical(read_labels(place(case))).data, cohort.label_map(case)) for case in cases]
        if scores:
            rows.append(row_of(name, scores, seed) | {"kept": len(cases) if name == FINAL else kept[name]})
    return rows


def _candidate(layout: Layout, name: str, case: str) -> Path:
    return layout.candidate(case, name)[0]


def row_of(name: str, scores: Sequence[CaseScore], seed: int) -> dict[str, object]:
    """One row: the interval draws cases."""
    values = dice_of(scores).mean(1)
    tails, (low, high) = summarise(values), interval(values, seed)
    found = {"dice": tails.mean, "low": low, "high": high, "p5": tails.p5, "minimum": tails.minimum}
    return {"result": name, **found, "cases": len(values)}


def kept_of(layout: Layout, cases: Sequence[str]) -> Counter[str]:
    """Of how many cases each candidate was kept, by `cases.tsv`."""
    table = read_table(layout.cases_table, text=("id", "rule"))
    rules = table.loc[table["id"].isin(cases), "rule"].astype(str)
    return Counter(rule.partition(":")[0] for rule in rules)


def networks_alone(layout: Layout, cohort: Cohort, recipe: JointRecipe, seed: int) -> list[dict[str, object]]:
    """Rows of the two segmentation networks of a run, whatever the alarm said of them."""
    folder = layout.model(recipe.name)
    networks = load_two(recipe, folder, joint_facts(folder).spacing_mm)
    scores: dict[str, list[CaseScore]] = {}
    for case in cohort.cases:
        found: dict[str, Tensor] = networks.label_maps(cohort.image(case), Atlases((), ()), _VIEWS)
        for name, label_map in found.items():
            scores.setdefault(name, []).append(score_of(case, label_map, cohort.label_map(case)))
    names = {SEPARATE: ALONE, "": UNGUARDED}
    return [row_of(names[name], found, seed) for name, found in scores.items()]
