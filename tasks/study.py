"""A study: one call, its cohort and what has become of each case so far; shared by the flows of one process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from covoxel.manifest import FolderLock, FolderLockedError, Manifest, Record
from covoxel.training.correction import MIN_CASES
from covoxel.training.registration import Recipe
from data_catalog import Case, Choice, Cohort, CohortError, EvaluationLabels, open_cohort
from tasks.call import Call, CallError
from tasks.job import Artifact
from tasks.joint_recipe import AnyJointRecipe, load_joint_recipe, uses_fused
from tasks.last_call import remember_call
from tasks.layout import Layout
from tasks.recipe import load_recipe
from tasks.recipe_files import find_joint_recipe, find_recipe
from tasks.settings import DATA_PARAMETERS, SELECT, CohortSettings
from tasks.study_checks import check_call, check_cohort, check_study

MAX_WORKERS_BY_DEFAULT = 4
NOT_NESTED = {"recipe", "trains", "builds_atlas", "follows"}
"""Parts of a call that flows nested in others do not have."""


class Study:
    """What the stages of a run know together. Only flows change it, in their own thread.

    Parameters
    ----------
    call
        What was asked.
    cohort
        The cohort with the named atlases.

    Raises
    ------
    CallError
        If the recipe of a training is not known.
    SettingsError
        If its file is wrong.
    """

    def __init__(self, call: Call, cohort: Cohort) -> None:
        self.call = call
        self.cohort = cohort
        self.recipe = _recipe(call)
        self.joint_recipe = _joint_recipe(call)
        self.layout = Layout(call.output)
        self.manifest = Manifest(call.output)
        self.device = resolve_device(call.device)
        self.truth = EvaluationLabels(call.evaluate) if call.evaluate else None
        self.set_aside: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.trouble: dict[str, str] = {}
        self.flags: dict[str, list[str]] = {}
        self.records: dict[str, dict[str, Record]] = {}
        self.computed: dict[str, int] = {}
        self.reported = False
        self._wanted = self._asked_for()

    def _asked_for(self) -> set[str] | None:
        """Ids of the only cases of this run; None for all. Those with the role test train only if they are named."""
        if self.call.cases is not None:
            return set(self.call.cases)
        return {case.id for case in self.cohort.cases if case.role != "test"} if self.is_training else None

    @property
    def is_training(self) -> bool:
        """Whether the run ends with a trained network, and not with segmentations."""
        return self.call.recipe is not None

    @property
    def workers(self) -> int:
        """Cases at a time: as asked, else one on a GPU and up to four on cores."""
        if self.call.workers is not None:
            return self.call.workers
        return 1 if self.device == "cuda" else min(len(os.sched_getaffinity(0)), MAX_WORKERS_BY_DEFAULT)

    @property
    def selected(self) -> tuple[Case, ...]:
        """Cases to segment, or to train on, atlases included, in the cohort's order."""
        return tuple(case for case in self.cohort.cases if self._wanted is None or case.id in self._wanted)

    @property
    def named(self) -> tuple[Case, ...]:
        """Atlases and then all other cases of this run, sound or not."""
        atlases = tuple(sorted(self.cohort.atlases, key=lambda case: case.id))
        return atlases + tuple(case for case in self.selected if case.role != "atlas")

    @property
    def atlases(self) -> tuple[Case, ...]:
        """Sound atlases by id."""
        return tuple(case for case in self.named if case.role == "atlas" and self.is_sound(case.id))

    @property
    def fixed(self) -> tuple[Case, ...]:
        """Sound cases that the atlases label."""
        return tuple(case for case in self.named if case.role != "atlas" and self.is_sound(case.id))

    @property
    def to_register(self) -> tuple[str, ...]:
        """Ids of the cases onto which atlases are brought; those of atlases too that are labelled by the others."""
        return tuple(case.id for case in (*self.labelled_atlases, *self.fixed))

    @property
    def labelled_atlases(self) -> tuple[Case, ...]:
        """Atlases that the others label: so many, spread over their ids; all where networks or corrections need them.

        Each costs a registration of every other atlas, and what select learns grows slowly with their number.
        """
        if not self.labels_atlases:
            return ()
        every, most = self.atlases, self.call.settings.fuse.calibrate_on
        if most is None or len(every) <= most or self.corrects or self.segments:
            return every
        return tuple(every[round(place * (len(every) - 1) / (most - 1))] for place in range(most))

    @property
    def calibrates(self) -> bool:
        """Whether the quality of results is predicted, as the atlases, each labelled by the others, teach."""
        return self.call.settings.fuse.rule == SELECT

    @property
    def corrects(self) -> bool:
        """Whether it is learnt from the atlases, each labelled by the others, what fusion does wrong."""
        return self.call.settings.fuse.correct

    @property
    def labels_atlases(self) -> bool:
        """Whether each atlas is labelled by the others, and there are enough of them for what that is to teach."""
        enough = 2 if self.calibrates else MIN_CASES
        return (self.calibrates or self.corrects) and len(self.atlases) >= enough

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that segment beside the fused atlases."""
        return self.call.settings.segment.asked

    @property
    def segments(self) -> bool:
        """Whether there are any."""
        return bool(self.networks)

    @property
    def alignment(self) -> str | None:
        """How the recipe of a training wants images laid on one another; None without a training."""
        if self.recipe is not None:
            return self.recipe.alignment
        return None if self.joint_recipe is None else self.joint_recipe.registration.alignment

    @property
    def teaches_fused(self) -> bool:
        """Whether fused labels of the cases without labels of their own teach a joint training."""
        return self.joint_recipe is not None and uses_fused(self.joint_recipe) and bool(self.call.atlases)

    @property
    def fuses_apart(self) -> bool:
        """Whether fused label maps are kept in `work`: they teach a network, or are one of two candidates."""
        return self.segments or (self.is_training and self.joint_recipe is not None)

    @property
    def registers(self) -> bool:
        """Whether atlases are brought onto the cases, if the run goes so far."""
        return not self.call.builds_atlas and (not self.is_training or self.teaches_fused)

    @property
    def through_template(self) -> bool:
        """Whether atlases come onto the cases through a template of theirs."""
        return self.registers and self.call.settings.register_.route == "template"

    @property
    def has_library(self) -> bool:
        """Whether there are several such templates, of which the closest serves a case."""
        return self.through_template and self.call.settings.template.count > 1

    @property
    def learns(self) -> bool:
        """Whether it is learnt how far each atlas can be trusted on each case."""
        fuse, atlases = self.call.settings.fuse, self.call.settings.atlases
        rules = fuse.candidates if fuse.rule == SELECT else [fuse.rule]
        return DATA_PARAMETERS in rules or (atlases.count is not None and atlases.by == "weight")

    def is_sound(self, case: str) -> bool:
        """Whether nothing has gone wrong with a case so far."""
        return case not in self.set_aside and case not in self.failed

    def trains_on(self, case: Case) -> bool:
        """Whether a case of this run trains, if a network is trained: one with the role test only if it was named."""
        return self.is_training or case.role != "test"

    def record(self, stage: str, case: str) -> Record | None:
        """Record of a case in this run."""
        return self.records.get(stage, {}).get(case)

    def final_stage(self, case: str) -> str:
        """Stage that makes the segmentation of a case: its fusion, or the choice among candidates."""
        is_atlas = any(atlas.id == case for atlas in self.cohort.atlases)
        return "decide" if self.segments and not is_atlas else "fuse"

    def final(self, case: str) -> Record | None:
        """Record of the segmentation of a case in this run."""
        return self.record(self.final_stage(case), case)

    def artifact(self, stage: str, case: str, path: Path) -> Artifact:
        """A file that a stage made of a case in this run, with its hash."""
        return Artifact(path, self.records[stage][case].outputs[path.relative_to(self.call.output).as_posix()])

    def flag(self, case: str, remark: str) -> None:
        """Remark on a case for its row in `cases.tsv`."""
        remarks = self.flags.setdefault(case, [])
        if remark not in remarks:
            remarks.append(remark)

    def ran(self, stage: str) -> bool:
        """Whether a stage has run in this process for this study."""
        return stage in self.records


_open: dict[str, tuple[Study, int]] = {}


@contextmanager
def open_study(call: Call, needs_atlases: bool = True) -> Iterator[Study]:
    """The study of a call, with its output folder locked; the same one for all flows nested in one another.

    Parameters
    ----------
    call
        What was asked.
    needs_atlases
        Whether it is wrong to name no atlas.

    Raises
    ------
    CallError
        If cohort, atlases, cases, settings, folder of true labels or output folder are not fit; nothing was started.
    """
    if needs_atlases and not call.atlases:
        raise CallError("no atlas is named; name at least one case whose label may be used (--atlases ID,ID,…)")
    key = call.model_dump_json(exclude=NOT_NESTED)
    lock = FolderLock(call.output)
    study, depth = _open.get(key, (None, 0))
    if study is None:
        study = _prepare(call)
    try:
        lock.__enter__()
    except FolderLockedError as error:
        raise CallError(str(error)) from None
    except OSError as error:
        raise CallError(f"output folder {call.output} cannot be written: {error.strerror}") from None
    try:
        _open[key] = (study, depth + 1)
        if depth == 0:
            _remember(call)
        yield study
    finally:
        if depth == 0:
            _open.pop(key, None)
        else:
            _open[key] = (study, depth)
        lock.__exit__(None, None, None)


def read_study(call: Call) -> Study:
    """The study of a call without its lock, to look at and not to change."""
    return _prepare(call)


def resolve_device(device: str) -> str:
    """Name "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises
    ------
    CallError
        If "cuda" is asked for and there is no CUDA device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise CallError("device 'cuda' was asked for and this machine has no CUDA device; use auto or cpu")
    return device


def _prepare(call: Call) -> Study:
    check_call(call)
    try:
        cohort = open_cohort(call.cohort, _choice(call.settings.cohort), _in_use(call))
        check_cohort(cohort, call.cases)
        study = Study(call, cohort.with_atlases(list(call.atlases)) if call.atlases else _without_labels(cohort))
    except CohortError as error:
        raise CallError(str(error)) from None
    check_study(study)
    return study


def _choice(settings: CohortSettings) -> Choice:
    return Choice(
        image=settings.image,
        label=settings.label or "",
        run="" if settings.run is None else str(settings.run),
        ids=settings.ids,
        trusted=settings.trusted,
    )


def _in_use(call: Call) -> list[Path]:
    """Folders that the call names beside the cohort, which may lie in it."""
    folders = (call.evaluate, call.settings.register_.labels, call.settings.train.labels)
    return [folder for folder in folders if folder is not None]


def _without_labels(cohort: Cohort) -> Cohort:
    """The cohort in which no case is an atlas; no label can be read."""
    cases = (
        replace(case, role="unlabelled" if case.role == "atlas" else case.role, label=None) for case in cohort.cases
    )
    return replace(cohort, cases=tuple(cases))


def _recipe(call: Call) -> Recipe | None:
    """What a registration network is trained by."""
    return load_recipe(find_recipe(call.recipe)) if call.recipe is not None and call.trains == "registration" else None


def _joint_recipe(call: Call) -> AnyJointRecipe | None:
    """What networks are trained by jointly, to be kept or to segment with."""
    segment = call.settings.segment
    if call.recipe is not None:
        return load_joint_recipe(find_joint_recipe(call.recipe)) if call.trains == "joint" else None
    if "joint" not in segment.asked or segment.model is not None:
        return None
    return load_joint_recipe(find_joint_recipe(segment.recipe))


def _remember(call: Call) -> None:
    try:
        remember_call(call)
    except OSError as error:
        raise CallError(f"output folder {call.output} cannot be written: {error.strerror}") from None
