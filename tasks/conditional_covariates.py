"""Covariates of a conditional template: what is known of each case, and the values for which templates are asked."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from covoxel.atlas.conditional import CovariateError, Design, Value
from tasks.participants import covariates_of, read_participants, table_beside
from tasks.settings import ConditionalSettings, SettingsError, require

if TYPE_CHECKING:
    from tasks.study import Study

MOST_TEMPLATES = 100

Known = Mapping[str, Mapping[str, Value]]


def check_conditional(study: "Study") -> None:
    """Refuse covariates by which no template can be conditioned, and values for which there is none.

    Raises
    ------
    SettingsError
        If there is no table or column, a covariate says nothing, too few cases have it, or a value is wrong.
    """
    template = study.call.settings.template
    settings = template.conditional
    require(
        bool(settings.by) or not settings.at, "template.conditional.at (--at) needs covariates: name them with --by"
    )
    if not settings.by:
        return
    require(
        template.engine == "svf" and template.iterations > 0,
        "a template by covariates needs template.engine = 'svf' and template.iterations of 1 or more, got "
        f"{template.engine!r} and {template.iterations}",
    )
    known, _ = known_of(study, [case.id for case in study.selected])
    try:
        asked_values(Design.of(known, settings.by, degree=settings.degree), settings.at)
    except CovariateError as error:
        raise SettingsError(f"settings: template.conditional: {error}") from None


def known_of(study: "Study", cases: Sequence[str]) -> tuple[dict[str, dict[str, Value]], dict[str, str]]:
    """Covariates of the cases of which all are known, and why the others take no part, a sentence; both by id.

    Raises
    ------
    SettingsError
        As for `read_participants`.
    """
    settings = study.call.settings.template.conditional
    wanted = list(dict.fromkeys(settings.by))
    path = settings.participants or table_beside(study.call.cohort)
    table = read_participants(path, wanted, "template.conditional.by (--by) asks")
    people = {case.id: case for case in study.cohort.cases}
    known: dict[str, dict[str, Value]] = {}
    missing: dict[str, str] = {}
    for case in cases:
        found = covariates_of(table, people[case].subject, people[case].session)
        row = {name: value for name in wanted if (value := _value(found.get(name))) is not None}
        lost = [name for name in wanted if name not in row]
        if lost:
            missing[case] = f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'} not known of it"
        else:
            known[case] = row
    return known, missing


def _value(found: Any) -> Value | None:
    if found is None or found == "":
        return None
    if isinstance(found, str | bool):
        return str(found)
    value = float(found)
    return value if math.isfinite(value) else None


def asked_values(design: Design, at: Mapping[str, Sequence[float | str]]) -> dict[str, dict[str, Value]]:
    """Values for which templates are written, by the name of each template.

    Columns that are asked for are crossed with one another. If none is, each covariate is taken by itself: a number at
    both ends of the cohort and in the middle, a category at every level.

    Raises
    ------
    CovariateError
        If a value is unknown or too far outside the cohort, or they are too many.
    """
    if at:
        rows = [dict(zip(at, values, strict=True)) for values in product(*at.values())]
        found = [{name: _of_kind(design, name, value) for name, value in row.items()} for row in rows]
    else:
        found = [{name: value} for name in design.covariates for value in _usual(design, name)]
    if len(found) > MOST_TEMPLATES:
        raise CovariateError(
            f"templates for {len(found)} combinations of values are asked for, at most {MOST_TEMPLATES}"
        )
    named: dict[str, dict[str, Value]] = {}
    for values in found:
        design.row(values)
        design.outside(values)
        name = "_".join(f"{_plain(key)}-{_plain(value)}" for key, value in values.items())
        named[name if name not in named else f"{name}-{len(named)}"] = values
    return named


def asked_columns(conditional: ConditionalSettings) -> dict[str, list[float | str]]:
    """Values as plain data, each once."""
    return {name: list(dict.fromkeys(values)) for name, values in conditional.at.items()}


def _of_kind(design: Design, name: str, value: float | str) -> Value:
    """A value as the covariate has them: numbers come as text from the command line."""
    if name not in design.scales:
        return f"{value:g}" if isinstance(value, float | int) else value
    try:
        return float(value)
    except ValueError:
        raise CovariateError(f"{name} must be a number, got {value!r}") from None


def _usual(design: Design, name: str) -> list[Value]:
    if name in design.levels:
        return list(design.levels[name])
    scale = design.scales[name]
    low, high = float(math.ceil(scale.low)), float(math.floor(scale.high))
    if high - low < 4:
        return [scale.low, scale.mean, scale.high]
    return [low, float(round((low + high) / 2)), high]


def _plain(part: Value) -> str:
    """A part of a file name."""
    text = f"{part:g}" if isinstance(part, float) else part
    return re.sub(r"[^A-Za-z0-9.+-]", "-", text)[:40]
