"""What the report says of the joint network: from the records of its training and of what was decided."""

import math
from collections.abc import Iterable
from typing import Any

from covoxel.io import read_table
from covoxel.report import JointPoint, JointReport, JudgedRow, VerdictRow
from covoxel.report.methods import METHODS
from covoxel.training.joint import JointRecipe
from tasks.joint_facts import joint_facts
from tasks.joint_models import RECIPE
from tasks.joint_network import model_folder
from tasks.joint_recipe import AnyJointRecipe, load_joint_recipe
from tasks.judge import judged_of
from tasks.results import mean_known
from tasks.study import Study
from tasks.train_joint import STAGE
from tasks.trainings import job_name


def joint_report(study: Study) -> JointReport | None:
    """What is known of the network that segments; None where none does."""
    folder = model_folder(study)
    if folder is None:
        return None
    facts = joint_facts(folder)
    judged = tuple(JudgedRow(case, dice) for case, dice in judged_of(study).items())
    verdicts = tuple(VerdictRow(verdict.sentence, verdict.use == "separate") for verdict in facts.verdicts)
    return JointReport(facts.recipe, verdicts, judged, tuple(_curve(study)), _alphas(study))


def joint_recipe_of(study: Study) -> AnyJointRecipe | None:
    """Recipe of the network that segments; None where none does."""
    folder = model_folder(study)
    return None if folder is None else load_joint_recipe(folder / RECIPE)


def joint_components(study: Study) -> tuple[str, ...]:
    """What it was trained by, for the methods text."""
    recipe = joint_recipe_of(study)
    if recipe is None:
        return ()
    if isinstance(recipe, JointRecipe):
        return ("deepatlas",)
    return (recipe.network if recipe.network in METHODS else "joint-network",)


def joint_notes(study: Study) -> tuple[str, ...]:
    """Sentences for the reader on top of the page."""
    if not study.segments:
        return ()
    recipe = joint_recipe_of(study)
    if recipe is None:
        return ("No joint network was trained, so every case has the fused label map.",)
    notes = joint_facts(model_folder(study) or study.layout.output).notes
    return (f"The joint network {recipe.name}: {recipe.method}", *notes)


def joint_case(study: Study, case: str, role: str) -> dict[str, Any]:
    """What was chosen for a case, and why."""
    final = study.final(case)
    if final is None or role == "atlas" or "candidate" not in final.facts:
        return {}
    facts = final.facts
    return {
        "candidate": facts["candidate"],
        "choice": facts["reason"],
        "predicted_by_candidate": facts["predicted"],
        "agreement": mean_known(facts["agreement"].values()),
        "spread": mean_known(facts["spread"].values()),
    }


def _alphas(study: Study) -> dict[str, Any]:
    record = None if study.joint_recipe is None else study.record(STAGE, job_name(study.joint_recipe.name))
    units = {} if record is None else record.facts["alphas"]
    return {place: tuple(tuple(tuple(row) for row in one) for one in unit) for place, unit in units.items()}


def _curve(study: Study) -> Iterable[JointPoint]:
    """Losses of the training, each over the steps of all phases."""
    folder = model_folder(study)
    table = None if folder is None else folder / "curve.tsv"
    if table is None or not table.is_file():
        return
    before, last, phase = 0, 0, None
    rows = read_table(table)
    for row in rows.to_dict("records") if {"phase", "step"} <= set(rows.columns) else ():
        if row["phase"] != phase:
            before, phase = before + last, row["phase"]
        last = int(row["step"])
        for name, value in row.items():
            if str(name).endswith("loss") and isinstance(value, int | float) and not math.isnan(value):
                yield JointPoint(str(name).replace("_", " "), before + last, float(value))
