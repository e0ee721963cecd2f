"""The one YAML file that settings come from: read, checked, explained, and printed with its defaults."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tasks.settings import ConditionalSettings, FewShotSettings, Route, Segmenter, SettingsError
from tasks.wording import rule_of
from tasks.yaml_file import read_yaml

_MOST_LETTERS = 100


def load_settings(path: Path | None) -> FewShotSettings:
    """Settings of a YAML file, defaults where it is silent; all defaults without a file.

    Raises
    ------
    SettingsError
        If the file cannot be read (see `tasks.yaml_file.read_yaml`), is no mapping, has an unknown key (the nearest
        known one is named) or a value against its rule.
    """
    if path is None:
        return FewShotSettings()
    data = read_yaml(path, f"settings {path}")
    if data is None:
        return FewShotSettings()
    if not isinstance(data, dict):
        raise SettingsError(f"settings {path}: a mapping of sections is expected, got a {type(data).__name__}")
    return parse_settings({key: {} if value is None else value for key, value in data.items()}, str(path))


def parse_settings(data: Mapping[str, Any], source: str) -> FewShotSettings:
    """Settings from plain data; `source` is named in errors.

    Raises
    ------
    SettingsError
        As for `load_settings`.
    """
    try:
        return FewShotSettings.model_validate(data)
    except ValidationError as error:
        raise SettingsError(f"settings {source}: " + explain(error, FewShotSettings)) from None


def asked_for(
    settings: FewShotSettings,
    *,
    rule: str | None = None,
    correct: bool | None = None,
    route: str | None = None,
    segmenter: str | None = None,
    by: str | None = None,
    at: Sequence[str] = (),
    participants: Path | None = None,
) -> FewShotSettings:
    """The settings with what the command line asks for beside them; None leaves what they say.

    Another fusion rule comes with its own defaults.

    Raises
    ------
    SettingsError
        If there is no route or segmenter of that name, or values are asked for that are not `column=value,value`.
    """
    for name, value, known in (("route", route, get_args(Route)), ("segmenter", segmenter, get_args(Segmenter))):
        if value is not None and value not in known:
            nearest = get_close_matches(value, known, n=1, cutoff=0.0)[0]
            raise SettingsError(f"--{name} must be one of {', '.join(known)}, got {value!r}; the nearest is {nearest}")
    fuse: dict[str, Any] = {} if rule in (None, settings.fuse.rule) else {"rule": rule, "options": {}}
    fuse |= {} if correct is None else {"correct": correct}
    changes = {
        "fuse": fuse,
        "register_": {} if route is None else {"route": route},
        "segment": {} if segmenter is None else {"segmenter": segmenter},
        "template": _conditional(settings.template.conditional, by, at or (), participants),
    }
    sections = {name: getattr(settings, name).model_copy(update=change) for name, change in changes.items() if change}
    return settings.model_copy(update=sections)


def _conditional(
    settings: ConditionalSettings, by: str | None, at: Sequence[str], participants: Path | None
) -> dict[str, Any]:
    """What the command line asks for beside the settings of a conditional template."""
    change: dict[str, Any] = {} if participants is None else {"participants": participants.expanduser().absolute()}
    if by is not None:
        change["by"] = [name.strip() for name in by.split(",") if name.strip()]
    asked: dict[str, list[float | str]] = {}
    for text in at:
        name, _, values = text.partition("=")
        found = [value.strip() for value in values.split(",") if value.strip()]
        if not name.strip() or not found:
            raise SettingsError(f"--at must be COLUMN=VALUE,VALUE,…, such as age=60,70, got {text!r}")
        asked.setdefault(name.strip(), []).extend(found)
    change |= {"at": asked} if asked else {}
    return {"conditional": settings.model_copy(update=change)} if change else {}


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One sentence for the first thing wrong: key, value and rule, or the nearest known key."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return unknown_key(path[-1], _known_keys(model, path[:-1]), ".".join(path[:-1]))
    return f"{'.'.join(path)} = {_shortened(first['input'])} is wrong: {rule_of(first)}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def known_names(name: str, known: Sequence[str]) -> str:
    """The known names, and the one that is nearest to `name`."""
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    return f"known: {', '.join(sorted(known)) or 'none'}{hint}"


def unknown_key(key: str, known: list[str], section: str = "") -> str:
    """Sentence about a key nobody knows, with the nearest known one."""
    prefix = f"{section}." if section else ""
    nearest = get_close_matches(key, known, n=1, cutoff=0.0)
    hint = f"the nearest known key is {prefix}{nearest[0]}" if nearest else "there are no keys here"
    return f"unknown key {prefix}{key}; {hint}"


def default_yaml() -> str:
    """The default settings as a commented YAML file."""
    lines = ["# Settings of a run: every key is optional, these are the defaults."]
    for name, section in FewShotSettings.model_fields.items():
        lines += ["", *_lines_of(section.alias or name, section.default, "")]
    return "\n".join(lines) + "\n"


def _lines_of(name: str, section: BaseModel, indent: str) -> list[str]:
    """A section with a line a key; sections within it likewise."""
    lines = [f"{indent}{name}:  # {(type(section).__doc__ or '').strip()}"]
    for key, item in type(section).model_fields.items():
        if isinstance(item.default, BaseModel):
            lines += _lines_of(key, item.default, f"{indent}  ")
            continue
        value = yaml.safe_dump(item.default, default_flow_style=True).removesuffix("\n...\n").strip()
        lines.append(f"{indent}  {key}: {value}".ljust(34) + f"  # {item.description}")
    return lines


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        model = type(fields[part].default)
    return [field.alias or name for name, field in model.model_fields.items()]
