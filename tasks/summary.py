"""Summary of a run: the tables, and how it ended. No times and no folders, so that equal runs give equal tables."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from covoxel import __version__
from covoxel.io import write_json, write_table
from covoxel.manifest import Record
from covoxel.metrics import summarise
from tasks import train_joint, train_registration
from tasks.register import remarks_of
from tasks.results import mean_known
from tasks.study import Study
from tasks.trainings import job_name

CASE_COLUMNS = ["id", "role", "status", "reason", "predicted_quality", "rule", "flags"]
JOINT_COLUMNS = ["agreement"]
"""Columns that the table of cases has as well where networks segment."""
ROUTE_COLUMNS = ["template"]
"""Columns that it has as well where the closest of several templates serves a case."""
VOLUME_COLUMNS = ["id", "label", "structure", "volume_mm3", "confidence"]
ATLAS_COLUMNS = ["id", "atlas", "likeness", "agreement", "trust", "left_out"]
METRIC_COLUMNS = ["id", "label", "structure", "dice"]
FOLDS_FLAG_PERCENT = 0.1
PAGE_ROWS = 500


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Parameters
    ----------
    done, failed, set_aside
        Number of cases.
    reasons
        Why, by case, for all that are not done.
    mean_dice
        Mean over cases of the mean over structures; None if nothing was scored.
    scored
        Number of scored cases.
    report
        Where the page is; empty if this run wrote none.
    model
        Where the network is that was trained; empty if this run trained none.
    training
        How the training went, in words.
    """

    done: int
    failed: int
    set_aside: int
    reasons: dict[str, str]
    mean_dice: float | None
    scored: int
    report: str
    model: str = ""
    training: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0 all done; 3 some failed or were set aside; 1 nothing was done."""
        if not self.failed and not self.set_aside:
            return 0
        return 3 if self.done else 1

    @property
    def lines(self) -> list[str]:
        """How it ended, in words."""
        lines = [f"{self.done} done, {self.failed} failed, {self.set_aside} set aside"]
        if self.mean_dice is not None:
            lines.append(f"mean Dice {self.mean_dice:.4f} over {self.scored} cases")
        lines += self.training
        if self.model:
            lines.append(f"model: {self.model}")
        if self.report:
            lines.append(f"report: {self.report}")
        return lines


def status_of(study: Study, case: str) -> tuple[str, str]:
    """Status ("done", "failed", "set aside") of a case in this run, and the reason."""
    if case in study.set_aside:
        return "set aside", study.set_aside[case]
    if case in study.failed:
        return "failed", study.failed[case]
    return "done", ""


def write_tables(study: Study) -> None:
    """Write `cases.tsv`, `volumes.tsv`, `atlases.tsv`, `metrics.tsv` (if scored) and `dataset_description.json`.

    Cases that this run was told to leave out keep their rows if an earlier run has finished them.
    """
    earlier = _earlier(study)
    rows, volumes, atlases, metrics = [], [], [], []
    roles = _rejected(study) | {case.id: case.role for case in study.cohort.cases}
    for case in roles:
        if not _covered(study, case) and case not in earlier:
            continue
        final = earlier.get(case) or study.final(case)
        rows.append(_case_row(study, case, roles[case], final))
        volumes += _volume_rows(study, case, final)
        atlases += _atlas_rows(case, final)
        metrics += _metric_rows(study, case, case in earlier)
    write_table(study.layout.volumes_table, pd.DataFrame(volumes, columns=VOLUME_COLUMNS))
    write_table(study.layout.atlases_table, pd.DataFrame(atlases, columns=ATLAS_COLUMNS))
    if study.truth is not None:
        write_table(study.layout.metrics_table, pd.DataFrame(metrics, columns=METRIC_COLUMNS))
    write_json(study.layout.description, _description(study))
    write_table(study.layout.cases_table, pd.DataFrame(rows, columns=_case_columns(study)))


def summary_of(study: Study) -> Summary:
    """Count how the cases of the run ended."""
    ids = [*(case.id for case in study.selected), *_rejected(study)]
    ends = {case: status_of(study, case) for case in ids} | {
        case.id: status_of(study, case.id) for case in study.cohort.atlases if not study.is_sound(case.id)
    }
    states = [status for status, _ in ends.values()]
    scores = list(case_scores(study).values())
    return Summary(
        done=states.count("done"),
        failed=states.count("failed"),
        set_aside=states.count("set aside"),
        reasons={case: reason for case, (_, reason) in ends.items() if reason},
        mean_dice=summarise(scores).mean if scores else None,
        scored=len(scores),
        report=str(study.layout.report) if study.reported else "",
        **_training(study),
    )


def page_rows(study: Study) -> list[dict[str, Any]]:
    """Rows of `cases.tsv` for Prefect's page, those that need a look first, with the mean Dice where it is known."""
    scores = case_scores(study)
    rows = []
    for case in study.selected:
        row = _case_row(study, case.id, case.role, study.final(case.id))
        numbers = {"predicted_quality": row["predicted_quality"], "mean_dice": scores.get(case.id)}
        rows.append(row | {name: None if value is None else round(value, 4) for name, value in numbers.items()})
    return sorted(rows, key=lambda row: row["status"] == "done")[:PAGE_ROWS]


def case_scores(study: Study) -> dict[str, float]:
    """Mean Dice over the structures of each scored case."""
    scores = {}
    for case, record in study.records.get("evaluate", {}).items():
        values = [value for value in record.facts["dice"].values() if value is not None]
        if values:
            scores[case] = sum(values) / len(values)
    return scores


def structure_name(study: Study, label: int) -> str:
    """Name of a label in the cohort, or the label itself."""
    return study.cohort.label_names.get(label) or str(label)


def flags_of(study: Study, case: str) -> list[str]:
    """Remarks on a case that a reader should know."""
    remarks = list(study.flags.get(case, ()))
    registered, final = study.record("register", case), study.final(case)
    if registered:
        worst = max((item["folded_percent"] or 0.0 for item in registered.facts["transforms"].values()), default=0.0)
        if worst > FOLDS_FLAG_PERCENT:
            remarks.append(f"{worst:.2g} % of voxels fold")
        remarks += remarks_of(registered.facts)
    if not study.is_sound(case) and study.layout.segmentation(case).is_file():
        remarks.append("the segmentation in the folder is of an earlier run")
    if final and not any(final.facts["volumes_mm3"].values()):
        remarks.append("no structure was found")
    return remarks


def template_of(study: Study, case: str) -> str | None:
    """Number, from 1, of the template through which atlases came onto a case, where there are several."""
    is_earlier = not _covered(study, case)
    record = study.manifest.read("register", case) if is_earlier else study.record("register", case)
    chosen = None if record is None else record.facts.get("template")
    return None if chosen is None else str(chosen)


def _training(study: Study) -> dict[str, Any]:
    """Where the network is that this run trained or found trained, and how that went."""
    recipe, told = study.joint_recipe or study.recipe, train_joint if study.joint_recipe else train_registration
    record = None if recipe is None else study.record(told.STAGE, job_name(recipe.name))
    if record is None or recipe is None:
        return {}
    return {"model": str(study.layout.model(recipe.name)), "training": told.training_lines(record.facts)}


def _rejected(study: Study) -> dict[str, str]:
    """Ids of the files that did not become cases; they have no role."""
    return {rejected.id: "" for rejected in study.cohort.rejected}


def _covered(study: Study, case: str) -> bool:
    named = {*(item.id for item in study.selected), *_rejected(study)}
    return case in named or case in study.set_aside or case in study.failed


def _earlier(study: Study) -> dict[str, Record]:
    records = {}
    for case in study.cohort.cases:
        if not _covered(study, case.id) and study.layout.segmentation(case.id).is_file():
            record = study.manifest.read(study.final_stage(case.id), case.id)
            if record is not None:
                records[case.id] = record
    return records


def _case_row(study: Study, case: str, role: str, final: Record | None) -> dict[str, Any]:
    status, reason = status_of(study, case)
    return {
        "id": case,
        "role": role or None,
        "status": status,
        "reason": reason or None,
        "predicted_quality": final.facts["quality"] if final and role != "atlas" else None,
        "rule": _rule(final),
        **({"agreement": _agreement(final)} if study.segments else {}),
        **({"template": template_of(study, case)} if study.has_library else {}),
        "flags": "; ".join(flags_of(study, case)) or None,
    }


def _rule(final: Record | None) -> str | None:
    """Rule that made a label map, and whether that was corrected."""
    rule = final.facts.get("rule") if final else None
    return f"{rule}, corrected" if final and final.facts.get("corrected") else rule


def _agreement(final: Record | None) -> float | None:
    """Dice of the networks' label maps with the fused one, mean over the networks."""
    return mean_known(final.facts.get("agreement", {}).values()) if final else None


def _case_columns(study: Study) -> list[str]:
    more = [*(JOINT_COLUMNS if study.segments else []), *(ROUTE_COLUMNS if study.has_library else [])]
    return [*CASE_COLUMNS[:-1], *more, *CASE_COLUMNS[-1:]]


def _volume_rows(study: Study, case: str, final: Record | None) -> list[dict[str, Any]]:
    if final is None:
        return []
    return [
        {
            "id": case,
            "label": int(label),
            "structure": structure_name(study, int(label)),
            "volume_mm3": volume,
            "confidence": final.facts["confidence"][label],
        }
        for label, volume in sorted(final.facts["volumes_mm3"].items(), key=lambda item: int(item[0]))
    ]


def _atlas_rows(case: str, final: Record | None) -> list[dict[str, Any]]:
    if final is None:
        return []
    atlases = {name: dict(facts) for name, facts in final.facts.get("atlases", {}).items()}
    atlases |= {name: {"left_out": reason} for name, reason in final.facts.get("rejected", {}).items()}
    return [{"id": case, "atlas": name, **atlases[name]} for name in sorted(atlases)]


def _metric_rows(study: Study, case: str, is_earlier: bool) -> list[dict[str, Any]]:
    record = study.manifest.read("evaluate", case) if is_earlier else study.record("evaluate", case)
    if record is None:
        return []
    return [
        {"id": case, "label": int(label), "structure": structure_name(study, int(label)), "dice": score}
        for label, score in sorted(record.facts["dice"].items(), key=lambda item: int(item[0]))
    ]


def _description(study: Study) -> dict[str, Any]:
    return {
        "Name": f"covoxel segmentations of {study.cohort.name}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "covoxel", "Version": __version__}],
        **({"License": study.cohort.licence} if study.cohort.licence else {}),
    }
