"""Segment: what the jointly trained network says of each case, and how far it agrees with the fused label map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

from prefect import task

from covoxel.io import read_image, read_labels
from covoxel.metrics import dice
from covoxel.segmentation import ImageModel, PairSegmenter, Segmented, segment_pairs
from covoxel.segmentation import segment as segment_image
from covoxel.segmentation.combine import Labelled, combine
from covoxel.spatial import Grid, Image
from tasks.fuse import fused_places
from tasks.job import Artifact, Job, Made, number, work
from tasks.joint_facts import joint_facts
from tasks.joint_models import NETWORK, joint_model_sha256, load_segmenter, weights_of
from tasks.options import TASK_OPTIONS
from tasks.results import result_facts, write_result
from tasks.study import Study
from tasks.train_joint import STAGE
from tasks.trainings import job_name


@dataclass(frozen=True)
class Network:
    """A trained joint model.

    Parameters
    ----------
    folder
        Where it lies.
    sha256
        Of all that decides what it says.
    views
        Views of each image over which its answer is averaged.
    atlases
        Image and label map of each atlas that it sees beside an image, by id; empty for one that sees images alone.
    """

    folder: Path
    sha256: str
    views: int
    atlases: Mapping[str, tuple[Artifact, Artifact]] = field(default_factory=dict)

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is read, by name."""
        seen = {f"image.{name}": image.sha256 for name, (image, _) in self.atlases.items()}
        seen |= {f"labels.{name}": labels.sha256 for name, (_, labels) in self.atlases.items()}
        return {"network": self.sha256, **seen}

    def says(self, image: Image, onto: Grid, device: str) -> Segmented:
        """Probabilities of labels on the grid `onto`."""
        model = _loaded(self.folder, self.sha256, device)
        if isinstance(model, ImageModel):
            return segment_image(model, image, onto=onto, views=self.views, device=device)
        names = sorted(self.atlases)
        moving = [read_image(self.atlases[name][0].path) for name in names]
        label_maps = [read_labels(self.atlases[name][1].path) for name in names]
        return segment_pairs(model, image, moving, label_maps, onto=onto, device=device)


@lru_cache(maxsize=2)
def _loaded(folder: Path, network: str, device: str) -> ImageModel | PairSegmenter:
    """The network of a folder, whose SHA-256 is `network`; read once a process, not once a case."""
    return load_segmenter(folder, device)


@dataclass(frozen=True)
class SegmentJob(Job):
    """A case, the network, and its fused label map.

    Parameters
    ----------
    image
        As preprocessed.
    fused, fused_confidence
        What fusion made of the case, on the case's own grid.
    network
        What segments.
    """

    stage = "segment"
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.fusion.base",
        "covoxel.metrics",
        "covoxel.preprocessing",
        "covoxel.registration",
        "covoxel.segmentation",
        "tasks.joint_models",
        "tasks.results",
        "tasks.segment",
    )
    vital = False

    image: Artifact
    fused: Artifact
    fused_confidence: Artifact
    network: Network

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        own = {"image": self.image.sha256, "fused": self.fused.sha256, "confidence": self.fused_confidence.sha256}
        return own | self.network.hashes()

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {"views": self.network.views}


@task(task_run_name="segment {job.case}", **TASK_OPTIONS)
@work
def segment(job: SegmentJob) -> Made:
    """Write the network's label map and that of the mean of network and fusion, each with the confidence of both."""
    fused = Labelled(read_labels(job.fused.path), read_image(job.fused_confidence.path))
    found = job.network.says(read_image(job.image.path), fused.label_map.grid, job.device)
    together = combine(found, fused)
    joint, layout = together.joint, job.layout
    outputs = write_result(
        joint.label_map, joint.confidence, (layout.joint_segmentation(job.case), layout.joint_confidence(job.case))
    )
    outputs += write_result(
        together.both.label_map,
        together.both.confidence,
        (layout.both_segmentation(job.case), layout.both_confidence(job.case)),
    )
    values = found.values.tolist()
    agreement = overlaps(joint.label_map, fused.label_map, values)
    facts = {
        "agreement": mean_overlap(agreement),
        "agreement_of_structures": {str(value): score for value, score in agreement.items()},
        "spread": number(found.spread),
    }
    return Made(outputs, result_facts(joint.label_map, joint.confidence, values) | facts)


def overlaps(first: Image, second: Image, values: Sequence[int]) -> dict[int, float]:
    """Dice of two label maps on one grid, of each structure that is in either."""
    return {value: score for value, score in dice(first.data, second.data, values).items() if isfinite(score)}


def mean_overlap(scores: Mapping[int, float]) -> float | None:
    """Mean over the structures; None where there is none."""
    return sum(scores.values()) / len(scores) if scores else None


def segment_jobs(study: Study) -> list[SegmentJob]:
    """A job for each case that was fused, if there is a network."""
    network = network_of(study)
    if network is None:
        return []
    layout, jobs = study.layout, []
    for case in study.fixed:
        if study.record("fuse", case.id) is None:
            continue
        label_map, confidence = fused_places(layout, case.id, study.fuses_apart)
        jobs.append(
            SegmentJob(
                case.id,
                study.call.output,
                study.device,
                image=study.artifact("preprocess", case.id, layout.preprocessed(case.id)),
                fused=study.artifact("fuse", case.id, label_map),
                fused_confidence=study.artifact("fuse", case.id, confidence),
                network=network,
            )
        )
    return jobs


def network_of(study: Study, *, without: str | None = None) -> Network | None:
    """The network that segments; None where none was trained or it has learnt no label.

    Parameters
    ----------
    study
        The run.
    without
        Id of an atlas that is segmented itself, which a network that sees atlases is not shown.
    """
    folder = model_folder(study)
    if folder is None:
        return None
    facts = joint_facts(folder)
    if not facts.values:
        return None
    beside = [atlas.id for atlas in study.atlases if atlas.id != without] if weights_of(NETWORK) in facts.files else []
    layout = study.layout
    atlases = {
        atlas: (
            study.artifact("preprocess", atlas, layout.preprocessed(atlas)),
            study.artifact("preprocess", atlas, layout.preprocessed_labels(atlas)),
        )
        for atlas in beside
    }
    return Network(folder, joint_model_sha256(folder), study.call.settings.segment.views, atlases)


def model_folder(study: Study) -> Path | None:
    """Folder of the joint model of a run, named by its settings or trained by it; None where there is none."""
    if not study.segments:
        return None
    if study.call.settings.segment.model is not None:
        return study.call.settings.segment.model
    trained = study.joint_recipe is not None and study.record(STAGE, job_name(study.joint_recipe.name)) is not None
    return study.layout.model(study.joint_recipe.name) if study.joint_recipe is not None and trained else None
