"""Images and labels of one training of the sweep, on one frame: atlases, unlabelled cases, labels fused for these."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.fusion_evidence import Cohort
from benchmarks.sweep_carried import confidence_file, label_file
from covoxel.io import read_image, read_labels
from covoxel.training.joint import FusedLabels
from covoxel.training.registration import Frame, TrainingCase, frame_of, prepare


def cases_of(cohort: Cohort) -> tuple[list[TrainingCase], Frame]:
    """Atlases with their labels, then the cases of `cohort` without; centre on centre, on the frame of the latter."""
    frame = frame_of([cohort.image(case) for case in cohort.cases])
    atlases = [prepare(atlas, cohort.image(atlas), frame, labels=cohort.label_map(atlas)) for atlas in cohort.atlases]
    return [*atlases, *(prepare(case, cohort.image(case), frame) for case in cohort.cases)], frame


def fused_labels(folder: Path, cases: Sequence[str], frame: Frame) -> dict[str, FusedLabels]:
    """The label maps of a folder with their confidence, on the frame; nothing is trusted outside of the image."""
    found = {}
    for case in cases:
        confidence, labels = read_image(confidence_file(folder, case)), read_labels(label_file(folder, case))
        laid = prepare(case, confidence, frame, labels=labels)
        assert laid.labels is not None
        found[case] = FusedLabels(laid.labels, (laid.image * laid.mask).clamp(0, 1))
    return found
