"""nnU-Net of a run, trained by it or brought: what it says of an image, and the atlases that taught it nothing."""

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from covoxel.external.nnunet import Predictor, read_model
from covoxel.io import read_labels, sha256_file, sha256_json
from covoxel.manifest import Record
from covoxel.segmentation import Segmented
from covoxel.segmentation.onto import onto as brought_onto
from covoxel.spatial import Grid
from data_catalog.files import load_image
from tasks.atlas_label import label_of
from tasks.nnunet_data import GROUPS, folds_of
from tasks.same_labels import LabelContent, content_of
from tasks.scan import Scan
from tasks.study import Study
from tasks.train_nnunet import FACTS, STAGE, fold_name
from tasks.weights import ModelError, read_facts

_loading = threading.Lock()


@dataclass(frozen=True)
class NnunetNetwork:
    """Folds of a model, which are averaged.

    Parameters
    ----------
    folder
        nnU-Net's.
    sha256
        Of all that decides what they say.
    folds
        Which ones; None: all that there are.
    """

    folder: Path
    sha256: str
    folds: tuple[int | str, ...] | None

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is read, by name."""
        return {"network": self.sha256}

    def facts(self) -> dict[str, Any]:
        """Settings that what it says depends on."""
        return {"folds": None if self.folds is None else list(self.folds)}

    def says(self, scan: Scan, onto: Grid, device: str) -> Segmented:
        """Probabilities of labels on the grid `onto`, by the image as it came."""
        with _loading:  # threads that come at once would each load it
            predictor = _loaded(self.folder, self.sha256, self.folds, device)
        return brought_onto(predictor.predict(load_image(scan.own.path)), onto)


@lru_cache(maxsize=GROUPS + 1)
def _loaded(folder: Path, network: str, folds: tuple[int | str, ...] | None, device: str) -> Predictor:
    """The predictor of a folder, whose SHA-256 is `network`; made once a process, not once a case.

    There is room for each fold alone and for all together, which cases ask for in turn.
    """
    return Predictor(read_model(folder, folds), device=device, precision="float32" if device == "cpu" else "auto")


def nnunet_network(study: Study) -> NnunetNetwork | None:
    """What segments; None where it is not asked for or no fold was trained."""
    if "nnunet" not in study.networks:
        return None
    brought = study.call.settings.segment.nnunet.model
    if brought is not None:
        return NnunetNetwork(brought, _folder_sha256(brought), None)
    round_ = _last_round(study)
    trained = _trained(study, round_)
    return _network(study, round_, trained) if trained else None


def judged_by(study: Study) -> dict[str, NnunetNetwork]:
    """By id of an atlas that some fold was not taught, that fold alone."""
    if "nnunet" not in study.networks:
        return {}
    if study.call.settings.segment.nnunet.model is None:
        networks = fold_networks(study, _last_round(study))
        return {atlas.id: networks[atlas.id] for atlas in study.atlases if atlas.id in networks}
    taught, network = taught_by(study), nnunet_network(study)
    if not taught or network is None:
        return {}  # nobody says what taught it
    contents = {atlas.id: content_of(read_labels(label_of(study, atlas).path)) for atlas in study.atlases}
    return {atlas: network for atlas, own in contents.items() if not any(own.same(each) for each in taught)}


def fold_networks(study: Study, round_: int) -> dict[str, NnunetNetwork]:
    """By id of a case that a fold of a round held out, that fold alone."""
    records = _trained(study, round_)
    return {
        case: _network(study, round_, {fold: record})
        for fold, record in records.items()
        for case in record.facts["held_out"]
    }


def taught_by(study: Study) -> tuple[LabelContent, ...]:
    """The drawn label maps it learnt from, which cannot score it, as far as its folder says."""
    if "nnunet" not in study.networks:
        return ()
    folder = study.call.settings.segment.nnunet.model or study.layout.nnunet_model(_last_round(study))
    return tuple(label_map for path in sorted(folder.glob(f"fold_*/{FACTS}")) for label_map in _facts(path).taught_by)


class _FoldFacts(BaseModel):
    model_config = ConfigDict(frozen=True)

    taught_by: tuple[LabelContent, ...]


def _facts(path: Path) -> _FoldFacts:
    try:
        return read_facts(path, _FoldFacts, "segment")
    except ModelError:
        return _FoldFacts(taught_by=())


def _last_round(study: Study) -> int:
    return study.call.settings.segment.nnunet.rounds


def _trained(study: Study, round_: int) -> dict[int, Record]:
    """Records of the folds of a round that were trained."""
    found = {fold: study.record(STAGE, fold_name(round_, fold)) for fold in range(len(folds_of(study)))}
    return {fold: record for fold, record in found.items() if record is not None}


def _network(study: Study, round_: int, folds: dict[int, Record]) -> NnunetNetwork:
    sha = sha256_json({str(fold): dict(record.outputs) for fold, record in folds.items()})
    return NnunetNetwork(study.layout.nnunet_model(round_), sha, tuple(folds))


def _folder_sha256(folder: Path) -> str:
    files = [folder / "plans.json", folder / "dataset.json", *sorted(folder.glob("fold_*/checkpoint_final.pth"))]
    return sha256_json({path.relative_to(folder).as_posix(): sha256_file(path) for path in files if path.is_file()})
