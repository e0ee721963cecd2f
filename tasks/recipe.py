"""Recipes: one YAML file says how a registration network is trained; it is read and checked before anything starts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError

from covoxel.losses.base import AFFINE_REGULARISERS, CONSISTENCY, LABEL_LOSSES, REGULARISERS, SIMILARITIES
from covoxel.training.registration.recipe import Recipe, Term
from data_catalog import Case
from nets.registration import REGISTRATION_NETS, RegistrationNet
from tasks.call import CallError
from tasks.components import check_named, option_of
from tasks.recipe_files import find_recipe, recipe_names
from tasks.settings import SettingsError, read_yaml, unknown_key

_ADAPTER = TypeAdapter(Recipe)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_NESTED = {"stage": "stage_settings", "affine": "affine_settings"}
"""Settings of a network that name another network, and those that hold its settings."""


def load_recipe(path: Path) -> Recipe:
    """Recipe of a YAML file; without a key `name` it is called as the file is.

    Raises
    ------
    SettingsError
        If the file cannot be read, is over 1 MB, is no YAML mapping, has an unknown key (the nearest known one is
        named), a value against its rule, or names a network or loss that there is not, or an option that it has not.
    """
    source = f"recipe {path}"
    data = read_yaml(path, source)
    if not isinstance(data, dict):
        raise SettingsError(f"{source}: a mapping of keys is expected, got a {type(data).__name__}")
    return parse_recipe({"name": path.stem} | data, source)


def parse_recipe(data: Mapping[str, Any], source: str) -> Recipe:
    """Recipe from plain data, checked; `source` is named in errors.

    Raises
    ------
    SettingsError
        As for `load_recipe`.
    """
    try:
        recipe = _ADAPTER.validate_python(dict(data))
    except ValidationError as error:
        raise SettingsError(f"{source}: {_explain(error)}") from None
    if not _NAME.fullmatch(recipe.name) or ".." in recipe.name:
        raise SettingsError(f"{source}: name must be letters, digits and ._+- alone, got {recipe.name!r}")
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
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(recipe.seed)
            return REGISTRATION_NETS[recipe.network](ndim, **recipe.network_settings)
    except (TypeError, ValueError, KeyError) as error:
        text = str(error.args[0]) if error.args else str(error)
        place = source or f"recipe {recipe.name}"
        raise SettingsError(f"{place}: {recipe.network} cannot be built in {ndim}-D: {text}") from None


def check_recipe(recipe: Recipe, source: str) -> None:
    """Refuse a recipe whose network or losses do not exist or do not take these options.

    Raises
    ------
    SettingsError
        As for `load_recipe`.
    """
    _check_network(recipe.network, recipe.network_settings, f"{source}: network", f"{source}: in network_settings")
    _check_term(SIMILARITIES, recipe.similarity, f"{source}: similarity")
    _check_term(LABEL_LOSSES, recipe.labels, f"{source}: labels")
    for key, registry in (
        ("regularisers", REGULARISERS),
        ("affine_regularisers", AFFINE_REGULARISERS),
        ("consistency", CONSISTENCY),
    ):
        for place, term in enumerate(getattr(recipe, key)):
            _check_term(registry, term, f"{source}: {key}.{place}")
    build_network(recipe, 2, source)


def check_cases(recipe: Recipe, cases: Sequence[Case], *, predicted: bool = False) -> None:
    """Refuse cases with which a recipe cannot train; `predicted` label maps teach beside those of the atlases.

    Raises
    ------
    CallError
        If there are too few cases, or subjects, or labelled cases, for the pairs that the recipe wants.
    """
    subjects = {case.subject for case in cases}
    name, atlases = recipe.name, sum(case.role == "atlas" for case in cases)
    if recipe.supervision == "labels" and atlases < (1 if predicted else 2):
        wanted = "one case" if predicted else "two cases"
        raise CallError(f"recipe {name} learns from labels: name {wanted} or more with --atlases, got {atlases}")
    if not cases:
        raise CallError("no case is left to train on; cases with the role test train only if --cases names them")
    if recipe.supervision == "warps":
        return
    if recipe.pairs == "within" and len(subjects) == len(cases):
        raise CallError(f"recipe {name} registers cases of one subject, and no subject has two")
    if recipe.pairs == "inter" and len(subjects) < 2:
        raise CallError(f"recipe {name} registers two subjects, and there is only one to train on")


def _check_network(name: str, settings: Mapping[str, Any], name_at: str, settings_at: str) -> None:
    check_named(REGISTRATION_NETS, name, settings, name_at, f"{settings_at} of {name}")
    for key, options in _NESTED.items():
        nested = option_of(REGISTRATION_NETS[name], settings, key)
        if isinstance(nested, str):
            own = settings.get(options) or {}
            _check_network(nested, own, f"{settings_at}: {key}", f"{settings_at}.{options}")


def _check_term(registry: Mapping[str, Any], term: Term, place: str) -> None:
    check_named(registry, term.name, term.options, f"{place}.name", f"{place}.options of {term.name}")


def _explain(error: ValidationError) -> str:
    """One sentence for the first thing wrong: key, value and rule, or the nearest known key."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] == "unexpected_keyword_argument":
        return unknown_key(path[-1], _known_keys(path[:-1]), ".".join(path[:-1]))
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error":
        text = first["msg"].removeprefix("Value error, ")
        return f"{where}: {text}" if where else text
    return f"{where} = {first['input']!r} is wrong: {first['msg'].lower()}"


def _known_keys(path: Sequence[str]) -> list[str]:
    kind: Any = Recipe
    for part in path:
        if not part.isdigit():
            hint = get_type_hints(kind)[part]
            kind = next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), hint)
    return [item.name for item in fields(kind)]


__all__ = [
    "build_network",
    "check_cases",
    "check_recipe",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
    "recipe_data",
    "recipe_names",
]
