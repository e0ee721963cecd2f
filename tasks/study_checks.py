"""Checks of a call before anything starts: output folder, settings, names, true labels, and what is to be trained."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from covoxel.fusion import FUSION_RULES
from data_catalog import Case, Cohort
from nets.segmentation import SEGMENTATION_NETS
from tasks import joint_facts, models
from tasks.atlas_checks import check_templates
from tasks.call import Call, CallError
from tasks.components import check_component
from tasks.engine import check_engine
from tasks.joint_models import load_segmenter
from tasks.joint_recipe import check_joint_cases
from tasks.nnunet_settings import check_nnunet
from tasks.recipe import check_cases
from tasks.settings import SELECT, FuseSettings, SettingsError
from tasks.teaching import check_joint_training, check_training
from tasks.weights import ModelError

if TYPE_CHECKING:
    from tasks.study import Study


def check_call(call: Call) -> None:
    """Refuse settings and an output folder that fit no cohort.

    Raises
    ------
    CallError
        If results may not or cannot lie in the output folder.
    SettingsError
        If a rule or a network does not exist, or does not take its options.
    """
    _check_rules(call.settings.fuse)
    check_component(SEGMENTATION_NETS, call.settings.learn.network, {}, "learn", "network")
    if call.settings.learn.teacher is not None:
        check_component(FUSION_RULES, call.settings.learn.teacher, {}, "learn", "teacher")
    _check_output(call)


def check_cohort(cohort: Cohort, cases: Sequence[str] | None) -> None:
    """Refuse cases that the cohort has not.

    Raises
    ------
    CohortError
        If there is one; names the nearest known id.
    """
    for case in cases or ():
        if case not in {rejected.id for rejected in cohort.rejected}:
            cohort.case(case)


def check_study(study: "Study") -> None:
    """Refuse what a run would come upon when it is too late.

    Raises
    ------
    CallError
        If true labels would score nothing, two transforms would be one file, the cases cannot train the recipe, or its
        model would overwrite one of another kind.
    SettingsError
        If the engine could not run, the joint model cannot be used, or a training has settings by which it cannot
        train.
    """
    settings = study.call.settings
    check_templates(study)
    if study.registers:
        check_engine(settings.register_, study.call.output)
        _check_truth(study)
        _check_names(study)
    if "joint" in study.networks and settings.segment.model is not None:
        _check_segmenter(settings.segment.model)
    if "nnunet" in study.networks:
        check_nnunet(settings.segment.nnunet, study.device)
    if study.recipe is not None:
        name = study.recipe.name
        _check_model(study.layout.model(name), name, joint_facts.FACTS, "train-joint")
        check_training(settings.train, study.recipe, study.named, study.device)
        check_cases(study.recipe, study.named, predicted=settings.train.labels is not None)
    if study.joint_recipe is not None:
        name = study.joint_recipe.name
        _check_model(study.layout.model(name), name, models.FACTS, "train-registration")
        check_joint_training(settings.train, study.joint_recipe.name, study.device)
        check_joint_cases(study.joint_recipe, _training(study))


def _check_model(folder: Path, recipe: str, foreign: str, verb: str) -> None:
    """Refuse to write a model where one of another kind is, by the file that vouches for it."""
    if (folder / foreign).is_file():
        raise CallError(
            f"models/{recipe} in the output folder is a model of {verb}; give the recipe another name or take another "
            "output folder"
        )


def _check_segmenter(folder: Path) -> None:
    try:
        load_segmenter(folder, "cpu")
    except ModelError as error:
        raise SettingsError(f"settings: segment.model: {error}") from None


def _training(study: "Study") -> list[Case]:
    return [case for case in study.named if study.trains_on(case)]


def _check_rules(fuse: FuseSettings) -> None:
    """Check the fusion rule and its options, or the candidates of `select`."""
    if fuse.rule != SELECT:
        check_component(FUSION_RULES, fuse.rule, fuse.options, "fuse", "rule")
        return
    if fuse.options:
        raise SettingsError(f"settings: fuse.options = {fuse.options} is wrong: {SELECT} has no options")
    for rule in fuse.candidates:
        check_component(FUSION_RULES, rule, {}, "fuse", "candidates")


def _check_truth(study: "Study") -> None:
    """Refuse a folder of true labels that would score nothing."""
    scored = [case.id for case in study.cohort.cases if case.role != "atlas"]
    if study.truth is not None and scored and not any(case in study.truth for case in scored):
        raise CallError(
            f"the folder of true labels {study.truth.folder} has none for any of the {len(scored)} cases that are no "
            f"atlas; true labels must be named after the cases, for example {scored[0]}.nii.gz"
        )


def _check_names(study: "Study") -> None:
    """Refuse names of cases by which two pairs of images would share one transform file."""
    pairs: dict[str, tuple[str, str]] = {}
    for fixed, moving in product(study.cohort.cases, study.cohort.atlases):
        if fixed.id == moving.id:
            continue
        pair = fixed.id, moving.id
        path = study.layout.transform(*pair)
        first = pairs.setdefault(path.name.lower(), pair)
        if first != pair:
            raise CallError(
                f"atlas {pair[1]!r} onto case {pair[0]!r} and atlas {first[1]!r} onto case {first[0]!r} would both be "
                f"kept in {path.name}; rename one of these cases"
            )


def _check_output(call: Call) -> None:
    output, cohort = call.output.resolve(), call.cohort.resolve()
    if output.exists() and not output.is_dir():
        raise CallError(f"output {call.output} is a file; a folder is needed")
    if cohort.is_dir() and (output == cohort or cohort in output.parents):
        raise CallError(f"output {call.output} lies in the cohort's folder {call.cohort}; results need another place")
