"""Data parameters learnt on the cohort: do they rank bad atlases last, and do they know how good each one is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from benchmarks.fusion_evidence import STRUCTURES, Cohort
from benchmarks.fusion_planted import with_bad_atlases
from benchmarks.fusion_rules import CANDIDATES, DATA_PARAMETERS, timed
from benchmarks.fusion_scores import Score
from covoxel.fusion.base import smallest_winner
from covoxel.fusion.facts import mean_dice
from covoxel.metrics import dice
from covoxel.training import TrainingSettings, paired_case, teacher, train
from nets.segmentation import SEGMENTATION_NETS

AS_IT_IS, WITH_BAD = "as it is", "3 bad"
Parameters = dict[str, dict[str, float]]
"""Raw data parameter by case and atlas."""


@dataclass(frozen=True)
class TrainingJob:
    """All cases of the cohort with so many atlases, with bad ones among them or without.

    `teacher` is the rule whose label maps teach the network; empty: all propagated labels alike, as in the paper.
    `epochs` None: those by default.
    """

    cohort: Cohort
    count: int
    planted: bool
    network: str
    teacher: str
    epochs: int | None
    seed: int


@dataclass(frozen=True)
class TrustJob:
    """One case with the data parameters of its atlases, learnt without bad ones and with."""

    cohort: Cohort
    case: str
    count: int
    clean: Mapping[str, float]
    planted: Mapping[str, float]
    seed: int


@dataclass(frozen=True)
class Trusted:
    """One propagated label map: its data parameter, its true Dice, and what was planted ("" if nothing)."""

    part: str
    case: str
    atlas: str
    parameter: float
    dice: float
    kind: str


def learn(job: TrainingJob) -> Parameters:
    """Train the network and the data parameters, all else by default; no true label of a case is read."""
    paired = []
    for case in job.cohort.cases:
        evidence = job.cohort.evidence(case, job.count)
        if job.planted:
            evidence, _ = with_bad_atlases(job.cohort, case, job.count, job.seed)
        names = job.cohort.names(case, job.count)
        taught = teacher(evidence, names, job.teacher) if job.teacher else None
        paired.append(paired_case(case, evidence, names, taught))
    torch.manual_seed(job.seed)
    network = SEGMENTATION_NETS[job.network](ndim=paired[0].fixed.ndim, labels=1 + len(STRUCTURES))
    settings = TrainingSettings(seed=job.seed)
    if job.epochs is not None:
        settings = replace(settings, epochs=job.epochs)
    trained = train(network, paired, labels=1 + len(STRUCTURES), settings=settings)
    found: Parameters = {}
    for row in trained.weights.to_dict("records"):
        found.setdefault(str(row["case"]), {})[str(row["atlas"])] = float(row["parameter"])
    return found


def score_trust(job: TrustJob) -> tuple[list[Score], list[Trusted]]:
    """Dice of the rules without and with bad atlases, and every propagated label map's parameter and true Dice."""
    truth, names = job.cohort.truth(job.case), job.cohort.names(job.case, job.count)
    bad_evidence, bad = with_bad_atlases(job.cohort, job.case, job.count, job.seed)
    scores, trusted = [], []
    for part, evidence, learnt, kinds in (
        (AS_IT_IS, job.cohort.evidence(job.case, job.count), job.clean, {}),
        (WITH_BAD, bad_evidence, job.planted, bad),
    ):
        parameters = [learnt[name] for name in names]
        rules = {**{name: {} for name in (*CANDIDATES, "staple")}, DATA_PARAMETERS: {"parameters": parameters}}
        results, _ = timed(evidence, rules)
        scores += [Score(part, job.count, r, job.case, mean_dice(f, truth, evidence)) for r, f in results.items()]
        for name, parameter, labels in zip(names, parameters, evidence.labels, strict=True):
            overlap = dice(evidence.values[smallest_winner(labels)], truth, list(STRUCTURES))
            mean = sum(overlap.values()) / len(overlap)
            trusted.append(Trusted(part, job.case, name, parameter, mean, kinds.get(name, "")))
    return scores, trusted
