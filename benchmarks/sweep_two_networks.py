"""The methods of the sweep with a registration and a segmentation network, or but one: training, and what they say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from benchmarks.sweep_ground import (
    NDIM,
    SEPARATE,
    Atlases,
    Ground,
    Networks,
    Traces,
    registration_folder,
    save_weights,
    size_of,
    with_weights,
)
from benchmarks.sweep_recipes import phases_of
from benchmarks.sweep_scores import VALUES
from covoxel.registration import register
from covoxel.segmentation import ImageModel, segment
from covoxel.spatial import Image, Transform
from covoxel.training.joint import JointRecipe, train_joint
from covoxel.training.registration import Recipe, train_registration
from nets.registration import RegistrationNet
from tasks.joint_recipe import build_networks, build_segmenter
from tasks.models import WEIGHTS, load_model, save_model
from tasks.recipe import build_network

_SEGMENTATION, _SEPARATE = "segmentation.safetensors", "separate.safetensors"


def train_registration_net(recipe: Recipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    """Train a registration network alone; see `benchmarks.sweep_networks.train`."""
    network = build_network(recipe, NDIM)
    spacing_mm = ground.frame.spacing_mm
    trained = train_registration(network, ground.cases, recipe, values=len(VALUES), spacing_mm=spacing_mm, **traces)
    if folder is not None:
        save_model(registration_folder(folder), trained.network, recipe, spacing_mm=spacing_mm)
    return {"steps": {"registration": trained.step}, "parameters": size_of(network)}


def load_registration_net(recipe: Recipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    """The registration network alone."""
    return _TwoNetworks({}, folder)


def train_two(recipe: JointRecipe, ground: Ground, folder: Path | None, traces: Traces) -> dict[str, Any]:
    """Train two networks, the registration network from where it is."""
    spacing_mm = ground.frame.spacing_mm
    registration, segmentation, discriminator = build_networks(recipe, NDIM, len(VALUES))
    if ground.start is not None:
        registration.load_state_dict(load_file(ground.start / WEIGHTS))
    trained = train_joint(
        registration,
        segmentation,
        ground.cases,
        recipe,
        values=len(VALUES),
        fused=ground.fused,
        discriminator=discriminator,
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


def load_two(recipe: JointRecipe, folder: Path, spacing_mm: tuple[float, ...]) -> Networks:
    """Both networks, and the segmentation network as it was before the joint phase; or that which was trained alone."""
    files = {"": _SEGMENTATION} | ({SEPARATE: _SEPARATE} if recipe.joint_steps else {})
    models = {}
    for name, file in files.items():
        network = with_weights(build_segmenter(recipe, NDIM, len(VALUES), recipe.name), folder / file)
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
