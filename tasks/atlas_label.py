"""Atlas label: the label map of an atlas as all stages after the check read it, without the voxels to ignore."""

from dataclasses import replace

from covoxel.spatial import Image
from data_catalog import Case
from tasks.job import Artifact
from tasks.study import Study


def without_value(labels: Image, value: int | None) -> Image:
    """A label map with background in place of one value; None changes nothing."""
    return labels if value is None else replace(labels, data=labels.data.masked_fill(labels.data == value, 0))


def label_of(study: Study, atlas: Case) -> Artifact:
    """The label map of an atlas that the check found sound: as it came, or without the voxels to ignore.

    Raises
    ------
    ScoringLabelError
        If the case is no atlas.
    """
    path, record = atlas.training_label(), study.records["check"][atlas.id]
    if not record.outputs:
        return Artifact(path, record.inputs["label"])
    return study.artifact("check", atlas.id, study.layout.without_ignore(atlas.id))
