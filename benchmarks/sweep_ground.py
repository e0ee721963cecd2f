"""What trainings of the sweep begin with and leave: ground, traces, weights, and networks that can be asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from covoxel.io.atomic import atomic_path
from covoxel.spatial import Image, Transform
from covoxel.training.joint import FusedLabels
from covoxel.training.progress import Progress
from covoxel.training.registration import Frame, TrainingCase

NDIM = 3
SEPARATE = "separate"
"""The segmentation network as it was before the joint phase."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What a training begins with.

    Parameters
    ----------
    cases, frame
        Images, some with labels, and the frame that they are on.
    fused
        Labels of the others.
    start
        Folder of the registration network that is trained already.
    """

    cases: list[TrainingCase]
    frame: Frame
    fused: Mapping[str, FusedLabels]
    start: Path | None = None


class Traces(TypedDict, total=False):
    """Where a training is done, and what it leaves on its way."""

    device: str
    checkpoint: Path
    checkpoint_seconds: float
    progress: Progress


@dataclass(frozen=True, eq=False)
class Atlases:
    """Labelled images, in order."""

    images: Sequence[Image]
    label_maps: Sequence[Image]


class Networks(Protocol):
    """Trained networks that can be asked about an image."""

    def label_maps(self, fixed: Image, atlases: Atlases, views: int) -> dict[str, Tensor]:
        """Label maps by name, "" the one that counts; none of networks that do not segment."""
        ...

    def transforms(self, fixed: Image, atlases: Atlases) -> list[Transform]:
        """From the image to each atlas; none of networks that do not register."""
        ...


def registration_folder(folder: Path) -> Path:
    """Where a registration network lies, as `tasks.models.save_model` leaves it."""
    return folder / "registration"


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the weights of a network, whole."""
    with atomic_path(path) as temporary:
        save_file({name: part.detach().cpu().clone() for name, part in network.state_dict().items()}, temporary)


def with_weights(network: nn.Module, path: Path) -> nn.Module:
    """The network with the weights of a file, to be asked and not trained."""
    network.load_state_dict(load_file(path))
    return network.eval().requires_grad_(False)


def size_of(*networks: nn.Module) -> int:
    """Number of weights."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
