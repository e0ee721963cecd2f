"""The jointly trained network of a run: what it says of an image, and the atlases that taught it nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from covoxel.io import read_image, read_labels
from covoxel.segmentation import ImageModel, PairSegmenter, Segmented, segment, segment_pairs
from covoxel.spatial import Grid
from tasks.atlas_label import label_of
from tasks.job import Artifact
from tasks.joint_facts import joint_facts
from tasks.joint_models import NETWORK, joint_model_sha256, load_segmenter, weights_of
from tasks.same_labels import content_of
from tasks.scan import Scan
from tasks.study import Study
from tasks.train_joint import STAGE
from tasks.trainings import job_name


@dataclass(frozen=True)
class JointNetwork:
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

    def facts(self) -> dict[str, int]:
        """Settings that what it says depends on."""
        return {"views": self.views}

    def says(self, scan: Scan, onto: Grid, device: str) -> Segmented:
        """Probabilities of labels on the grid `onto`, by the preprocessed image."""
        image = read_image(scan.prepared.path)
        model = _loaded(self.folder, self.sha256, device)
        if isinstance(model, ImageModel):
            return segment(model, image, onto=onto, views=self.views, device=device)
        names = sorted(self.atlases)
        moving = [read_image(self.atlases[name][0].path) for name in names]
        label_maps = [read_labels(self.atlases[name][1].path) for name in names]
        return segment_pairs(model, image, moving, label_maps, onto=onto, device=device)


@lru_cache(maxsize=2)
def _loaded(folder: Path, network: str, device: str) -> ImageModel | PairSegmenter:
    """The network of a folder, whose SHA-256 is `network`; read once a process, not once a case."""
    return load_segmenter(folder, device)


def joint_network(study: Study, *, without: str | None = None) -> JointNetwork | None:
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
    return JointNetwork(folder, joint_model_sha256(folder), study.call.settings.segment.views, atlases)


def model_folder(study: Study) -> Path | None:
    """Folder of the joint model of a run, named by its settings or trained by it; None where there is none."""
    if "joint" not in study.networks:
        return None
    if study.call.settings.segment.model is not None:
        return study.call.settings.segment.model
    trained = study.joint_recipe is not None and study.record(STAGE, job_name(study.joint_recipe.name)) is not None
    return study.layout.model(study.joint_recipe.name) if study.joint_recipe is not None and trained else None


def untaught(study: Study) -> list[str]:
    """Ids of the atlases that taught the network no label: those its training held out, or those it never saw."""
    folder, ids = model_folder(study), [atlas.id for atlas in study.atlases]
    if folder is None:
        return []
    if study.joint_recipe is not None:
        record = study.record(STAGE, job_name(study.joint_recipe.name))
        scores = [] if record is None else record.facts["scores"].values()
        return [case for case in ids if any(case in rows for rows in scores)]
    taught = joint_facts(folder).taught_by
    contents = {atlas.id: content_of(read_labels(label_of(study, atlas).path)) for atlas in study.atlases}
    return [case for case in ids if not any(contents[case].same(each) for each in taught)]
