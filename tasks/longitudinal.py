"""Longitudinal: the tables and the page of how things changed, from the records of a run alone."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from prefect import task

from covoxel.fusion import FUSION_RULES
from covoxel.io import write_table, write_text
from covoxel.manifest import Record
from covoxel.report import Guard, LongitudinalReport, StructureChange, Trace, render_longitudinal
from tasks.change_tables import METHODS, MODELS, RATES, Tables, tables_of
from tasks.components import check_component
from tasks.flags import FOLDS_FLAG_PERCENT, volume_flags
from tasks.follow import STAGE as FOLLOW
from tasks.job import keep_tracebacks
from tasks.options import TASK_OPTIONS
from tasks.participants import Known, participants_of
from tasks.study import Study
from tasks.subjects import flag_dates, subjects_of
from tasks.summary import Summary, status_of, summary_of
from tasks.visit_network import check_visit_network
from tasks.within import STAGE as WITHIN

PAGE = "index.html"
CASES = ["id", "subject", "status", "reason", "likeness", "folded_percent", "displacement_mm", "flags"]
UNLIKE = 0.5


def check_longitudinal(study: Study) -> Known:
    """Covariates of the study, after all that is asked of it was held against what there is.

    Raises
    ------
    SettingsError
        If the rule does not exist, the network cannot be used, or covariates are asked for that are not there.
    """
    check_visit_network(study)
    check_component(FUSION_RULES, study.call.settings.longitudinal.rule, {}, "longitudinal", "rule")
    return participants_of(study)


@task(task_run_name="tables and page of change", **TASK_OPTIONS)
def write_longitudinal(study: Study, known: Known) -> None:
    """Write `longitudinal/`: volumes, rates, floor, model and drift as tables, and the page."""
    flag_dates(study)
    _flag_fits(study)
    _flag_volumes(study)
    tables = tables_of(study, known)
    for name, table in (
        ("volumes", tables.volumes),
        ("rates", tables.rates),
        ("floor", tables.floors),
        ("model", tables.models),
        ("drift", tables.drift),
    ):
        write_table(study.layout.longitudinal(f"{name}.tsv"), table)
    write_table(study.layout.longitudinal("cases.tsv"), _cases(study))
    guard = Guard()
    write_text(study.layout.longitudinal(PAGE), render_longitudinal(_report(study, tables), guard))
    keep_tracebacks(study.call.output, "longitudinal", guard.tracebacks)


def _cases(study: Study) -> pd.DataFrame:
    """What became of each visit, and how it lies on the template of its subject."""
    fits = {name: fit for _, record in sorted(study.records[WITHIN].items()) for name, fit in _found(record).items()}
    subjects = {case.id: case.subject for case in study.cohort.cases}
    rows = []
    for name in [*(case.id for case in study.selected), *(rejected.id for rejected in study.cohort.rejected)]:
        status, reason = status_of(study, name)
        row = {"id": name, "subject": subjects.get(name), "status": status, "reason": reason or None}
        rows.append({**row, **fits.get(name, {}), "flags": "; ".join(study.flags.get(name, ())) or None})
    return pd.DataFrame(rows, columns=CASES)


def _found(record: Record) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = record.facts["found"]
    return found


def longitudinal_summary(study: Study) -> Summary:
    """How the run ended."""
    told = summary_of(study)
    return Summary(**{**vars(told), "report": str(study.layout.longitudinal(PAGE))})


def _flag_fits(study: Study) -> None:
    """Remark on visits that do not lie well on the template of their subject."""
    for subject in subjects_of(study):
        record = study.record(WITHIN, subject.key)
        for case, fit in ({} if record is None else record.facts["found"]).items():
            if (fit["likeness"] or 0.0) < UNLIKE:
                study.flag(case, f"lies badly on its subject's template (correlation {fit['likeness'] or 0:.2f})")
            if (fit["folded_percent"] or 0.0) > FOLDS_FLAG_PERCENT:
                study.flag(case, f"{fit['folded_percent']:.2g} % of voxels fold")


def _flag_volumes(study: Study) -> None:
    """Remark on visits that lack a structure, or have one of a size that no atlas has."""
    for record in study.records.get(FOLLOW, {}).values():
        for case, facts in record.facts["visits"].items():
            for remark in volume_flags(study, facts["volumes_mm3"]):
                study.flag(case, remark)


def _report(study: Study, tables: Tables) -> LongitudinalReport:
    names = dict.fromkeys(zip(tables.volumes["label"], tables.volumes["structure"], strict=True))
    cases = [*(case.id for case in study.selected), *(rejected.id for rejected in study.cohort.rejected)]
    return LongitudinalReport(
        title=study.call.settings.report.title or f"Change in {study.cohort.name}",
        cohort=study.cohort.name,
        structures=tuple(_structure(tables, int(label), str(structure)) for label, structure in names),
        rate_columns=tuple(_heading(RATES)),
        model_columns=tuple(_heading(MODELS)),
        maps=_maps(study),
        problems={case: status_of(study, case)[1] for case in cases if status_of(study, case)[0] != "done"},
        notes=_notes(study, tables),
    )


def _structure(tables: Tables, label: int, structure: str) -> StructureChange:
    return StructureChange(
        name=structure,
        traces=_traces(tables.volumes[tables.volumes["label"] == label]),
        rates=_rows(tables.rates, label, RATES),
        models=_rows(tables.models, label, MODELS),
        floor=_floor(tables.floors[tables.floors["label"] == label]),
    )


def _heading(columns: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in columns if name not in ("label", "structure")]


def _rows(table: pd.DataFrame, label: int, columns: list[str]) -> tuple[tuple[str, ...], ...]:
    shown = [name for name in columns if name not in ("label", "structure")]
    return tuple(tuple(_cell(row[name]) for name in shown) for row in table[table["label"] == label].to_dict("records"))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _traces(volumes: pd.DataFrame) -> tuple[Trace, ...]:
    """Volumes of each subject by date, percent of the first."""
    traces = []
    for subject, rows in volumes[volumes["years"].notna()].groupby("subject", sort=False):
        rows = rows.sort_values("years", kind="stable")
        first = float(rows["volume_mm3"].iloc[0])
        if first > 0:
            pairs = zip(rows["years"], rows["volume_mm3"], strict=True)
            traces.append(Trace(str(subject), tuple((float(t), 100 * float(v) / first) for t, v in pairs)))
    return tuple(traces)


def _floor(floors: pd.DataFrame) -> str:
    words = []
    for row in floors.to_dict("records"):
        if row["smallest_change_percent"] is None or math.isnan(row["smallest_change_percent"]):
            words.append(
                f"from {row['from']}, the test-retest floor is unknown: no visits on one day, and no three dates"
            )
        else:
            words.append(
                f"from {row['from']}, a change between two visits below {row['smallest_change_percent']:.2g} % is no "
                f"more than scatter ({row['source']}, {row['count']})"
            )
    return "; ".join(words)


def _maps(study: Study) -> Mapping[str, bytes]:
    """Pictures of the change of each subject, as many as the settings let the report show."""
    maps = {}
    for subject in subjects_of(study)[: study.call.settings.report.figures]:
        record, path = study.record(FOLLOW, subject.key), study.layout.series(subject.key, "change.webp")
        if record is not None and path.relative_to(study.call.output).as_posix() in record.outputs:
            maps[subject.name] = path.read_bytes()
    return maps


def _notes(study: Study, tables: Tables) -> tuple[str, ...]:
    subjects = subjects_of(study)
    alone = sum(len(subject.visits) == 1 for subject in subjects)
    notes = [
        f"{len(subjects)} subjects, {sum(len(subject.visits) for subject in subjects)} visits; "
        f"volumes from {' and from the '.join(METHODS)} of the transforms."
    ]
    if alone:
        notes.append(f"{alone} subjects have one visit only and no rate.")
    if len(tables.drift):
        most = tables.drift["percent"].abs().max()
        notes.append(f"Later runs changed earlier volumes by {most:.2g} % at most (drift.tsv).")
    return tuple(notes)
