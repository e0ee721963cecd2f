"""Recipes: one YAML file says how a registration network is trained; it is read and checked before anything starts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch

from covoxel.losses.base import AFFINE_REGULARISERS, CONSISTENCY, LABEL_LOSSES, REGULARISERS, SIMILARITIES
from covoxel.training.registration.recipe import PairKind, Recipe
from data_catalog import Case
from nets.registration import REGISTRATION_NETS, RegistrationNet
from nets.segmentation import SEGMENTATION_NETS
from tasks.call import CallError
from tasks.components import check_named, option_of
from tasks.recipe_files import find_recipe, recipe_names
from tasks.recipe_parsing import check_name, check_term, parse, read_mapping
from tasks.settings import SettingsError

N = TypeVar("N")

_NESTED: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "stage": REGISTRATION_NETS,
    "affine": REGISTRATION_NETS,
    "registration": REGISTRATION_NETS,
    "segmentation": SEGMENTATION_NETS,
    "transformer": SEGMENTATION_NETS,
}
"""Settings of a network that name another network, whose own settings are in `…_settings`, and where these are."""


def load_recipe(path: Path) -> Recipe:
    """Recipe of a YAML file; without a key `name` it is called as the file is.

    Raises
    ------
    SettingsError
        If the file cannot be read, is over 1 MB, is no YAML mapping, has an unknown key (the nearest known one is
        named), a value against its rule, or names a network or loss that there is not, or an option that it has not.
    """
    source = f"recipe {path}"
    return parse_recipe(read_mapping(path, source), source)


def parse_recipe(data: Mapping[str, Any], source: str) -> Recipe:
    """Recipe from plain data, checked; `source` is named in errors.

    Raises
    ------
    SettingsError
        As for `load_recipe`.
    """
    recipe = parse(Recipe, data, source)
    check_name(recipe.name, source)
    check_recipe(recipe, source)
    return recipe


def recipe_data(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, from which `parse_recipe` makes it again."""
    return asdict(recipe)


def build_network(recipe: Recipe, ndim: int, source: str = "") -> RegistrationNet:
    """The recipe's network, untrained; its first weights are drawn from the recipe's seed. `source` is for errors.

    Raises
    ------
    SettingsError
        If the network cannot be built with these settings.
    """
    name, settings = recipe.network, recipe.network_settings
    place = f"{source or f'recipe {recipe.name}'}: {name} cannot be built in {ndim}-D"
    return drawn(lambda: REGISTRATION_NETS[name](ndim, **settings), recipe.seed, place)


def drawn(build: Callable[[], N], seed: int, place: str) -> N:
    """What `build` makes with weights drawn from a seed; `place` begins the error.

    Raises
    ------
    SettingsError
        If it cannot be built.
    """
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return build()
    except (TypeError, ValueError, KeyError) as error:
        text = str(error.args[0]) if error.args else str(error)
        raise SettingsError(f"{place}: {text}") from None


def check_recipe(recipe: Recipe, source: str) -> None:
    """Refuse a recipe whose network or losses do not exist or do not take these options.

    Raises
    ------
    SettingsError
        As for `load_recipe`.
    """
    name, settings = recipe.network, recipe.network_settings
    check_network(REGISTRATION_NETS, name, settings, f"{source}: network", f"{source}: in network_settings")
    check_term(SIMILARITIES, recipe.similarity, f"{source}: similarity")
    check_term(LABEL_LOSSES, recipe.labels, f"{source}: labels")
    for key, registry in (
        ("regularisers", REGULARISERS),
        ("affine_regularisers", AFFINE_REGULARISERS),
        ("consistency", CONSISTENCY),
    ):
        for place, term in enumerate(getattr(recipe, key)):
            check_term(registry, term, f"{source}: {key}.{place}")
    build_network(recipe, 2, source)


def check_cases(recipe: Recipe, cases: Sequence[Case], *, predicted: bool = False) -> None:
    """Refuse cases with which a recipe cannot train; `predicted` label maps teach beside those of the atlases.

    Raises
    ------
    CallError
        If there are too few cases, or subjects, or labelled cases, for the pairs that the recipe wants.
    """
    name, atlases = recipe.name, sum(case.role == "atlas" for case in cases)
    if recipe.supervision == "labels" and atlases < (1 if predicted else 2):
        wanted = "one case" if predicted else "two cases"
        raise CallError(f"recipe {name} learns from labels: name {wanted} or more with --atlases, got {atlases}")
    if not cases:
        raise CallError("no case is left to train on; cases with the role test train only if --cases names them")
    if recipe.supervision != "warps":
        check_pairs(name, recipe.pairs, cases)


def check_pairs(name: str, pairs: PairKind, cases: Sequence[Case]) -> None:
    """Refuse cases of which the recipe of that name can make no pair.

    Raises
    ------
    CallError
        If there are too few cases, or subjects.
    """
    subjects = {case.subject for case in cases}
    if pairs == "within" and len(subjects) == len(cases):
        raise CallError(f"recipe {name} registers cases of one subject, and no subject has two")
    if pairs == "inter" and len(subjects) < 2:
        raise CallError(f"recipe {name} registers two subjects, and there is only one to train on")


def check_network(
    registry: Mapping[str, Callable[..., Any]], name: str, settings: Mapping[str, Any], name_at: str, settings_at: str
) -> None:
    """Refuse a network that there is not, or that does not take these settings, and the same of those it is made of.

    Parameters
    ----------
    registry
        Where it is looked up.
    name, settings
        What is asked for.
    name_at, settings_at
        Where it is asked for, for error messages.

    Raises
    ------
    SettingsError
        As for `tasks.components.check_named`.
    """
    check_named(registry, name, settings, name_at, f"{settings_at} of {name}")
    for key, nets in _NESTED.items():
        nested = option_of(registry[name], settings, key)
        if isinstance(nested, str):
            own = settings.get(f"{key}_settings") or {}
            check_network(nets, nested, own, f"{settings_at}: {key}", f"{settings_at}.{key}_settings")


__all__ = [
    "build_network",
    "check_cases",
    "check_network",
    "check_pairs",
    "check_recipe",
    "drawn",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
    "recipe_data",
    "recipe_names",
]
