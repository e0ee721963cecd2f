"""Report: one page for people, from records and figures alone."""

import math
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from prefect import task

from covoxel import __version__
from covoxel.fusion.facts import CLEAN
from covoxel.fusion.planted import OF_THE_IMAGE
from covoxel.io import write_text
from covoxel.registration import ENGINES
from covoxel.report import (
    AtlasRow,
    CalibrationPoint,
    CaseReport,
    CurvePoint,
    Gap,
    Guard,
    LearningPoint,
    Report,
    Stage,
    StructureRow,
    render,
)
from covoxel.training.registration import Recipe
from tasks.calibrate import leave_one_out, selector_of
from tasks.components import option_of
from tasks.correction import correction_notes, correction_of
from tasks.flags import flags_of
from tasks.job import COHORT, keep_tracebacks
from tasks.library import library_notes
from tasks.options import TASK_OPTIONS
from tasks.recipe import load_recipe
from tasks.report_joint import joint_case, joint_components, joint_notes, joint_report
from tasks.settings import FewShotSettings
from tasks.study import Study
from tasks.summary import status_of, structure_name, template_of, write_tables

T = TypeVar("T")

PACKAGES = ("torch", "numpy", "nibabel", "SimpleITK", "prefect")


@task(task_run_name="tables and report", **TASK_OPTIONS)
def write_report(study: Study) -> None:
    """Write the tables and `report/index.html`."""
    write_tables(study)
    guard = Guard()
    write_text(study.layout.report, render(report_of(study, guard), guard=guard))
    keep_tracebacks(study.call.output, "report", guard.tracebacks)
    study.reported = True


def report_of(study: Study, guard: Guard) -> Report:
    """Everything the page shows; what cannot be worked out is a gap that `guard` knows, and a note."""
    settings = study.call.settings
    cases = [*study.selected, *(atlas for atlas in study.cohort.atlases if atlas not in study.selected)]
    rows = [_case(study, case.id, case.role) for case in cases if case in study.selected or case.id in study.set_aside]
    rows += [_case(study, rejected.id, "") for rejected in study.cohort.rejected]
    joint = guard.one("The section on networks", lambda: joint_report(study))
    return Report(
        title=settings.report.title or f"Segmentation of {study.cohort.name}",
        cases=tuple(rows),
        cohort=study.cohort.name,
        stages=tuple(_stage(study, name) for name, records in study.records.items() if records),
        components=(
            *_components(settings),
            *(["template-route"] if study.through_template else []),
            *(["template-library"] if study.has_library else []),
            *(["correction"] if correction_of(study) else []),
            *joint_components(study),
        ),
        settings=_settings(settings),
        versions=_versions(),
        device=study.device,
        calibration=_known(guard.many("The calibration", lambda: _calibration(study))),
        atlas_curve=_known(guard.many("The Dice against the number of atlases", lambda: _curve(study))),
        learning=_known(guard.many("The learning curve", lambda: _learning(study))),
        joint=None if isinstance(joint, Gap) else joint,
        notes=(*_notes(study), *(gap.sentence for gap in guard.gaps)),
    )


def _known(parts: tuple[T | Gap, ...]) -> tuple[T, ...]:
    return tuple(part for part in parts if not isinstance(part, Gap))


def _settings(settings: FewShotSettings) -> dict[str, Any]:
    """The settings, with the names of folders and not where they lie."""
    data = settings.model_dump(mode="json", by_alias=True)
    for section, key in (("register", "model"), ("register", "labels"), ("train", "labels"), ("segment", "model")):
        if data[section][key] is not None:
            data[section][key] = Path(data[section][key]).name
    return data


def _network(settings: FewShotSettings) -> Recipe | None:
    """Recipe of the network that registers, if one does."""
    folder = settings.register_.model
    return None if folder is None else load_recipe(folder / "recipe.yaml")


def _components(settings: FewShotSettings) -> tuple[str, ...]:
    """What ran, in its order, for the methods text."""
    engine, options = settings.register_.engine, settings.register_.options
    network = _network(settings)
    aligned = engine == "svf" or (network is not None and network.alignment == "affine")
    before = (("n4",) if settings.preprocess.bias else ()) + (("affine",) if aligned else ())
    drive = "drive" if option_of(ENGINES[engine], options, "drive") == "mind" else "similarity"
    similarities = (option_of(ENGINES[engine], options, name) for name in ("affine_similarity", drive))
    return (*before, engine, *(str(name) for name in similarities if name), settings.fuse.rule)


def _case(study: Study, case: str, role: str) -> CaseReport:
    status, reason = status_of(study, case)
    final, registered = study.final(case), study.record("register", case)
    regularity = list(registered.facts["transforms"].values()) if registered else []
    worst = max(regularity, key=lambda item: item["folded_percent"] or 0.0, default=None)
    return CaseReport(
        id=case,
        status=status,
        reason=reason,
        role=role,
        predicted_dice=final.facts["quality"] if final and role != "atlas" else None,
        confidence=final.facts["certainty"] if final and role != "atlas" else None,
        folded_percent=worst["folded_percent"] if worst else None,
        sd_log_jacobian=worst["sd_log_jacobian"] if worst else None,
        seconds=sum(records[case].seconds for records in study.records.values() if case in records),
        flags=tuple(flags_of(study, case)),
        rows=_structures(study, case, role),
        **_figures(study, case),
        template=template_of(study, case) or "",
        **_fusion(study, case, role),
        **joint_case(study, case, role),
    )


def _fusion(study: Study, case: str, role: str) -> dict[str, Any]:
    """The rule of a case, what was predicted of each, and what each atlas was worth."""
    fused = study.record("fuse", case)
    if fused is None or role == "atlas":
        return {}
    facts = fused.facts
    atlases = [AtlasRow(name, **values) for name, values in facts["atlases"].items()]
    atlases += [AtlasRow(name, rejected=reason) for name, reason in facts["rejected"].items()]
    return {
        "rule": facts["rule"],
        "rule_reason": facts["reason"],
        "predicted_by_rule": facts["predicted"] if len(facts["predicted"]) > 1 else {},
        "atlases": tuple(sorted(atlases, key=lambda row: row.id)),
    }


def _calibration(study: Study) -> tuple[CalibrationPoint, ...]:
    """Leave-one-out: the best rule's result on each atlas, predicted by what the other atlases taught.

    Without those of which the image was spoilt: they are predicted too low on purpose, and nothing is learnt from them.
    """
    best = selector_of(study).favourites[0]
    return tuple(
        CalibrationPoint(fact.case, fact.rule, predicted, fact.dice, planted=fact.kind != CLEAN)
        for fact, predicted in leave_one_out(study)
        if fact.rule == best and fact.kind not in OF_THE_IMAGE
    )


def _curve(study: Study) -> tuple[CurvePoint, ...]:
    """Mean Dice of the vote on the atlases against the number of others, with its 95 % interval."""
    curves = [record.facts["curve"] for _, record in sorted(study.records.get("calibrate", {}).items())]
    points = []
    for count in sorted({int(count) for curve in curves for count in curve}):
        dice = [curve[str(count)] for curve in curves if curve.get(str(count)) is not None]
        mean = sum(dice) / len(dice) if dice else None
        if mean is not None:
            variance = sum((value - mean) ** 2 for value in dice) / max(1, len(dice) - 1)
            reach = 1.96 * math.sqrt(variance / len(dice))
            points.append(CurvePoint(count, mean, mean - reach, mean + reach))
    return tuple(points)


def _learning(study: Study) -> tuple[LearningPoint, ...]:
    record = study.record("learn", COHORT)
    curve = [] if record is None else record.facts["curve"]
    return tuple(LearningPoint(point["step"], point["loss"]) for point in curve if point["loss"] is not None)


def _structures(study: Study, case: str, role: str) -> tuple[StructureRow, ...]:
    final, scored = study.final(case), study.record("evaluate", case)
    if final is None:
        return ()
    scores: dict[str, Any] = dict(scored.facts["dice"]) if scored else {}
    per_ml = 1000.0 if final.facts["ndim"] == 3 else 100.0
    return tuple(
        StructureRow(
            label=int(label),
            structure=structure_name(study, int(label)) if int(label) in study.cohort.label_names else "",
            volume_ml=final.facts["volumes_mm3"].get(label, 0.0) / per_ml,
            dice=scores.get(label),
            confidence=final.facts["confidence"].get(label) if role != "atlas" else None,
        )
        for label in sorted({*final.facts["volumes_mm3"], *scores}, key=int)
    )


def _figures(study: Study, case: str) -> dict[str, Any]:
    """Figures of a case, and sentences in the place of those that could not be drawn or read."""
    record, guard = study.record("figures", case), Guard()
    if record is None:
        return {}
    paths = {name: study.layout.figure(case, name) for name in record.facts["figures"]}
    read = {name: guard.one(f"The figure {name}", path.read_bytes) for name, path in paths.items()}
    return {
        "figures": {name: data for name, data in read.items() if isinstance(data, bytes)},
        "gaps": (*record.facts["gaps"], *(gap.sentence for gap in guard.gaps)),
    }


def _stage(study: Study, name: str) -> Stage:
    """A stage, with the seconds of its work added over cases, whichever run did it: a rerun does not change them."""
    records, computed = study.records[name], study.computed.get(name, 0)
    return Stage(name, sum(record.seconds for record in records.values()), computed, len(records) - computed)


def _notes(study: Study) -> tuple[str, ...]:
    atlases = ", ".join(case.id for case in study.atlases)
    notes = [f"Labels come from {len(study.atlases)} atlases alone: {atlases}."]
    if any(study.records.values()):
        notes.append("Times are of the work itself, added over cases, whichever run did it.")
    network = _network(study.call.settings)
    if network is not None:
        notes.append(f"The network {network.name} was trained before: {network.method}")
    notes += (*correction_notes(study), *joint_notes(study))
    if study.call.settings.register_.labels is not None:
        notes.append("Predicted label maps drove the registrations beside the images; they score nothing.")
    notes += library_notes(study)
    if study.calibrates:
        notes += selector_of(study).flags
    if study.truth is None:
        notes.append("No true labels were given (--evaluate), so no Dice is shown.")
    return tuple(notes)


def _versions() -> dict[str, str]:
    versions = {"covoxel": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
