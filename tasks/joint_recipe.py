"""Joint recipes: one YAML file says how networks that register and segment are trained; it is checked beforehand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from covoxel.losses.base import LABEL_LOSSES, REGULARISERS, SIMILARITIES
from covoxel.training.joint import JointRecipe
from covoxel.training.joint_net import JointNetRecipe
from data_catalog import Case
from nets.joint import JOINT_NETS, JointNet
from nets.joint.discriminator import PatchDiscriminator
from nets.registration import RegistrationNet
from nets.segmentation import SEGMENTATION_NETS
from tasks.call import CallError
from tasks.components import check_named
from tasks.recipe import build_network, check_network, check_pairs, check_recipe, drawn
from tasks.recipe_files import find_joint_recipe, joint_recipe_names
from tasks.recipe_parsing import check_name, check_term, parse, read_mapping
from tasks.settings import SettingsError

AnyJointRecipe = JointRecipe | JointNetRecipe
"""Of two networks that teach each other, or of one that registers and segments."""

_KINDS = "a recipe of two networks has the key registration, one of one network the key network"


def load_joint_recipe(path: Path) -> AnyJointRecipe:
    """Joint recipe of a YAML file; without a key `name` it is called as the file is.

    Raises
    ------
    SettingsError
        As for `tasks.recipe.load_recipe`, or if it is neither of two networks nor of one.
    """
    source = f"joint recipe {path}"
    return parse_joint_recipe(read_mapping(path, source), source)


def parse_joint_recipe(data: Mapping[str, Any], source: str) -> AnyJointRecipe:
    """Joint recipe from plain data, checked; `source` is named in errors.

    The recipe of the registration network within one of two networks has the name and the method of the whole, if it
    says none of its own.

    Raises
    ------
    SettingsError
        As for `load_joint_recipe`.
    """
    if ("registration" in data) == ("network" in data):
        raise SettingsError(f"{source}: {_KINDS}; this one has {'both' if 'network' in data else 'neither'}")
    recipe: AnyJointRecipe
    if "network" in data:
        recipe = parse(JointNetRecipe, data, source)
        _check_one(recipe, source)
    else:
        recipe = parse(JointRecipe, _with_names(data), source)
        _check_two(recipe, source)
    for name in (recipe.name, recipe.registration.name):
        check_name(name, source)
    return recipe


def joint_recipe_data(recipe: AnyJointRecipe) -> dict[str, Any]:
    """The recipe as plain data, from which `parse_joint_recipe` makes it again."""
    return asdict(recipe)


def build_networks(recipe: JointRecipe, ndim: int, labels: int) -> tuple[RegistrationNet, nn.Module, nn.Module | None]:
    """Registration, segmentation and, if the recipe has one, discriminator network, untrained.

    Parameters
    ----------
    recipe
        Its seeds draw the first weights.
    ndim
        2 or 3.
    labels
        Number of labels, background included.

    Raises
    ------
    SettingsError
        If a network cannot be built with these settings.
    """
    source = f"joint recipe {recipe.name}"
    registration = build_network(recipe.registration, ndim, source)
    return registration, build_segmenter(recipe, ndim, labels, source), _discriminator(recipe, ndim, source)


def build_segmenter(recipe: JointRecipe, ndim: int, labels: int, source: str) -> nn.Module:
    """The segmentation network alone; see `build_networks`. `source` is for errors."""
    name, settings = recipe.segmentation.network, recipe.segmentation.network_settings
    place = f"{source}: {name} cannot be built in {ndim}-D"
    return drawn(lambda: SEGMENTATION_NETS[name](ndim=ndim, labels=labels, inputs=1, **settings), recipe.seed, place)


def build_joint_net(recipe: JointNetRecipe, ndim: int, labels: int, source: str = "") -> JointNet:
    """The one network of a recipe, untrained; as for `build_networks`. `source` is for errors."""
    name, settings = recipe.network, recipe.network_settings
    place = f"{source or f'joint recipe {recipe.name}'}: {name} cannot be built in {ndim}-D"
    return drawn(lambda: JOINT_NETS[name](ndim, labels=labels, **settings), recipe.seed, place)


def uses_fused(recipe: AnyJointRecipe) -> bool:
    """Whether fused labels of cases without true ones teach."""
    return recipe.fused_weight > 0


def check_joint_cases(recipe: AnyJointRecipe, cases: Sequence[Case]) -> None:
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
    """The data, the registration's recipe called as the whole if it has no name of its own."""
    inner = data["registration"]
    named = {key: data[key] for key in ("name", "method") if key in data}
    return dict(data) | ({"registration": {**named, **inner}} if isinstance(inner, Mapping) else {})


def _check_two(recipe: JointRecipe, source: str) -> None:
    """Refuse networks and losses that there are not, or that do not take these options."""
    check_recipe(recipe.registration, f"{source}: registration")
    how, place = recipe.segmentation, f"{source}: segmentation"
    settings_at = f"{place}: in network_settings of {how.network}"
    check_named(SEGMENTATION_NETS, how.network, how.network_settings, f"{place}: network", settings_at)
    check_term(LABEL_LOSSES, how.anatomy, f"{place}: anatomy")
    for number, term in enumerate(how.supervised):
        check_term(LABEL_LOSSES, term, f"{place}: supervised.{number}")
    build_segmenter(recipe, 2, 2, place)
    if recipe.complementary is not None:
        check_term(LABEL_LOSSES, recipe.complementary.confidence, f"{source}: complementary.confidence")
        _discriminator(recipe, 2, source)


def _check_one(recipe: JointNetRecipe, source: str) -> None:
    """The same of one network."""
    name, settings = recipe.network, recipe.network_settings
    check_network(JOINT_NETS, name, settings, f"{source}: network", f"{source}: in network_settings")
    check_term(SIMILARITIES, recipe.similarity, f"{source}: similarity")
    lists = {"regularisers": REGULARISERS} | dict.fromkeys(("supervised", "propagated", "agreement"), LABEL_LOSSES)
    for key, registry in lists.items():
        for number, term in enumerate(getattr(recipe, key)):
            check_term(registry, term, f"{source}: {key}.{number}")
    build_joint_net(recipe, 2, max((1, *recipe.lesions)) + 1, source)


def _discriminator(recipe: JointRecipe, ndim: int, source: str) -> nn.Module | None:
    if recipe.complementary is None or not recipe.has_discriminator:
        return None
    settings = recipe.complementary.discriminator.network_settings
    place = f"{source}: complementary.discriminator cannot be built in {ndim}-D"
    return drawn(lambda: PatchDiscriminator(ndim, **settings), recipe.seed, place)


__all__ = [
    "AnyJointRecipe",
    "build_joint_net",
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
