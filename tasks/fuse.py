"""Fuse: the labels of all atlases, brought onto one case, become its label map and a confidence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from prefect import task
from torch import Tensor

from covoxel.fusion.atlas_choice import agreements
from covoxel.fusion.base import smallest_type
from covoxel.fusion.candidates import FusedImage
from covoxel.fusion.choice import Selector
from covoxel.fusion.source import Source
from covoxel.fusion.tiling import whole_window
from covoxel.io import read_labels
from covoxel.preprocessing import LabelRestorer, restore_map
from covoxel.spatial import Grid, Image
from data_catalog.files import load_image
from tasks.atlas_label import label_of
from tasks.calibrate import selector_of
from tasks.choose import kept_atlases
from tasks.correction import Correction, correction_of
from tasks.evidence import CaseFiles, case_files
from tasks.facts import FuseFacts, ResultFacts
from tasks.fusion import Question, open_fusion
from tasks.job import Artifact, Job, Made, number, work
from tasks.layout import Layout
from tasks.learn import learnt_parameters, trust_of
from tasks.options import TASK_OPTIONS
from tasks.results import result_facts, write_result
from tasks.settings import AtlasSettings, FuseSettings
from tasks.study import Study


@dataclass(frozen=True)
class FuseJob(Job):
    """A case and the atlases that label it.

    Parameters
    ----------
    native
        The image as it came: the label map returns to its grid.
    files
        What is read of the case and its atlases.
    settings
        Fusion rule and its options, or the candidates.
    voting
        How many atlases vote at most, and by what they are chosen.
    judge
        What the labelled cases taught about the rules (a `Selector` as JSON).
    learnt
        Raw data parameter of each atlas; empty where none were learnt.
    left_out
        Why an atlas was not brought onto the case, by id.
    apart
        Whether the label map is kept in `work`, and is not the case's segmentation yet.
    correction
        What fusion does wrong, where that was learnt.
    """

    stage = "fuse"
    facts = FuseFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses.box",
        "covoxel.metrics",
        "covoxel.preprocessing",
        "covoxel.fusion",
        "covoxel.registration.pyramid",
        "tasks.evidence",
        "tasks.candidates",
        "tasks.fusion",
        "tasks.results",
        "tasks.fuse",
    )

    native: Artifact
    files: CaseFiles
    settings: FuseSettings
    voting: AtlasSettings
    judge: Mapping[str, Any]
    learnt: Mapping[str, float]
    left_out: Mapping[str, str]
    apart: bool = False
    correction: Correction | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        correction = {} if self.correction is None else self.correction.hashes()
        return {"native": self.native.sha256} | self.files.hashes() | correction

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.fusing() | {
            "atlases": self.voting.model_dump(mode="json"),
            "judge": dict(self.judge),
            "learnt": dict(self.learnt),
            "left_out": dict(self.left_out),
            **({"apart": True} if self.apart else {}),
            **({} if self.correction is None else {"correction": self.correction.known()}),
        }

    @property
    def places(self) -> tuple[Path, Path]:
        """Where label map and confidence are written."""
        return fused_places(self.layout, self.case, self.apart)


@dataclass(frozen=True)
class KeepJob(Job):
    """An atlas, whose own label map is its segmentation."""

    stage = "fuse"
    facts = ResultFacts
    code = ("covoxel.io", "covoxel.metrics.volumes", "tasks.results", "tasks.fuse")

    label: Artifact

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {"label": self.label.sha256}


@task(task_run_name="fuse {job.case}", **TASK_OPTIONS)
@work
def fuse(job: FuseJob) -> Made:
    """Write label map and confidence on the case's own grid."""
    native = load_image(job.native.path).grid
    question = Question(job.settings, job.voting, job.learnt, Selector.from_json(job.judge))
    with open_fusion(
        job.files, question, job.device, job.layout.scratch, lambda source, grid: restorer(source, grid, native)
    ) as found:
        source, selected, fused, values = found.source, found.selected, found.fused, found.source.values
        quality = selected.predicted[selected.rule].dice
        if job.correction is not None:
            fused, values = job.correction.corrected(
                found.fixed, native, source, found.rules, selected.rule, job.layout.scratch
            )
            quality = job.correction.quality(quality)
        label_map, confidence = restored(fused, found.fixed.grid, native)
        facts = {
            "quality": number(quality),
            "rule": selected.rule,
            "reason": selected.reason,
            "predicted": {rule: number(predicted.dice) for rule, predicted in selected.predicted.items()},
            "atlases": _atlas_facts(source, found.choice.kept, fused, job.learnt),
            "rejected": dict(job.left_out) | found.choice.rejected,
            **({} if job.correction is None else {"corrected": True}),
        }
    outputs = write_result(label_map, confidence, job.places)
    return Made(outputs, result_facts(label_map, confidence, values.tolist()) | facts)


@task(task_run_name="keep the label of {job.case}", **TASK_OPTIONS)
@work
def keep(job: KeepJob) -> Made:
    """Write the label map that an atlas came with as its segmentation, with full confidence."""
    label_map = read_labels(job.label.path)
    confidence = Image(torch.ones(label_map.grid.shape), label_map.grid)
    values = torch.unique(label_map.data).tolist()
    outputs = write_result(label_map, confidence, fused_places(job.layout, job.case, apart=False))
    return Made(outputs, result_facts(label_map, confidence, values))


def fused_places(layout: Layout, case: str, apart: bool) -> tuple[Path, Path]:
    """Where the fused label map of a case and its confidence lie."""
    if apart:
        return layout.fused(case), layout.fused_confidence(case)
    return layout.segmentation(case), layout.confidence(case)


def fuse_jobs(study: Study) -> list[FuseJob]:
    """A job for each case that has its transforms."""
    selector, correction, jobs = selector_of(study), correction_of(study), []
    for case in study.fixed:
        if study.calibrates and not selector.calibration.cases:
            for flag in selector.flags:
                study.flag(case.id, flag)
        chosen = study.record("choose", case.id)
        jobs.append(
            FuseJob(
                case.id,
                study.call.output,
                study.device,
                native=Artifact(case.image, study.records["check"][case.id].inputs["image"]),
                files=case_files(study, case.id, kept_atlases(study, case.id)),
                settings=study.call.settings.fuse,
                voting=study.call.settings.atlases,
                judge=selector.to_json(),
                learnt=learnt_parameters(study, case.id),
                left_out={} if chosen is None else chosen.facts["rejected"],
                apart=study.fuses_apart,
                correction=correction,
            )
        )
    return jobs


def keep_jobs(study: Study) -> list[KeepJob]:
    """A job for each sound atlas among the cases of the run."""
    wanted = {case.id for case in study.selected}
    return [
        KeepJob(
            atlas.id,
            study.call.output,
            "cpu",
            label=label_of(study, atlas),
        )
        for atlas in study.atlases
        if atlas.id in wanted
    ]


def restorer(source: Source, fixed: Grid, native: Grid) -> Callable[[], LabelRestorer]:
    """Makes what brings a label map from the grid of the preprocessed image to that of the image as it came."""
    kind = smallest_type(source.values)
    return lambda: LabelRestorer(fixed, native, kind)


def restored(fused: FusedImage, fixed: Grid, native: Grid) -> tuple[Image, Image]:
    """Label map and confidence on the grid of the image as it came."""
    assert fused.restored is not None
    return fused.restored, restore_map(fused.confidence.cpu(), fixed, native)


def _atlas_facts(
    source: Source, names: Sequence[str], fused: FusedImage, learnt: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """What each atlas was worth: likeness of its moved image, agreement of its labels with the result, learnt trust."""
    trust, everything = trust_of(learnt), whole_window(source.shape)
    facts = {}
    for atlas, (name, agrees) in enumerate(zip(names, agreements(source, fused.label_map), strict=True)):
        moved, valid = source.look(atlas, everything)
        likeness = _correlation(moved[valid], source.fixed[valid])
        facts[name] = {"likeness": number(likeness), "agreement": number(agrees), "trust": trust.get(name)}
    return facts


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())
