"""Files that a training reads of each case, and how they become cases on one frame with label maps that teach."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from covoxel.io import read_image, read_transform
from covoxel.spatial import Image, resample
from covoxel.training.joint import FusedLabels
from covoxel.training.registration import Frame, TrainingCase, frame_of, prepare
from data_catalog import Case
from tasks.job import Artifact
from tasks.study import Study
from tasks.teaching import Lesson, lesson_of


@dataclass(frozen=True)
class TrainingFiles:
    """What is read of one case, and whose it is.

    Parameters
    ----------
    image
        Preprocessed.
    labels
        Label map that came with it, if it is an atlas.
    predicted
        Label map that was predicted for it, if that is to teach.
    confidence
        In that label map, 0 to 1, if it counts.
    alignment
        Transform onto the reference, if there is one.
    subject
        Of the image.
    """

    image: Artifact
    labels: Artifact | None
    predicted: Artifact | None
    alignment: Artifact | None
    subject: str
    confidence: Artifact | None = None

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file, by what it is."""
        named = {name: getattr(self, name) for name in ("image", "labels", "predicted", "confidence", "alignment")}
        return {name: part.sha256 for name, part in named.items() if part is not None}


@dataclass(frozen=True)
class Reading:
    """All that a training has read.

    Parameters
    ----------
    cases
        On the frame, those with label maps of their own labelled.
    frame
        That of the images.
    lesson
        What the label maps say.
    fused
        Predicted label maps with their confidence on the frame, by id.
    """

    cases: list[TrainingCase]
    frame: Frame
    lesson: Lesson
    fused: dict[str, FusedLabels] = field(default_factory=dict)


def input_hashes(files: Mapping[str, TrainingFiles]) -> dict[str, str]:
    """SHA-256 of everything that is read, by name."""
    return {f"{case}.{name}": sha for case, own in files.items() for name, sha in own.hashes().items()}


def read_cases(
    files: Mapping[str, TrainingFiles], reference: str, alignment: str | None, *, apart: bool = False
) -> Reading:
    """All cases on one frame, and the label maps that teach.

    Parameters
    ----------
    files
        What is read of each case, by id.
    reference
        Id of the case onto which the others were brought.
    alignment
        How images are laid on one another: "none", "centre" or "affine".
    apart
        Whether predicted label maps are kept apart from drawn ones; else both are labels of their cases.

    Raises
    ------
    ImageError
        If a file cannot be read.
    """
    images = {case: read_image(own.image.path) for case, own in files.items()}
    drawn = {case: own.labels.path for case, own in files.items() if own.labels is not None}
    predicted = {case: own.predicted.path for case, own in files.items() if own.predicted is not None}
    lesson = lesson_of(drawn, predicted, images)
    reading = Reading([], _frame(images, reference, alignment), lesson)
    for case, own in files.items():
        matrix = None if alignment == "centre" else _matrix(own, images[reference])
        laid = prepare(
            case,
            images[case],
            reading.frame,
            labels=lesson.places.get(case),
            subject=own.subject,
            moving_from_fixed=matrix,
        )
        if apart and own.labels is None and laid.labels is not None:
            confidence = _confidence(case, own, images[case], reading.frame, matrix)
            reading.fused[case] = FusedLabels(laid.labels.to(torch.int16), confidence)
            laid = replace(laid, labels=None)
        reading.cases.append(laid)
    return reading


def files_of(study: Study, case: Case) -> TrainingFiles:
    """Image, subject and alignment of a sound case, without labels."""
    layout = study.layout
    return TrainingFiles(
        image=study.artifact("preprocess", case.id, layout.preprocessed(case.id)),
        labels=None,
        predicted=None,
        alignment=study.artifact("align", case.id, layout.alignment(case.id))
        if study.record("align", case.id)
        else None,
        subject=case.subject,
    )


def _frame(images: Mapping[str, Image], reference: str, alignment: str | None) -> Frame:
    """The frame of all images; that of the reference, in its world, where images are laid on it by transforms."""
    if alignment == "centre":
        return frame_of(list(images.values()))
    first = images[reference]
    return replace(frame_of([first]), centre_ras=tuple(first.grid.centre_ras.tolist()))


def _matrix(files: TrainingFiles, reference: Image) -> Any:
    if files.alignment is None:
        return torch.eye(reference.grid.ndim + 1, dtype=torch.float64).numpy()
    return read_transform(files.alignment.path, reference.grid).moving_from_fixed


def _confidence(case: str, files: TrainingFiles, image: Image, frame: Frame, matrix: Any) -> torch.Tensor | None:
    """Confidence in a predicted label map on the frame, laid there as the image is."""
    if files.confidence is None:
        return None
    own = resample(read_image(files.confidence.path), image.grid)
    return prepare(case, own, frame, moving_from_fixed=matrix).image.clamp(0, 1)
