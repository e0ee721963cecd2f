"""Reading a recipe: a YAML file becomes a frozen dataclass, or one sentence says what is wrong in it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from covoxel.training.registration.recipe import Term
from tasks.components import check_named
from tasks.settings import SettingsError
from tasks.settings_file import read_yaml, unknown_key

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

R = TypeVar("R")


def read_mapping(path: Path, source: str) -> dict[str, Any]:
    """The keys of a recipe's file; without a key `name` it is called as the file is. `source` is named in errors.

    Raises
    ------
    SettingsError
        If the file cannot be read, is over 1 MB or no YAML mapping.
    """
    data = read_yaml(path, source)
    if not isinstance(data, dict):
        raise SettingsError(f"{source}: a mapping of keys is expected, got a {type(data).__name__}")
    return {"name": path.stem} | data


def parse(kind: type[R], data: Mapping[str, Any], source: str) -> R:
    """A recipe of a kind, which is a dataclass, from plain data; `source` is named in errors.

    Raises
    ------
    SettingsError
        If a key is unknown (the nearest known one is named) or missing, or a value against its rule.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(data))
    except ValidationError as error:
        raise SettingsError(f"{source}: {_explain(error, kind)}") from None


def check_name(name: str, source: str) -> None:
    """Refuse the name of a recipe that cannot be the name of a folder.

    Raises
    ------
    SettingsError
        If it has other characters than letters, digits and ._+-.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise SettingsError(f"{source}: name must be letters, digits and ._+- alone, got {name!r}")


def check_term(registry: Mapping[str, Any], term: Term, place: str) -> None:
    """Refuse a loss that there is not, or that does not take these options; `place` is named in errors.

    Raises
    ------
    SettingsError
        As for `tasks.components.check_named`.
    """
    check_named(registry, term.name, term.options, f"{place}.name", f"{place}.options of {term.name}")


def plain(value: Any) -> Any:
    """Lists and dictionaries alone, as YAML and JSON have them."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def _explain(error: ValidationError, kind: type) -> str:
    """One sentence for the first thing wrong: key, value and rule, or for a key nobody knows the nearest known one."""
    errors = error.errors(include_url=False)
    first = next((each for each in errors if each["type"] == "unexpected_keyword_argument"), errors[0])
    path = [str(part) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] == "unexpected_keyword_argument":
        return unknown_key(path[-1], _known_keys(kind, path[:-1]), ".".join(path[:-1]))
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] == "value_error":
        text = first["msg"].removeprefix("Value error, ")
        return f"{where}: {text}" if where else text
    return f"{where} = {first['input']!r} is wrong: {first['msg'].lower()}"


def _known_keys(kind: Any, path: Sequence[str]) -> list[str]:
    for part in path:
        if not part.isdigit():
            hint = get_type_hints(kind)[part]
            kind = next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), hint)
    return [item.name for item in fields(kind)]
