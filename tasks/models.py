"""Model folders: a trained registration network on disk, and the way back, on which nothing is believed unchecked."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import covoxel
from covoxel.io import sha256_file, sha256_json, write_json, write_text
from covoxel.io.atomic import atomic_path
from covoxel.manifest import code_sha256
from covoxel.registration.model import Alignment, PairModel
from covoxel.training.registration.recipe import Recipe
from nets.registration import RegistrationNet
from tasks.recipe import build_network, load_recipe, recipe_data
from tasks.same_labels import LabelContent
from tasks.settings import SettingsError, explain

FORMAT = "covoxel registration model 1"
WEIGHTS, RECIPE, FACTS = "weights.safetensors", "recipe.yaml", "model.json"
MAX_FACTS_BYTES = 20_000_000
"""Of `model.json`: room for some ten thousand label maps."""
CODE = ("covoxel.spatial", "nets.registration")
"""What decides, beside the weights, what a network says."""

_PROBE_SIDE = {2: 32, 3: 16}
_LARGEST_POWER = 8
_UNSEEN = 2
"""Working memory of a network over the outputs of its layers: there are sums, concatenations and fields beside."""


class ModelError(ValueError):
    """A model folder cannot be used; the message names the folder, what is wrong, and the rule."""


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
    facts.unlink(missing_ok=True)
    with atomic_path(weights) as temporary:
        save_file({name: part.detach().cpu().clone() for name, part in network.state_dict().items()}, temporary)
    write_text(text, yaml.safe_dump(_plain(recipe_data(recipe)), sort_keys=False, allow_unicode=True))
    content = {
        "format": FORMAT,
        "recipe": recipe.name,
        "ndim": network.ndim,
        "spacing_mm": None if spacing_mm is None else [float(s) for s in spacing_mm],
        "smallest_side": _smallest_side(network),
        "bytes_per_voxel": _bytes_per_voxel(network),
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
    _check(recipe.name == facts.recipe, folder, f"{RECIPE} is {recipe.name!r}; {FACTS} was saved with {facts.recipe!r}")
    _check(
        recipe.alignment == facts.alignment,
        folder,
        f"{RECIPE} wants alignment {recipe.alignment!r}; {FACTS} was saved with {facts.alignment!r}",
    )
    _check(
        facts.spacing_mm is None or len(facts.spacing_mm) == facts.ndim,
        folder,
        f"{FACTS}: spacing_mm = {facts.spacing_mm} must have a value for each of {facts.ndim} axes",
    )
    try:
        network = build_network(recipe, facts.ndim, RECIPE)
    except SettingsError as error:
        raise ModelError(f"model {folder}: {error}") from None
    network.load_state_dict(_weights(folder, facts, network))
    said = _OnAnyDevice(network.eval().requires_grad_(False).to(device))
    return PairModel(said, facts.spacing_mm, facts.alignment, facts.smallest_side, facts.bytes_per_voxel)


def model_sha256(folder: Path) -> str:
    """SHA-256 of all that decides what the network of a folder says; not of how long its training took.

    Raises
    ------
    ModelError
        If `model.json` or the recipe is missing or corrupt.
    """
    facts, recipe = _facts(folder), _recipe(folder)
    known = facts.model_dump(mode="json", exclude={"recipe", "bytes_per_voxel", "taught_by"})
    network = {"network": recipe.network, "settings": _plain(dict(recipe.network_settings))}
    return sha256_json({**known, **network, "weights": sha256_file(folder / WEIGHTS), "code": code_sha256(*CODE)})


def labels_that_taught(folder: Path) -> tuple[LabelContent, ...]:
    """The label maps that the network of a folder has learnt from.

    Raises
    ------
    ModelError
        If `model.json` is missing or corrupt.
    """
    return _facts(folder).taught_by


class _OnAnyDevice:
    """The displacement of a network on the device of the images; a copy of the network for each."""

    def __init__(self, network: RegistrationNet) -> None:
        self._networks = {next(network.parameters()).device: network}

    def __call__(self, fixed: Tensor, moving: Tensor) -> Tensor:
        if fixed.device not in self._networks:
            first = next(iter(self._networks.values()))
            self._networks[fixed.device] = deepcopy(first).to(fixed.device)
        said: Tensor = self._networks[fixed.device](fixed, moving).displacement_vox
        return said


def _facts(folder: Path) -> _Facts:
    path = folder / FACTS
    _check(folder.is_dir(), folder, "there is no such folder; train-registration makes one at OUTPUT/models/NAME")
    try:
        size = path.stat().st_size
        _check(size <= MAX_FACTS_BYTES, folder, f"{FACTS} has {size} bytes, at most {MAX_FACTS_BYTES} are read")
        return _Facts.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"model {folder}: {FACTS} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ModelError(f"model {folder}: {FACTS}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "missing":
        return f"{first['loc'][0]} is missing"
    return explain(error, _Facts) if first["loc"] else "the file is no JSON mapping"


def _recipe(folder: Path) -> Recipe:
    path = folder / RECIPE
    try:
        return load_recipe(path)
    except SettingsError as error:
        raise ModelError(f"model {folder}: {RECIPE}: {str(error).removeprefix(f'recipe {path}: ')}") from None


def _weights(folder: Path, facts: _Facts, network: RegistrationNet) -> dict[str, Tensor]:
    """The weights, if they are those that were saved and fit the network."""
    path = folder / WEIGHTS
    try:
        digest = sha256_file(path)
        _check(
            digest == facts.weights_sha256,
            folder,
            f"{WEIGHTS} is not the file that was saved: SHA-256 must be {facts.weights_sha256[:12]}…, "
            f"got {digest[:12]}…",
        )
        _check_shapes(folder, _shapes(path), {name: list(part.shape) for name, part in network.state_dict().items()})
        weights = load_file(path)
    except OSError as error:
        raise ModelError(f"model {folder}: {WEIGHTS} cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise ModelError(f"model {folder}: {WEIGHTS} is no safetensors file: {error}") from None
    spoilt = [name for name, part in weights.items() if not bool(part.isfinite().all())]
    _check(not spoilt, folder, f"{WEIGHTS}: all weights must be finite, those of {spoilt[:1]} are not")
    return weights


def _shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, "pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _check_shapes(folder: Path, found: Mapping[str, list[int]], wanted: Mapping[str, list[int]]) -> None:
    other = f"{WEIGHTS} is of another network than {RECIPE}"
    for name in sorted(wanted.keys() | found.keys()):
        _check(name in found, folder, f"{other}: {name} is missing")
        _check(name in wanted, folder, f"{other}: it has {name}, which there is not")
        _check(found[name] == wanted[name], folder, f"{other}: {name} must be {wanted[name]}, got {found[name]}")


def _check(fits: bool, folder: Path, wrong: str) -> None:
    if not fits:
        raise ModelError(f"model {folder}: {wrong}")


def _plain(value: Any) -> Any:
    """Lists and dictionaries alone, as YAML and JSON have them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _smallest_side(network: RegistrationNet) -> int:
    """Side of the smallest image that the network takes, a power of two; most take any."""
    for power in range(_LARGEST_POWER):
        try:
            _pass(network, 2**power)
        except (ValueError, RuntimeError):
            continue
        return 2**power
    raise ValueError(f"the network must take images of {2 ** (_LARGEST_POWER - 1)} voxels a side, and fails on them")


def _bytes_per_voxel(network: RegistrationNet) -> int:
    """Working memory for a voxel of a pair, about: what all layers give, and as much again."""
    outputs: list[Tensor] = []
    side = _PROBE_SIDE[network.ndim]
    layers = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(lambda *seen: outputs.append(seen[2])) for layer in layers]
    try:
        _pass(network, side)
    finally:
        for hook in hooks:
            hook.remove()
    storages = [output.untyped_storage() for output in outputs if isinstance(output, Tensor)]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return max(1, -(-_UNSEEN * sum(sizes.values()) // side**network.ndim))


def _pass(network: RegistrationNet, side: int) -> None:
    """One pass of a pair of `side` voxels along each axis."""
    pair = next(network.parameters()).new_zeros(1, 1, *[side] * network.ndim)
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(pair, pair)
    finally:
        network.train(was_training)
