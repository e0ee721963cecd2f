"""Figures: pictures of one case for the report, kept as files so that they are drawn once."""

from collections.abc import Mapping
from dataclasses import dataclass

from prefect import task

from covoxel.io import read_image, read_labels, read_transform
from covoxel.io.atomic import write_bytes
from covoxel.manifest import Record
from covoxel.report import Guard, case_figures
from covoxel.spatial import resample, resample_labels
from tasks.facts import FigureFacts
from tasks.job import Artifact, Job, Made, work
from tasks.options import TASK_OPTIONS
from tasks.study import Study


@dataclass(frozen=True)
class FiguresJob(Job):
    """A segmented case and the atlas that is most like it.

    Parameters
    ----------
    fixed, segmentation, confidence
        The case as preprocessed, its label map, its confidence.
    moving, transform
        The atlas' preprocessed image and how it comes onto the case.
    """

    stage = "figures"
    facts = FigureFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.report.figures",
        "covoxel.report.case",
        "covoxel.report.canvas",
        "covoxel.report.planes",
        "tasks.figures",
    )

    fixed: Artifact
    segmentation: Artifact
    confidence: Artifact
    moving: Artifact
    transform: Artifact

    vital = False

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        names = ("fixed", "segmentation", "confidence", "moving", "transform")
        return {name: getattr(self, name).sha256 for name in names}


@task(task_run_name="figures of {job.case}", **TASK_OPTIONS)
@work
def figures(job: FiguresJob) -> Made:
    """Draw overlay, checkerboard, confidence, deformation grid and Jacobian of one case; the facts name what failed."""
    guard = Guard()
    fixed = read_image(job.fixed.path)
    transform = read_transform(job.transform.path, fixed.grid)
    drawn = case_figures(
        fixed,
        resample_labels(read_labels(job.segmentation.path), fixed.grid),
        confidence=resample(read_image(job.confidence.path), fixed.grid, padding="border"),
        moved=resample(read_image(job.moving.path), fixed.grid, transform),
        transform=transform,
        guard=guard,
    )
    outputs = []
    for name, picture in drawn.items():
        path = job.layout.figure(job.case, name)
        write_bytes(path, picture)
        outputs.append(path)
    facts = {"figures": list(drawn), "gaps": [gap.sentence for gap in guard.gaps]}
    return Made(outputs, facts, guard.tracebacks)


def figures_jobs(study: Study) -> list[FiguresJob]:
    """A job for each of the cases whose figures the report shows: those of lowest confidence first."""
    finals = {case.id: record for case in study.fixed if (record := study.final(case.id))}
    worst_first = sorted(finals, key=lambda case: (finals[case].facts["quality"] or 0.0, case))
    return [_job(study, case, finals[case]) for case in worst_first[: study.call.settings.report.figures]]


def _job(study: Study, case: str, final: Record) -> FiguresJob:
    layout, atlases = study.layout, final.facts["atlases"]
    likeness = {name: -2.0 if facts["likeness"] is None else facts["likeness"] for name, facts in atlases.items()}
    atlas = max(sorted(likeness), key=lambda name: likeness[name])
    return FiguresJob(
        case,
        study.call.output,
        "cpu",
        fixed=study.artifact("preprocess", case, layout.preprocessed(case)),
        segmentation=study.artifact(final.stage, case, layout.segmentation(case)),
        confidence=study.artifact(final.stage, case, layout.confidence(case)),
        moving=study.artifact("preprocess", atlas, layout.preprocessed(atlas)),
        transform=study.artifact("register", case, layout.transform(case, atlas)),
    )
