"""Joint recipes: one YAML file says how networks that register and segment are trained; it is checked beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from covoxel.losses.base import LABEL_LOSSES
from covoxel.training.joint import JointRecipe
from data_catalog import Case
from nets.registration import RegistrationNet
from nets.segmentation import SEGMENTATION_NETS
from tasks.call import CallError
from tasks.components import check_named
from tasks.recipe import build_network, check_pairs, check_recipe, drawn
from tasks.recipe_files import find_joint_recipe, joint_recipe_names
from tasks.recipe_parsing import check_name, check_term, parse, read_mapping
from tasks.settings import SettingsError

_KINDS = "two networks have the key registration, one network has the key network"


def load_joint_recipe(path: Path) -> JointRecipe:
    """Joint recipe of a YAML file; without a key `name` it is called as the file is.

    Raises
    ------
    SettingsError
        As for `tasks.recipe.load_recipe`.
    """
    source = f"joint recipe {path}"
    return parse_joint_recipe(read_mapping(path, source), source)


def parse_joint_recipe(data: Mapping[str, Any], source: str) -> JointRecipe:
    """Joint recipe from plain data, checked; `source` is named in errors.

    The recipe of a registration network within one of two networks has the name and the method of the whole, if it
    says none of its own.

    Raises
    ------
    SettingsError
        As for `load_joint_recipe`.
    """
    if ("registration" in data) == ("network" in data):
        raise SettingsError(f"{source}: {_KINDS}, got {'both' if 'network' in data else 'neither'}")
    recipe = parse(JointRecipe, _with_names(data), source)
    for name in (recipe.name, recipe.registration.name):
        check_name(name, source)
    _check(recipe, source)
    return recipe


def joint_recipe_data(recipe: JointRecipe) -> dict[str, Any]:
    """The recipe as plain data, from which `parse_joint_recipe` makes it again."""
    return asdict(recipe)


def build_networks(recipe: JointRecipe, ndim: int, labels: int, source: str = "") -> tuple[RegistrationNet, nn.Module]:
    """The registration and the segmentation network of a recipe, untrained; their first weights are the seeds'.

    Parameters
    ----------
    recipe
        Of two networks.
    ndim
        2 or 3.
    labels
        Number of labels, background included.
    source
        For errors.

    Raises
    ------
    SettingsError
        If a network cannot be built with these settings.
    """
    return build_network(recipe.registration, ndim, source), build_segmenter(recipe, ndim, labels, source)


def build_segmenter(recipe: JointRecipe, ndim: int, labels: int, source: str = "") -> nn.Module:
    """The segmentation network alone; see `build_networks`."""
    how = recipe.segmentation
    place = f"{source or f'joint recipe {recipe.name}'}: {how.network} cannot be built in {ndim}-D"

    def build() -> nn.Module:
        return SEGMENTATION_NETS[how.network](ndim=ndim, labels=labels, inputs=1, **how.network_settings)

    return drawn(build, recipe.seed, place)


def alignment_of(recipe: JointRecipe) -> str:
    """How images are laid on one another before a network of the recipe sees them."""
    return recipe.registration.alignment


def uses_fused(recipe: JointRecipe) -> bool:
    """Whether fused labels of cases without true ones teach."""
    return recipe.fused_weight > 0


def check_joint_cases(recipe: JointRecipe, cases: Sequence[Case]) -> None:
    """Refuse cases with which a recipe cannot train.

    Raises
    ------
    CallError
        If there are too few cases, or subjects, for the pairs that the recipe wants.
    """
    if not cases:
        raise CallError("no case is left to train on; cases with the role test train only if --cases names them")
    check_pairs(recipe.name, recipe.registration.pairs, cases)


def _with_names(data: Mapping[str, Any]) -> dict[str, Any]:
    inner = data["registration"]
    named = {key: data[key] for key in ("name", "method") if key in data}
    return dict(data) | ({"registration": {**named, **inner}} if isinstance(inner, Mapping) else {})


def _check(recipe: JointRecipe, source: str) -> None:
    """Refuse networks and losses that there are not, or that do not take these options."""
    check_recipe(recipe.registration, f"{source}: registration")
    how, place = recipe.segmentation, f"{source}: segmentation"
    settings_at = f"{place}: in network_settings of {how.network}"
    check_named(SEGMENTATION_NETS, how.network, how.network_settings, f"{place}.network", settings_at)
    check_term(LABEL_LOSSES, how.anatomy, f"{place}.anatomy")
    for number, term in enumerate(how.supervised):
        check_term(LABEL_LOSSES, term, f"{place}.supervised.{number}")
    build_segmenter(recipe, 2, 2, source)


__all__ = [
    "alignment_of",
    "build_networks",
    "build_segmenter",
    "check_joint_cases",
    "find_joint_recipe",
    "joint_recipe_data",
    "joint_recipe_names",
    "load_joint_recipe",
    "parse_joint_recipe",
    "uses_fused",
]
