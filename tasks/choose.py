"""Choose: the atlases that are worth a deformable registration onto one case, by a cheap affine one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect import task

from covoxel.fusion.atlas_choice import choose_atlases, likeness_scores, template_scores
from covoxel.fusion.gather import gather
from covoxel.io import read_image, read_labels
from covoxel.io.scratch import Scratch
from covoxel.registration import register
from covoxel.spatial import Image, resample
from tasks.facts import ChooseFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.options import TASK_OPTIONS
from tasks.settings import AtlasSettings
from tasks.study import Study
from tasks.template import COARSE

MEASURES = {"likeness": "likeness after affine alignment", "template": "likeness on the template (0 is best)"}


@dataclass(frozen=True)
class ChooseJob(Job):
    """A case and all atlases it could have.

    Parameters
    ----------
    fixed
        Preprocessed image of the case.
    images, labels
        Preprocessed images of the atlases, by id, and their label maps.
    template, placed
        The template and the atlases as they lie on it; None and empty where there is no template.
    settings
        How many are kept, and by what.
    """

    stage = "choose"
    facts = ChooseFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.preprocessing",
        "covoxel.registration",
        "covoxel.fusion",
        "tasks.template",
        "tasks.choose",
    )

    fixed: Artifact
    images: Mapping[str, Artifact]
    labels: Mapping[str, Artifact]
    template: Artifact | None
    placed: Mapping[str, Artifact]
    settings: AtlasSettings

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        inputs = {"fixed": self.fixed.sha256}
        if self.template is not None:
            inputs["template"] = self.template.sha256
        for kind, files in (("image", self.images), ("labels", self.labels), ("placed", self.placed)):
            inputs |= {f"{kind}.{name}": file.sha256 for name, file in files.items()}
        return inputs

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return self.settings.model_dump(mode="json")


@task(task_run_name="choose atlases of {job.case}", **TASK_OPTIONS)
@work
def choose(job: ChooseJob) -> Made:
    """Rank the atlases; the facts name those kept, and why each of the others is not."""
    fixed = read_image(job.fixed.path)
    scores = _likeness(job, fixed) if job.template is None else _nearness(job, job.template, fixed)
    measure = MEASURES[job.settings.by]
    choice = choose_atlases(scores, count=job.settings.count, minimum=1, measure=measure)
    facts = {
        "kept": list(choice.kept),
        "rejected": choice.rejected,
        "scores": {name: number(score) for name, score in scores.items()},
    }
    return Made([], facts)


def choose_jobs(study: Study) -> list[ChooseJob]:
    """A job for each case that is to be registered, if not all atlases are kept and registration is what they save."""
    settings = study.call.settings.atlases
    if settings.count is None or settings.by == "weight":
        return []
    layout, atlases = study.layout, [case.id for case in study.atlases]
    template = study.record("template", COHORT)
    images = {name: study.artifact("preprocess", name, layout.preprocessed(name)) for name in atlases}
    labels = {name: study.artifact("preprocess", name, layout.preprocessed_labels(name)) for name in atlases}
    on_template = {} if template is None else {name: layout.on_template(name) for name in atlases}
    placed = {name: study.artifact("template", COHORT, path) for name, path in on_template.items()}
    return [
        ChooseJob(
            case,
            study.call.output,
            study.device,
            fixed=study.artifact("preprocess", case, layout.preprocessed(case)),
            images={} if template else _without(images, case),
            labels={} if template else _without(labels, case),
            template=study.artifact("template", COHORT, layout.template) if template else None,
            placed=_without(placed, case),
            settings=settings,
        )
        for case in study.to_register
    ]


def kept_atlases(study: Study, case: str) -> list[str]:
    """Ids of the atlases that are brought onto a case, in order: the chosen ones, else all but itself."""
    chosen = study.record("choose", case)
    names = [atlas.id for atlas in study.atlases if atlas.id != case]
    return names if chosen is None else [name for name in names if name in chosen.facts["kept"]]


def _likeness(job: ChooseJob, fixed: Image) -> dict[str, float]:
    """Likeness near the structures of each atlas, after affine registration of all onto the case."""
    names = sorted(job.images)
    images = [read_image(job.images[name].path) for name in names]
    transforms = register("affine", fixed, images, device=job.device, **COARSE)
    labels = [read_labels(job.labels[name].path) for name in names]
    with Scratch(job.layout.scratch) as scratch:
        source = gather(fixed.to(job.device), zip(images, labels, transforms, strict=True), scratch)
        return dict(zip(names, likeness_scores(source), strict=True))


def _nearness(job: ChooseJob, template: Artifact, fixed: Image) -> dict[str, float]:
    """Negative distance of each atlas on the template to the case, which is registered to the template alone."""
    names, middle = sorted(job.placed), read_image(template.path)
    (transform,) = register("affine", middle, [fixed], device=job.device, **COARSE)
    own = resample(fixed, middle.grid, transform).data
    scores = template_scores(own, [read_image(job.placed[name].path).data for name in names])
    return dict(zip(names, scores, strict=True))


def _without(files: Mapping[str, Artifact], case: str) -> dict[str, Artifact]:
    return {name: file for name, file in files.items() if name != case}
