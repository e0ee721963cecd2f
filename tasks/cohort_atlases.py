"""Cohort: with one atlas, other cases are atlases too, with the labels that a network has given them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.fusion.candidates import fuse_image
from covoxel.fusion.gather import gather
from covoxel.io import read_image, read_labels
from covoxel.io.scratch import Scratch
from covoxel.segmentation.candidates import BY_COHORT
from covoxel.segmentation.rivals import GROSS
from covoxel.spatial import resample_labels
from data_catalog.files import load_image
from tasks.align import training_ids
from tasks.facts import CohortFacts
from tasks.fuse import restored, restorer
from tasks.job import Artifact, Job, Made, work
from tasks.models import model_sha256
from tasks.options import TASK_OPTIONS
from tasks.register import RegisterJob, registered
from tasks.results import write_result
from tasks.study import Study

STAGE = BY_COHORT
RULE = "joint_label_fusion"
LEAST = 2
"""Other cases at least: one more warp is no more than the atlas is."""


@dataclass(frozen=True)
class CohortJob(Job):
    """A case and the others that label it.

    Parameters
    ----------
    native
        The image as it came: the label map returns to its grid.
    onto
        How the others are brought onto the case.
    labels
        Their label maps, by id.
    """

    stage = STAGE
    facts = CohortFacts
    code = (
        *RegisterJob.code,
        "covoxel.fusion",
        "covoxel.losses.box",
        "covoxel.preprocessing",
        "tasks.cohort_atlases",
        "tasks.fuse",
        "tasks.results",
    )
    vital = False

    native: Artifact
    onto: RegisterJob
    labels: Mapping[str, Artifact]

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        labels = {f"labels.{name}": file.sha256 for name, file in self.labels.items()}
        return {"native": self.native.sha256, **self.onto.inputs(), **labels}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.onto.parameters()


@task(task_run_name="label {job.case} by other cases", **TASK_OPTIONS)
@work
def label_by_cohort(job: CohortJob) -> Made:
    """Write the label map that the others give, and its confidence, on the case's own grid.

    Errors that they do not share cancel out, as those of many atlases do.

    References
    ----------
    Pipitone et al., Multi-atlas segmentation of the whole hippocampus and subfields using multiple automatically
    generated templates, NeuroImage 2014; Wolz et al., LEAP: learning embeddings for atlas propagation, NeuroImage 2010.
    Different here: a network, and not a warp of the atlas, has labelled the others.
    """
    names, fixed = sorted(job.labels), read_image(job.onto.fixed.path)
    images = [read_image(job.onto.moving[name].path) for name in names]
    label_maps = [
        resample_labels(read_labels(job.labels[name].path), image.grid)
        for name, image in zip(names, images, strict=True)
    ]
    atlases = zip(images, label_maps, registered(job.onto, names), strict=True)
    with Scratch(job.layout.scratch) as scratch:
        source = gather(fixed.to(job.device), atlases, scratch)
        native = load_image(job.native.path).grid
        fused = fuse_image(source, RULE, onto=restorer(source, fixed.grid, native))
    label_map, confidence = restored(fused, fixed.grid, native)
    return Made(write_result(label_map, confidence, job.layout.candidate(job.case, BY_COHORT)), {"cases": names})


def asks_cohort(study: Study) -> bool:
    """Whether other cases are to label each case: there is one atlas, and the best candidate is asked for."""
    segment = study.call.settings.segment
    return segment.segmenter == "auto" and segment.cohort > 0 and len(study.atlases) == 1


def label_by_cohort_jobs(study: Study) -> list[CohortJob]:
    """A job for each case that a network has segmented, where other cases are to label it."""
    settings = study.call.settings
    said = {case.id: record for case in study.fixed if (record := study.record("segment", case.id))}
    if not asks_cohort(study) or not said:
        return []
    agreement = {case: record.facts["agreement"] for case, record in said.items()}
    network = next(name for name in settings.segment.networks if name in next(iter(agreement.values())))
    teachers, jobs = _likeliest(study, agreement, network), []
    for case in said:
        others = [other for other in teachers if other != case][: settings.segment.cohort]
        if len(others) >= LEAST:
            jobs.append(_job(study, case, others, network))
    return jobs


def _likeliest(study: Study, agreement: Mapping[str, Mapping[str, float | None]], network: str) -> list[str]:
    """Cases that may teach, those first on which the network agrees most with the atlas; none where they contradict."""
    agrees = {case: agreement[case][network] or 0.0 for case in training_ids(study) if case in agreement}
    return sorted((case for case in agrees if agrees[case] >= GROSS), key=lambda case: (-agrees[case], case))


def _job(study: Study, case: str, others: list[str], network: str) -> CohortJob:
    layout, settings = study.layout, study.call.settings.register_
    images = {name: study.artifact("preprocess", name, layout.preprocessed(name)) for name in (case, *others)}
    onto = RegisterJob(
        case,
        study.call.output,
        study.device,
        fixed=images.pop(case),
        moving=images,
        settings=settings,
        is_atlas=False,
        network=None if settings.model is None else model_sha256(settings.model),
    )
    return CohortJob(
        case,
        study.call.output,
        study.device,
        native=Artifact(study.cohort.case(case).image, study.records["check"][case].inputs["image"]),
        onto=onto,
        labels={other: study.artifact("segment", other, layout.candidate(other, network)[0]) for other in others},
    )
