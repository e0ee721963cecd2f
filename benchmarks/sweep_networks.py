"""Networks of a label sweep: how each kind of recipe is trained and left on disk, and what its networks then say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any, Protocol, TypedDict

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.sweep_recipes import AnyRecipe, phases_of
from benchmarks.sweep_scores import VALUES
from covoxel.io.atomic import atomic_path
from covoxel.registration import register
from covoxel.segmentation import ImageModel, segment
from covoxel.spatial import Image, Transform
from covoxel.training.joint import FusedLabels, JointRecipe, train_joint
from covoxel.training.progress import Progress
from covoxel.training.registration import Frame, Recipe, TrainingCase, train_registration
from nets.registration import RegistrationNet
from tasks.joint_recipe import build_networks, build_segmenter
from tasks.models import WEIGHTS, load_model, save_model
from tasks.recipe import build_network

SEPARATE = "separate"
"""The segmentation network as it was before the joint phase."""
_REGISTRATION, _SEGMENTATION, _SEPARATE = "registration", "segmentation.safetensors", "separate.safetensors"
_NDIM = 3


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


@singledispatch
def train(recipe: AnyRecipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    """Train what a recipe is of; leave the networks in `folder`, and say their steps by phase and their size."""
    raise TypeError(f"recipe must be one of {AnyRecipe}, got a {type(recipe).__name__}")


@singledispatch
def load_networks(recipe: AnyRecipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    """What `train` left in `folder`, from images of such voxels."""
    raise TypeError(f"recipe must be one of {AnyRecipe}, got a {type(recipe).__name__}")


def registration_folder(folder: Path) -> Path:
    """Where a registration network lies, as `tasks.models.save_model` leaves it."""
    return folder / _REGISTRATION


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


@train.register
def _train_registration(recipe: Recipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    network = build_network(recipe, _NDIM)
    spacing_mm = ground.frame.spacing_mm
    trained = train_registration(network, ground.cases, recipe, values=len(VALUES), spacing_mm=spacing_mm, **traces)
    if folder is not None:
        save_model(registration_folder(folder), trained.network, recipe, spacing_mm=spacing_mm)
    return {"steps": {"registration": trained.step}, "parameters": size_of(network)}


@load_networks.register
def _load_registration(recipe: Recipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    return _TwoNetworks({}, folder)


@train.register
def _train_two(recipe: JointRecipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    spacing_mm = ground.frame.spacing_mm
    registration, segmentation = build_networks(recipe, _NDIM, len(VALUES))
    if ground.start is not None:
        registration.load_state_dict(load_file(ground.start / WEIGHTS))
    trained = train_joint(
        registration,
        segmentation,
        ground.cases,
        recipe,
        values=len(VALUES),
        fused=ground.fused,
        spacing_mm=spacing_mm,
        **traces,
    )
    if folder is not None:
        assert trained.segmentation is not None
        save_weights(folder / _SEGMENTATION, trained.segmentation)
        if recipe.joint_steps:
            assert trained.segmentation_alone is not None
            assert isinstance(trained.registration, RegistrationNet)
            save_weights(folder / _SEPARATE, trained.segmentation_alone)
            save_model(registration_folder(folder), trained.registration, recipe.registration, spacing_mm=spacing_mm)
    networks = (segmentation, registration) if recipe.joint_steps else (segmentation,)
    about = {"judging": list(trained.judging), "notes": list(trained.notes)}
    return {"steps": phases_of(recipe), "parameters": size_of(*networks)} | about


@load_networks.register
def _load_two(recipe: JointRecipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    files = {"": _SEGMENTATION} | ({SEPARATE: _SEPARATE} if recipe.joint_steps else {})
    models = {}
    for name, file in files.items():
        network = with_weights(build_segmenter(recipe, _NDIM, len(VALUES)), folder / file)
        models[name] = ImageModel(network, VALUES, spacing_mm)
    return _TwoNetworks(models, folder if recipe.joint_steps else None)


class _TwoNetworks:
    """Segmentation networks by name, and a folder with a registration network; or but one of them."""

    def __init__(self, models: Mapping[str, ImageModel], folder: Path | None) -> None:
        self.models = models
        self.registration = None if folder is None else load_model(registration_folder(folder), "cpu")

    def label_maps(self, fixed: Image, atlases: Atlases, views: int) -> dict[str, Tensor]:
        return {name: segment(model, fixed, views=views).label_map for name, model in self.models.items()}

    def transforms(self, fixed: Image, atlases: Atlases) -> list[Transform]:
        if self.registration is None:
            return []
        return register("learned", fixed, atlases.images, model=self.registration)
