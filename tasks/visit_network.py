"""Visit network: what a trained network says of the visits of a subject, all of them on the subject's template."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from covoxel.external.nnunet import NnunetError, Predictor, TrainedModel, read_model
from covoxel.longitudinal import Says
from covoxel.preprocessing import normalise
from covoxel.segmentation import ImageModel, PairSegmenter, segment
from covoxel.spatial import Image
from tasks.joint_facts import joint_facts
from tasks.joint_models import joint_model_sha256, load_segmenter
from tasks.nnunet_settings import check_nnunet
from tasks.settings import NetworkName, SettingsError
from tasks.study import Study
from tasks.weights import ModelError

_loading = threading.Lock()
_PLACES: Mapping[NetworkName, str] = {"joint": "segment.model", "nnunet": "segment.nnunet.model"}


@dataclass(frozen=True)
class VisitNetwork:
    """A trained network that has a say in the labels of each visit.

    Parameters
    ----------
    kind
        "joint" or "nnunet".
    folder
        Of the model.
    sha256
        Of all that decides what it says.
    views
        Views of each visit over which a joint network that sees single images is averaged.
    """

    kind: NetworkName
    folder: Path
    sha256: str
    views: int

    def facts(self) -> dict[str, Any]:
        """Settings that what it says depends on."""
        return {"kind": self.kind} | ({"views": self.views} if self.kind == "joint" else {})

    def loaded(self, device: str) -> Says:
        """What segments; read once a process, not once a subject."""
        with _loading:  # threads that come at once would each load it
            model = _loaded(self.kind, self.folder, self.sha256, device)
        if isinstance(model, Predictor):
            return model.predict
        if isinstance(model, ImageModel):
            return partial(segment, model, views=self.views, device=device)
        return model

    def seen(self, image: Image) -> Image:
        """An image as the network has learnt to see it: nnU-Net standardises it itself, the others want 0 to 1."""
        return image if self.kind == "nnunet" else Image(normalise(image), image.grid)


@lru_cache(maxsize=1)
def _loaded(kind: NetworkName, folder: Path, network: str, device: str) -> ImageModel | PairSegmenter | Predictor:
    """The network of a folder, whose SHA-256 is `network`."""
    if kind == "joint":
        return load_segmenter(folder, device)
    return Predictor(read_model(folder), device=device, precision="float32" if device == "cpu" else "auto")


def visit_network(study: Study) -> VisitNetwork | None:
    """The network that the settings ask for; None without one."""
    settings = study.call.settings
    kind = settings.longitudinal.network
    if kind is None:
        return None
    folder = _folder(study, kind)
    sha = joint_model_sha256(folder) if kind == "joint" else _read_nnunet(folder).fingerprint
    return VisitNetwork(kind, folder, sha, settings.segment.views)


def check_visit_network(study: Study) -> None:
    """Refuse a network that cannot be used, before anything is started.

    Raises
    ------
    SettingsError
        If none is named, it cannot be read, or it wants more than one image of a visit.
    """
    kind = study.call.settings.longitudinal.network
    if kind is None:
        return
    folder = _folder(study, kind)
    if kind == "joint":
        try:
            load_segmenter(folder, "cpu")
        except ModelError as error:
            raise SettingsError(f"settings: {_PLACES[kind]}: {error}") from None
        return
    check_nnunet(study.call.settings.segment.nnunet, study.device)
    channels = _read_nnunet(folder).channels
    if channels != 1:
        raise SettingsError(
            f"settings: {_PLACES[kind]}: the model {folder} must see one image of a visit, it sees {channels} channels"
        )


def check_network_labels(study: Study) -> None:
    """Refuse a network of other labels than the atlases have, once these were checked.

    Raises
    ------
    SettingsError
        If it is one.
    """
    kind = study.call.settings.longitudinal.network
    if kind is None:
        return
    folder = _folder(study, kind)
    known = set(joint_facts(folder).values if kind == "joint" else _read_nnunet(folder).values) - {0}
    drawn = {v for atlas in study.atlases for v in study.records["check"][atlas.id].facts["label_values"]} - {0}
    if known != drawn:
        raise SettingsError(
            f"settings: {_PLACES[kind]}: the model {folder} must know the labels of the atlases, {sorted(drawn)}, "
            f"it knows {sorted(known)}"
        )


def _read_nnunet(folder: Path) -> TrainedModel:
    """The model of a folder.

    Raises
    ------
    SettingsError
        If it cannot be used.
    """
    try:
        return read_model(folder)
    except NnunetError as error:
        raise SettingsError(f"settings: {_PLACES['nnunet']}: {error}") from None


def _folder(study: Study, kind: NetworkName) -> Path:
    segment = study.call.settings.segment
    folder = segment.model if kind == "joint" else segment.nnunet.model
    if folder is None:
        raise SettingsError(
            f"settings: longitudinal.network = {kind!r} must have a trained model, and {_PLACES[kind]} names none"
        )
    return folder
