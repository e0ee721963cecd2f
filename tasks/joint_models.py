"""Joint model folders: networks that register and segment on disk, and the way back, on which nothing is believed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import covoxel
from covoxel.io import sha256_file, sha256_json, write_json, write_text
from covoxel.manifest import code_sha256
from covoxel.segmentation import ImageModel, PairSegmenter
from covoxel.training.joint import JointRecipe, Verdict
from covoxel.training.joint_net import JointNetRecipe
from tasks.joint_facts import FACTS, FORMAT, JointFacts, joint_facts, plain_verdict
from tasks.joint_recipe import (
    AnyJointRecipe,
    build_joint_net,
    build_segmenter,
    joint_recipe_data,
    load_joint_recipe,
)
from tasks.models import save_model
from tasks.recipe_parsing import plain
from tasks.same_labels import LabelContent
from tasks.settings import SettingsError
from tasks.weights import (
    ModelError,
    OnAnyDevice,
    bytes_per_voxel,
    check,
    check_same,
    images_for,
    load_weights,
    save_weights,
    smallest_side,
)

RECIPE = "recipe.yaml"
REGISTRATION, SEGMENTATION, SEPARATE, NETWORK = "registration", "segmentation", "separate", "network"
CODE = ("covoxel.spatial", "nets.blocks", "nets.joint", "nets.registration", "nets.segmentation")
"""What decides, beside the weights, what a network says."""

_LITTLE = 1e-6


def save_joint(
    folder: Path,
    recipe: AnyJointRecipe,
    networks: Mapping[str, nn.Module],
    *,
    values: Sequence[int],
    ndim: int,
    spacing_mm: Sequence[float],
    verdicts: Sequence[Verdict] = (),
    notes: Sequence[str] = (),
    trained: Mapping[str, Any] | None = None,
    taught_by: Sequence[LabelContent] = (),
) -> list[Path]:
    """Write networks that were trained jointly, each file whole; `joint.json`, which vouches for the others, last.

    Parameters
    ----------
    folder
        For the model alone; what lies there under the same names is replaced.
    recipe
        As it was used.
    networks
        Of a recipe of two networks "registration", and where there were labels to teach them "segmentation" and
        "separate", the segmentation network as it was before the joint phase; of one network "network".
    values
        Values of the labels, 0 first; empty where no label taught.
    ndim, spacing_mm, notes, taught_by
        See `JointFacts`.
    verdicts
        Of the alarm; of no label where it could not be checked.
    trained
        How they were trained: steps, seconds, device, number of cases …; plain JSON values.

    Returns
    -------
    list of Path
        The files.
    """
    _remove(folder)
    written = []
    if isinstance(recipe, JointRecipe):
        written += save_model(
            folder / REGISTRATION,
            networks[REGISTRATION],
            recipe.registration,
            spacing_mm=spacing_mm,
            trained=trained,
            taught_by=taught_by,
        )
    weights = {weights_of(name): networks[name] for name in (SEGMENTATION, SEPARATE, NETWORK) if name in networks}
    for name, network in weights.items():
        save_weights(folder / name, network)
    write_text(folder / RECIPE, yaml.safe_dump(plain(joint_recipe_data(recipe)), sort_keys=False, allow_unicode=True))
    files = [folder / name for name in (RECIPE, *weights)]
    content = {
        "format": FORMAT,
        "recipe": recipe.name,
        "ndim": ndim,
        "values": list(values),
        "spacing_mm": [float(s) for s in spacing_mm],
        "alignment": recipe.registration.alignment,
        **_needs(networks, ndim),
        "files": {path.name: sha256_file(path) for path in files},
        "verdicts": [plain_verdict(verdict) for verdict in verdicts],
        "notes": list(notes),
        "covoxel": covoxel.__version__,
        "torch": torch.__version__,
        "code": code_sha256(*CODE),
        "trained": dict(trained or {}),
        "taught_by": [label_map.plain() for label_map in taught_by],
    }
    write_json(folder / FACTS, content)
    return [*written, *files, folder / FACTS]


def load_segmenter(folder: Path, device: str) -> ImageModel | PairSegmenter:
    """What segments by the networks of a folder.

    Of a label that joint training hurts, the probability is that of the separate network; what is left is shared by
    the others as the joint network shares it. If it hurts all labels, the separate network speaks alone.

    Parameters
    ----------
    folder
        As `save_joint` leaves it.
    device
        Where it will mostly run; it follows its arguments to another device.

    Raises
    ------
    ModelError
        If a file is missing, corrupt, not the one that was saved, or of another recipe, format or network, or there is
        no segmentation network.
    """
    facts = joint_facts(folder)
    check(bool(facts.values), folder, "it has not learnt to segment: its training had no atlas, name one or more")
    recipe = _recipe(folder, facts)
    if isinstance(recipe, JointNetRecipe):
        return _pair_segmenter(folder, facts, recipe, device)
    everything = set(range(1, len(facts.values)))
    names = [SEPARATE] if everything <= set(facts.hurt) else [SEGMENTATION, SEPARATE] if facts.hurt else [SEGMENTATION]
    networks = [_network(folder, facts, name, _built(folder, facts, recipe), device) for name in names]
    logits = networks[0] if len(networks) == 1 else _Both(networks[0], networks[1], facts.hurt)
    memory = facts.bytes_per_voxel * len(networks)
    return ImageModel(logits, facts.values, facts.spacing_mm, facts.smallest_side, memory)


def joint_model_sha256(folder: Path) -> str:
    """SHA-256 of all that decides how the networks of a folder segment; not of how long their training took.

    Raises
    ------
    ModelError
        If `joint.json` is missing or corrupt.
    """
    facts = joint_facts(folder)
    known = facts.model_dump(mode="json", exclude={"recipe", "bytes_per_voxel", "taught_by", "verdicts", "notes"})
    return sha256_json({**known, "hurt": list(facts.hurt), "code": code_sha256(*CODE)})


def weights_of(network: str) -> str:
    """Name of the file with the weights of a network."""
    return f"{network}.safetensors"


class _Both:
    """Logits of the joint network, but for some labels, whose probabilities are those of the separate one."""

    def __init__(self, joint: OnAnyDevice, separate: OnAnyDevice, hurt: Sequence[int]) -> None:
        self._joint, self._separate, self._hurt = joint, separate, list(hurt)

    def __call__(self, image: Tensor) -> Tensor:
        joint, separate = (network(image).float().softmax(1) for network in (self._joint, self._separate))
        others = [label for label in range(joint.shape[1]) if label not in self._hurt]
        shares = joint[:, others] + _LITTLE * separate[:, others]
        said = separate.clone()
        said[:, others] = separate[:, others].sum(1, keepdim=True) * shares / shares.sum(1, keepdim=True)
        return said.clamp_min(torch.finfo(said.dtype).tiny).log()


def _pair_segmenter(folder: Path, facts: JointFacts, recipe: JointNetRecipe, device: str) -> PairSegmenter:
    network = _network(folder, facts, NETWORK, _built(folder, facts, recipe), device)

    def logits(fixed: Tensor, moving: Tensor, moving_probabilities: Tensor) -> Tensor:
        said: Tensor = network(fixed, moving, moving_probabilities).fixed_logits
        return said

    needs = {"smallest_side": facts.smallest_side, "bytes_per_voxel": facts.bytes_per_voxel}
    return PairSegmenter(logits, facts.values, facts.spacing_mm, facts.alignment, **needs)


def _built(folder: Path, facts: JointFacts, recipe: AnyJointRecipe) -> nn.Module:
    """The network that segments, untrained."""
    build: Callable[..., nn.Module] = build_segmenter if isinstance(recipe, JointRecipe) else build_joint_net
    try:
        return build(recipe, facts.ndim, len(facts.values), RECIPE)
    except SettingsError as error:
        raise ModelError(f"model {folder}: {error}") from None


def _network(folder: Path, facts: JointFacts, name: str, network: nn.Module, device: str) -> OnAnyDevice:
    """A network of a folder, ready to be asked; `network` is it, untrained."""
    file = weights_of(name)
    check(file in facts.files, folder, f"{FACTS}: files must name {file}")
    load_weights(folder / file, facts.files[file], network, RECIPE)
    return OnAnyDevice(network.eval().requires_grad_(False).to(device))


def _recipe(folder: Path, facts: JointFacts) -> AnyJointRecipe:
    path = folder / RECIPE
    try:
        check_same(path, facts.files.get(RECIPE, ""))
        recipe = load_joint_recipe(path)
    except OSError as error:
        raise ModelError(f"model {folder}: {RECIPE} cannot be read: {error.strerror}") from None
    except SettingsError as error:
        raise ModelError(f"model {folder}: {RECIPE}: {str(error).removeprefix(f'joint recipe {path}: ')}") from None
    check(recipe.name == facts.recipe, folder, f"{RECIPE} is {recipe.name!r}; {FACTS} was saved with {facts.recipe!r}")
    return recipe


def _needs(networks: Mapping[str, nn.Module], ndim: int) -> dict[str, int]:
    """What a network that segments needs to run."""
    for name, images in ((SEGMENTATION, 1), (NETWORK, 2)):
        if name in networks:
            run = images_for(networks[name], images, ndim)
            memory = bytes_per_voxel(networks[name], run, ndim)
            return {"smallest_side": smallest_side(run), "bytes_per_voxel": memory}
    return {}


def _remove(folder: Path) -> None:
    """Take away what an earlier training left, what vouches for it first."""
    for name in (FACTS, *map(weights_of, (SEGMENTATION, SEPARATE, NETWORK))):
        (folder / name).unlink(missing_ok=True)


__all__ = ["JointFacts", "ModelError", "joint_facts", "joint_model_sha256", "load_segmenter", "save_joint"]
