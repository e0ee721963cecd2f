"""Tables of change: volumes, rates, floors, models and drift, from the records of a run alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from covoxel.longitudinal import Line, fit_model, floor_of, percent_of, rate_of, robust_line, scatter_of
from tasks.follow import BY_JACOBIAN, BY_LABELS, STAGE
from tasks.participants import Known, covariates_of, wanted_columns
from tasks.study import Study
from tasks.subjects import Subject, day_of, subjects_of
from tasks.summary import structure_name

METHODS = (BY_LABELS, BY_JACOBIAN)
VOLUMES = ["subject", "session", "id", "date", "years", "label", "structure", "volume_mm3", "jacobian_volume_mm3"]
RATES = ["subject", "label", "structure", "from", "visits", "years", "percent_per_year", "low", "high", "note"]
FLOORS = ["label", "structure", "from", "sd_percent", "smallest_change_percent", "source", "count"]
MODELS = [
    *("label", "structure", "from", "model", "term", "percent", "low", "high", "p"),
    *("subjects", "visits", "note"),
]
DRIFT = ["subject", "id", "label", "structure", "from", "before_mm3", "after_mm3", "percent", "added", "above_floor"]


@dataclass(frozen=True)
class Tables:
    """The five tables of a study; the columns are the constants of this module."""

    volumes: pd.DataFrame
    rates: pd.DataFrame
    floors: pd.DataFrame
    models: pd.DataFrame
    drift: pd.DataFrame


def tables_of(study: Study, known: Known) -> Tables:
    """All tables; `known` are the covariates."""
    volumes = pd.DataFrame(_volume_rows(study), columns=VOLUMES)
    rates, floors, models = [], [], []
    for (label, structure), rows in volumes.groupby(["label", "structure"], sort=True):
        for method in METHODS:
            names = {"label": label, "structure": structure, "from": method}
            measured = rows.assign(volume_mm3=rows[_column(method)])
            lines = {subject: _line(visits) for subject, visits in measured.groupby("subject", sort=False)}
            told = [line for line in lines.values() if line is not None]
            scatter, freedom = scatter_of(told)
            floor = floor_of(_same_day(measured), scatter, freedom)
            floors.append(names | _floor(floor))
            rates += [names | _rate_row(subject, measured, line, scatter, freedom) for subject, line in lines.items()]
            models += [names | row for row in _model_rows(study, measured, known)]
    frames = (pd.DataFrame(rows, columns=c) for rows, c in ((rates, RATES), (floors, FLOORS), (models, MODELS)))
    rate, floor_table, model = frames
    return Tables(volumes, rate, floor_table, model, _drift(study, floor_table))


def _column(method: str) -> str:
    return "volume_mm3" if method == BY_LABELS else "jacobian_volume_mm3"


def _volume_rows(study: Study) -> Iterable[dict[str, Any]]:
    for subject in subjects_of(study):
        record, years = study.record(STAGE, subject.key), subject.years
        followed = {} if record is None else record.facts["visits"]
        for case in (case for case in subject.visits if case.id in followed):
            found, day = followed[case.id], day_of(case)
            for label, volume in sorted(found[BY_LABELS].items(), key=lambda item: int(item[0])):
                yield {
                    "subject": subject.name,
                    "session": case.session or None,
                    "id": case.id,
                    "date": None if day is None else day.isoformat(),
                    "years": years.get(case.id),
                    "label": int(label),
                    "structure": structure_name(study, int(label)),
                    "volume_mm3": volume,
                    "jacobian_volume_mm3": found[BY_JACOBIAN][label],
                }


def _line(visits: pd.DataFrame) -> Line | None:
    """Line of one subject and structure; None without a dated visit at which the structure is."""
    sound = visits[visits["years"].notna() & (visits["volume_mm3"] > 0)]
    if sound.empty:
        return None
    return robust_line([float(t) for t in sound["years"]], [float(v) for v in sound["volume_mm3"]])


def _same_day(measured: pd.DataFrame) -> list[list[float]]:
    """Volumes of visits of one subject on one day, where there are several."""
    sound = measured[measured["date"].notna() & (measured["volume_mm3"] > 0)]
    days = [[float(v) for v in rows["volume_mm3"]] for _, rows in sound.groupby(["subject", "date"])]
    return [volumes for volumes in days if len(volumes) > 1]


def _rate_row(
    subject: object, measured: pd.DataFrame, line: Line | None, scatter: float | None, freedom: int
) -> dict[str, Any]:
    own = measured[measured["subject"] == subject]
    dated = own[own["years"].notna()]
    rate = None if line is None else rate_of(line, scatter, freedom)
    return {
        "subject": subject,
        "visits": len(dated),
        "years": float(dated["years"].max()) if len(dated) else None,
        "percent_per_year": None if rate is None else rate.percent,
        "low": None if rate is None else rate.low,
        "high": None if rate is None else rate.high,
        "note": _why_none(own, dated) if rate is None else _remark(own, dated),
    }


def _why_none(own: pd.DataFrame, dated: pd.DataFrame) -> str:
    if len(own) < 2:
        return "one visit only"
    if dated["years"].nunique() < 2:
        return "no two visits have different dates"
    return "the structure was not found at two dates"


def _remark(own: pd.DataFrame, dated: pd.DataFrame) -> str | None:
    left_out = len(own) - len(dated)
    return f"{left_out} visits without a date take no part" if left_out else None


def _floor(floor: Any) -> dict[str, Any]:
    return {
        "sd_percent": floor.percent,
        "smallest_change_percent": floor.smallest_change_percent,
        "source": floor.source,
        "count": floor.count,
    }


def _model_rows(study: Study, measured: pd.DataFrame, known: Known) -> Sequence[dict[str, Any]]:
    """A row an effect of the mixed model, or one that says why there is none."""
    settings = study.call.settings.longitudinal
    table = measured.copy()
    for name in wanted_columns(settings):
        pairs = zip(table["subject"], table["session"], strict=True)
        table[name] = [covariates_of(known, who, when or "").get(name, np.nan) for who, when in pairs]
    fitted = fit_model(table, settings.covariates, settings.group)
    common = {"model": fitted.kind, "subjects": fitted.subjects, "visits": fitted.visits}
    note = "; ".join(fitted.notes) or None
    rows = [
        common
        | {"term": e.term, "percent": percent_of(e.estimate), "low": percent_of(e.low), "high": percent_of(e.high)}
        | {"p": e.p, "note": note}
        for e in fitted.effects
        if e.term != "Intercept"
    ]
    return rows or [common | {"note": note}]


def _drift(study: Study, floors: pd.DataFrame) -> pd.DataFrame:
    """How far visits that were added moved earlier volumes, against the smallest change that is more than scatter."""
    least = {(row["label"], row["from"]): row["smallest_change_percent"] for row in floors.to_dict("records")}
    rows = []
    for subject in subjects_of(study):
        record = study.record(STAGE, subject.key)
        for entry in [] if record is None else record.facts["drift"]:
            rows.append(_drift_row(study, subject, entry, least))
    return pd.DataFrame(rows, columns=DRIFT)


def _drift_row(
    study: Study, subject: Subject, entry: Mapping[str, Any], least: Mapping[tuple[int, str], float | None]
) -> dict[str, Any]:
    before, after = entry["before_mm3"], entry["after_mm3"]
    percent = 100 * (after / before - 1) if before > 0 else None
    floor = least.get((entry["label"], entry["from"]))
    is_above = abs(percent) > floor if percent is not None and floor is not None and not np.isnan(floor) else None
    return dict(entry) | {
        "subject": subject.name,
        "structure": structure_name(study, entry["label"]),
        "percent": percent,
        "above_floor": is_above,
    }
