"""Model folders: a trained registration network on disk, and the way back, on which nothing is believed unchecked."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor, nn

import covoxel
from covoxel.io import sha256_file, sha256_json, write_json, write_text
from covoxel.manifest import code_sha256
from covoxel.registration.model import Alignment, PairModel
from covoxel.training.registration.recipe import Recipe
from nets.registration import RegistrationNet
from tasks.recipe import build_network, load_recipe, recipe_data
from tasks.recipe_parsing import plain
from tasks.same_labels import LabelContent
from tasks.settings import SettingsError
from tasks.weights import (
    ModelError,
    OnAnyDevice,
    bytes_per_voxel,
    check,
    images_for,
    load_weights,
    read_facts,
    save_weights,
    smallest_side,
)

FORMAT = "covoxel registration model 1"
WEIGHTS, RECIPE, FACTS = "weights.safetensors", "recipe.yaml", "model.json"
CODE = ("covoxel.spatial", "nets.registration")
"""What decides, beside the weights, what a network says."""


class _Facts(BaseModel):
    """What `model.json` says, as far as the network depends on it."""

    model_config = ConfigDict(frozen=True)

    format: Literal["covoxel registration model 1"]
    recipe: str
    ndim: Literal[2, 3]
    spacing_mm: tuple[PositiveFloat, ...] | None = Field(None, min_length=2, max_length=3)
    smallest_side: int = Field(ge=1, le=4096)
    bytes_per_voxel: int = Field(1000, ge=1, le=10**9)
    alignment: Alignment
    weights_sha256: str
    taught_by: tuple[LabelContent, ...] = ()


def save_model(
    folder: Path,
    network: nn.Module,
    recipe: Recipe,
    *,
    spacing_mm: Sequence[float] | None = None,
    trained: Mapping[str, Any] | None = None,
    taught_by: Sequence[LabelContent] = (),
) -> list[Path]:
    """Write a trained network, each file whole; `model.json`, which vouches for the others, last.

    Parameters
    ----------
    folder
        For the model alone; what lies there under the same names is replaced.
    network
        A `RegistrationNet` as `build_network` makes it of the recipe.
    recipe
        As it was used.
    spacing_mm
        Voxel size of the training images along R, A (and S); None: any will do.
    trained
        How it was trained: steps, seconds, device, number of cases …; plain JSON values.
    taught_by
        The label maps it learnt from, which cannot score it.

    Returns
    -------
    list of Path
        The files.
    """
    if not isinstance(network, RegistrationNet):
        raise ValueError(f"network must be a RegistrationNet, got a {type(network).__name__}")
    weights, text, facts = (folder / name for name in (WEIGHTS, RECIPE, FACTS))
    pass_of_pair = images_for(network, 2, network.ndim)
    facts.unlink(missing_ok=True)
    save_weights(weights, network)
    write_text(text, yaml.safe_dump(plain(recipe_data(recipe)), sort_keys=False, allow_unicode=True))
    content = {
        "format": FORMAT,
        "recipe": recipe.name,
        "ndim": network.ndim,
        "spacing_mm": None if spacing_mm is None else [float(s) for s in spacing_mm],
        "smallest_side": smallest_side(pass_of_pair),
        "bytes_per_voxel": bytes_per_voxel(network, pass_of_pair, network.ndim),
        "alignment": recipe.alignment,
        "weights_sha256": sha256_file(weights),
        "covoxel": covoxel.__version__,
        "torch": torch.__version__,
        "code": code_sha256(*CODE),
        "trained": dict(trained or {}),
        "taught_by": [label_map.plain() for label_map in taught_by],
    }
    write_json(facts, content)
    return [weights, text, facts]


def load_model(folder: Path, device: str) -> PairModel:
    """The network of a folder, for the engines.

    Parameters
    ----------
    folder
        As `save_model` leaves it.
    device
        Where it will mostly run; it follows its arguments to another device.

    Raises
    ------
    ModelError
        If a file is missing, corrupt, not the one that was saved, or of another recipe, format or network.
    """
    facts, recipe = _facts(folder), _recipe(folder)
    check(recipe.name == facts.recipe, folder, f"{RECIPE} is {recipe.name!r}; {FACTS} was saved with {facts.recipe!r}")
    check(
        recipe.alignment == facts.alignment,
        folder,
        f"{RECIPE} wants alignment {recipe.alignment!r}; {FACTS} was saved with {facts.alignment!r}",
    )
    check(
        facts.spacing_mm is None or len(facts.spacing_mm) == facts.ndim,
        folder,
        f"{FACTS}: spacing_mm = {facts.spacing_mm} must have a value for each of {facts.ndim} axes",
    )
    try:
        network = build_network(recipe, facts.ndim, RECIPE)
    except SettingsError as error:
        raise ModelError(f"model {folder}: {error}") from None
    load_weights(folder / WEIGHTS, facts.weights_sha256, network, RECIPE)
    network = network.eval().requires_grad_(False).to(device)
    return PairModel(
        _displacement(OnAnyDevice(network)),
        facts.spacing_mm,
        facts.alignment,
        facts.smallest_side,
        facts.bytes_per_voxel,
    )


def model_sha256(folder: Path) -> str:
    """SHA-256 of all that decides what the network of a folder says; not of how long its training took.

    Raises
    ------
    ModelError
        If `model.json` or the recipe is missing or corrupt.
    """
    facts, recipe = _facts(folder), _recipe(folder)
    known = facts.model_dump(mode="json", exclude={"recipe", "bytes_per_voxel", "taught_by"})
    network = {"network": recipe.network, "settings": plain(dict(recipe.network_settings))}
    return sha256_json({**known, **network, "weights": sha256_file(folder / WEIGHTS), "code": code_sha256(*CODE)})


def labels_that_taught(folder: Path) -> tuple[LabelContent, ...]:
    """The label maps that the network of a folder has learnt from.

    Raises
    ------
    ModelError
        If `model.json` is missing or corrupt.
    """
    return _facts(folder).taught_by


def _displacement(network: OnAnyDevice) -> Callable[[Tensor, Tensor], Tensor]:
    def displacement(fixed: Tensor, moving: Tensor) -> Tensor:
        said: Tensor = network(fixed, moving).displacement_vox
        return said

    return displacement


def _facts(folder: Path) -> _Facts:
    return read_facts(folder / FACTS, _Facts, "train-registration")


def _recipe(folder: Path) -> Recipe:
    path = folder / RECIPE
    try:
        return load_recipe(path)
    except SettingsError as error:
        raise ModelError(f"model {folder}: {RECIPE}: {str(error).removeprefix(f'recipe {path}: ')}") from None


__all__ = ["ModelError", "labels_that_taught", "load_model", "model_sha256", "save_model"]
