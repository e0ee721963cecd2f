"""Weights on disk: files that are believed only if they are what was saved, and what a network needs to run."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from covoxel.io import sha256_file
from covoxel.io.atomic import atomic_path
from covoxel.memory_errors import is_out_of_memory
from tasks.settings_file import explain

MAX_FACTS_BYTES = 20_000_000
"""Of the file that vouches for a model: room for some ten thousand label maps."""

_PROBE_SIDE = {2: 32, 3: 16}
_LARGEST_POWER = 8
_UNSEEN = 2
"""Working memory of a network over the outputs of its layers: there are sums, concatenations and fields beside."""

M = TypeVar("M", bound=BaseModel)

Pass = Callable[[int], Any]
"""One pass of a network over images of so many voxels along each axis."""


class ModelError(ValueError):
    """A model folder cannot be used; the message names the folder, what is wrong, and the rule."""


def check(fits: bool, folder: Path, wrong: str) -> None:
    """Refuse a model folder that does not fit; `wrong` says why.

    Raises
    ------
    ModelError
        If it does not.
    """
    if not fits:
        raise ModelError(f"model {folder}: {wrong}")


def save_weights(path: Path, network: nn.Module) -> None:
    """Write the weights of a network as safetensors, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({name: part.detach().cpu().clone() for name, part in network.state_dict().items()}, temporary)


def load_weights(path: Path, sha256: str, network: nn.Module, recipe: str) -> None:
    """Give a network the weights of a file, if they are those that were saved and fit it.

    Parameters
    ----------
    path
        In a model folder.
    sha256
        Of the file that was saved.
    network
        As its recipe makes it.
    recipe
        Name of the recipe's file, for errors.

    Raises
    ------
    ModelError
        If the file is missing, corrupt, another one, or of another network.
    """
    folder, name = path.parent, path.name
    try:
        check_same(path, sha256)
        wanted = {key: list(part.shape) for key, part in network.state_dict().items()}
        _check_shapes(folder, _shapes(path), wanted, f"{name} is of another network than {recipe}")
        weights = load_file(path)
    except OSError as error:
        raise ModelError(f"model {folder}: {name} cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise ModelError(f"model {folder}: {name} is no safetensors file: {error}") from None
    spoilt = [key for key, part in weights.items() if not bool(part.isfinite().all())]
    check(not spoilt, folder, f"{name}: all weights must be finite, those of {spoilt[:1]} are not")
    network.load_state_dict(weights)


def check_same(path: Path, sha256: str) -> None:
    """Refuse a file of a model folder that is not the one that was saved.

    Raises
    ------
    ModelError
        If it is not.
    OSError
        If it cannot be read.
    """
    digest = sha256_file(path)
    wrong = f"{path.name} is not the file that was saved: SHA-256 must be {sha256[:12]}…, got {digest[:12]}…"
    check(digest == sha256, path.parent, wrong)


def read_facts(path: Path, kind: type[M], made_by: str) -> M:
    """What the file says that vouches for a model folder, checked.

    Parameters
    ----------
    path
        In a model folder.
    kind
        What it must say.
    made_by
        Verb that leaves such folders, for errors.

    Raises
    ------
    ModelError
        If folder or file is missing, or the file is too large, no JSON mapping, or says something else.
    """
    folder, name = path.parent, path.name
    check(folder.is_dir(), folder, f"there is no such folder; {made_by} makes one at OUTPUT/models/NAME")
    try:
        size = path.stat().st_size
        check(size <= MAX_FACTS_BYTES, folder, f"{name} has {size} bytes, at most {MAX_FACTS_BYTES} are read")
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"model {folder}: {name} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise ModelError(f"model {folder}: {name}: {_explain(error, kind)}") from None


class OnAnyDevice:
    """A network on the device of its first argument; a copy of it for each device."""

    def __init__(self, network: nn.Module) -> None:
        self._networks = {next(network.parameters()).device: network}

    def __call__(self, image: Tensor, *more: Tensor) -> Any:
        """What the network says."""
        if image.device not in self._networks:
            first = next(iter(self._networks.values()))
            self._networks[image.device] = deepcopy(first).to(image.device)
        return self._networks[image.device](image, *more)


def images_for(network: nn.Module, count: int, ndim: int) -> Pass:
    """A pass of `count` images of zeros, `(1, 1, *shape)` each, through a network; it is left as it was."""

    def run(side: int) -> None:
        image = next(network.parameters()).new_zeros(1, 1, *[side] * ndim)
        was_training = network.training
        try:
            with torch.no_grad():
                network.eval()(*[image] * count)
        finally:
            network.train(was_training)

    return run


def smallest_side(run: Pass) -> int:
    """Side of the smallest image that a network takes, a power of two; most take any."""
    for power in range(_LARGEST_POWER):
        try:
            run(2**power)
        except (ValueError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            continue
        return 2**power
    raise ValueError(f"the network must take images of {2 ** (_LARGEST_POWER - 1)} voxels a side, and fails on them")


def bytes_per_voxel(network: nn.Module, run: Pass, ndim: int) -> int:
    """Working memory for a voxel of what a network sees, about: what all layers give, and as much again."""
    outputs: list[Tensor] = []
    side = _PROBE_SIDE[ndim]
    layers = [layer for layer in network.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(lambda *seen: outputs.append(seen[2])) for layer in layers]
    try:
        run(side)
    finally:
        for hook in hooks:
            hook.remove()
    storages = [output.untyped_storage() for output in outputs if isinstance(output, Tensor)]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    return max(1, -(-_UNSEEN * sum(sizes.values()) // side**ndim))


def _shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, "pt") as file:
        return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _check_shapes(folder: Path, found: Mapping[str, list[int]], wanted: Mapping[str, list[int]], other: str) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        check(name in found, folder, f"{other}: {name} is missing")
        check(name in wanted, folder, f"{other}: it has {name}, which there is not")
        check(found[name] == wanted[name], folder, f"{other}: {name} must be {wanted[name]}, got {found[name]}")


def _explain(error: ValidationError, kind: type[BaseModel]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "missing":
        return f"{first['loc'][0]} is missing"
    return explain(error, kind) if first["loc"] else "the file is no JSON mapping"
