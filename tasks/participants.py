"""Participants: what is known of each subject, or of each visit, beside the images; from `participants.tsv`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from covoxel.io import read_table
from data_catalog.schema import nearest
from tasks.settings import LongitudinalSettings, SettingsError

if TYPE_CHECKING:
    from tasks.study import Study

SUBJECT_COLUMNS = ("participant_id", "subject")
SESSION_COLUMNS = ("session", "session_id")
_MOST_BYTES = 64 * 2**20

Known = Mapping[tuple[str, str], Mapping[str, Any]]
"""Covariates by subject and session; the session "" stands for all visits of the subject."""


def participants_of(study: "Study") -> Known:
    """Covariates that the settings of a longitudinal study ask for.

    Raises
    ------
    SettingsError
        If covariates are asked for and there is no table, it cannot be read, lacks a column or has a row twice.
    """
    settings = study.call.settings.longitudinal
    wanted = wanted_columns(settings)
    if not wanted:
        return {}
    path = settings.participants or table_beside(study.call.cohort)
    return read_participants(path, wanted, "longitudinal.covariates or group ask")


def read_participants(path: Path, wanted: list[str], asks: str) -> Known:
    """Covariates of a table.

    Parameters
    ----------
    path
        Of the table.
    wanted
        Columns.
    asks
        Who asks for them, for errors.

    Raises
    ------
    SettingsError
        If it cannot be read, lacks a column or has a row twice.
    """
    table = _table(path, wanted, asks)
    who = next((name for name in SUBJECT_COLUMNS if name in table), None)
    missing = [name for name in wanted if name not in table]
    if who is None or missing:
        lost = missing[0] if missing else SUBJECT_COLUMNS[0]
        columns = [str(name) for name in table.columns]
        raise SettingsError(f"{path.name} has no column {lost!r}; {nearest(lost, columns)}")
    when = next((name for name in SESSION_COLUMNS if name in table), None)
    return _rows(path, table, who, when, wanted)


def wanted_columns(settings: LongitudinalSettings) -> list[str]:
    """Names of the covariates and of the group, each once."""
    return list(dict.fromkeys([*settings.covariates, *([settings.group] if settings.group else [])]))


def covariates_of(known: Known, subject: str, session: str) -> Mapping[str, Any]:
    """What is known of a visit: of it alone before of all visits of its subject."""
    return {**_lookup(known, subject, ""), **_lookup(known, subject, session)}


def _lookup(known: Known, subject: str, session: str) -> Mapping[str, Any]:
    """A row by its names as they are, or with or without the prefixes of BIDS."""
    people = dict.fromkeys((subject, subject.removeprefix("sub-"), f"sub-{subject}"))
    times = dict.fromkeys((session, session.removeprefix("ses-"), f"ses-{session}")) if session else ("",)
    return next((known[who, when] for who in people for when in times if (who, when) in known), {})


def table_beside(cohort: Path) -> Path:
    """Where the table of a cohort is looked for."""
    return (cohort if cohort.is_dir() else cohort.parent) / "participants.tsv"


def _table(path: Path, wanted: list[str], asks: str) -> pd.DataFrame:
    try:
        return read_table(path, text=SUBJECT_COLUMNS + SESSION_COLUMNS, most_bytes=_MOST_BYTES)
    except OSError as error:
        raise SettingsError(
            f"{asks} for {', '.join(wanted)}, and the table {path.name} cannot be read: {error.strerror}"
        ) from None
    except ValueError as error:
        raise SettingsError(f"{path.name}: {error}") from None


def _rows(path: Path, table: pd.DataFrame, who: str, when: str | None, wanted: list[str]) -> Known:
    known: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table.to_dict("records"):
        session = row[when] if when is not None and isinstance(row[when], str) else ""
        key = str(row[who]), session
        if key in known:
            raise SettingsError(f"{path.name} has {key[0]!r} twice; a subject, or a visit, must have one row")
        known[key] = {name: row[name] for name in wanted if not pd.isna(row[name])}
    return known
