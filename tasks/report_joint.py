"""What the report says of networks: from the records of their training and of what was decided."""

import math
from collections.abc import Iterable
from typing import Any

from covoxel.io import read_table
from covoxel.report import JointPoint, JointReport, JudgedRow, VerdictRow
from covoxel.report.methods import METHODS
from covoxel.segmentation.candidates import NETWORKS
from covoxel.training.joint import JointRecipe
from tasks import train_nnunet
from tasks.joint_facts import joint_facts
from tasks.joint_models import RECIPE
from tasks.joint_network import model_folder
from tasks.joint_recipe import AnyJointRecipe, load_joint_recipe
from tasks.judge import judged_of
from tasks.networks import networks_of
from tasks.results import mean_known
from tasks.study import Study
from tasks.train_joint import STAGE
from tasks.trainings import job_name


def joint_report(study: Study) -> JointReport | None:
    """What is known of the networks that segment; None where none does."""
    folder = model_folder(study)
    curve = (*_curve(study), *_nnunet_curve(study))
    judged = tuple(JudgedRow(case, dice) for case, dice in judged_of(study).items())
    if folder is None:
        return JointReport("", (), judged, curve) if networks_of(study) else None
    facts = joint_facts(folder)
    verdicts = tuple(VerdictRow(verdict.sentence, verdict.use == "separate") for verdict in facts.verdicts)
    return JointReport(facts.recipe, verdicts, judged, curve, _alphas(study))


def joint_recipe_of(study: Study) -> AnyJointRecipe | None:
    """Recipe of the joint network that segments; None where none does."""
    folder = model_folder(study)
    return None if folder is None else load_joint_recipe(folder / RECIPE)


def joint_components(study: Study) -> tuple[str, ...]:
    """What the networks were trained by, for the methods text."""
    recipe, found = joint_recipe_of(study), tuple(name for name in networks_of(study) if name != "joint")
    if recipe is None:
        return found
    if isinstance(recipe, JointRecipe):
        return ("deepatlas", *found)
    return (recipe.network if recipe.network in METHODS else "joint-network", *found)


def joint_notes(study: Study) -> tuple[str, ...]:
    """Sentences for the reader on top of the page."""
    there = networks_of(study)
    notes = [f"No label map of {NETWORKS[name]}: it was not trained." for name in study.networks if name not in there]
    recipe, folder = joint_recipe_of(study), model_folder(study)
    if recipe is not None and folder is not None:
        notes += [f"The joint network {recipe.name}: {recipe.method}", *joint_facts(folder).notes]
    folds = [record.facts for record in study.records.get(train_nnunet.STAGE, {}).values()]
    if folds:
        last = folds[-1]
        notes.append(f"nnU-Net was trained on {last['drawn']} labels of atlases and {last['fused']} fused ones.")
        notes += dict.fromkeys(remark for facts in folds for remark in facts["remarks"])
    return tuple(notes)


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


def _nnunet_curve(study: Study) -> Iterable[JointPoint]:
    """Losses of nnU-Net's epochs, a curve a fold."""
    records = study.records.get(train_nnunet.STAGE, {})
    for number, record in enumerate(records.values(), start=1):
        name = "nnU-Net loss" if len(records) == 1 else f"nnU-Net, training {number}, loss"
        for epoch, loss in enumerate(record.facts["losses"]):
            if loss is not None:
                yield JointPoint(name, epoch, float(loss))


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
