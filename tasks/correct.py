"""Correct: a network learns from the atlases, each labelled by the others, what fusion does wrong."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prefect import task
from torch import Tensor

from covoxel.fusion.candidates import CONSENSUS, CONSENSUS_OF
from covoxel.io import read_image, read_labels, write_json, write_table
from covoxel.io.atomic import atomic_path
from covoxel.training.correction import (
    MIN_CASES,
    CorrectionCase,
    CorrectionSettings,
    LearntCorrection,
    learn_correction,
)
from covoxel.training.progress import TrainingDivergedError
from tasks.calibrate import selector_of
from tasks.candidates import rules_of, voters
from tasks.correction import (
    CURVE,
    MODEL,
    SETTINGS,
    WEIGHTS,
    build_network,
    precision_on,
    widths_for,
    write_fused,
)
from tasks.evidence import CaseFiles, case_files, open_evidence
from tasks.facts import CorrectFacts
from tasks.job import COHORT, Artifact, Job, Made, number, work
from tasks.learn import learnt_parameters
from tasks.options import TASK_OPTIONS
from tasks.settings import DATA_PARAMETERS, SELECT, AtlasSettings, FuseSettings
from tasks.study import Study
from tasks.trainings import THREADS, Tell
from tasks.weights import save_weights

STAGE = "correct"


@dataclass(frozen=True)
class CorrectJob(Job):
    """The atlases, and the others that were brought onto each.

    Parameters
    ----------
    files
        What is read of each atlas as a case, by id.
    truths
        Label maps of all atlases on the grids of their preprocessed images, by id.
    rule
        By which each is fused from the others: the favourite, or the one that is asked for.
    settings
        Fusion, and how long the network is trained.
    voting
        How many atlases vote at most, and by what they are chosen.
    learnt
        Raw data parameter of each atlas on each of `files`; empty where none were learnt.
    subjects
        Of the atlases.
    tell
        Told of each step.
    """

    stage = STAGE
    facts = CorrectFacts
    code = (
        "covoxel.spatial",
        "covoxel.io",
        "covoxel.losses",
        "covoxel.metrics.dice",
        "covoxel.fusion",
        "covoxel.registration.bounded",
        "covoxel.registration.pyramid",
        "covoxel.training.augmentation",
        "covoxel.training.averaging",
        "covoxel.training.correction",
        "covoxel.training.joint.recipe",
        "covoxel.training.registration",
        "covoxel.training.seeds",
        "covoxel.training.tally",
        "nets.blocks",
        "nets.segmentation.unet",
        "tasks.evidence",
        "tasks.candidates",
        "tasks.correction",
        "tasks.correct",
    )
    vital = False

    files: Mapping[str, CaseFiles]
    truths: Mapping[str, Artifact]
    rule: str
    settings: FuseSettings
    voting: AtlasSettings
    learnt: Mapping[str, Mapping[str, float]]
    subjects: Mapping[str, str]
    tell: Tell | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        truths = {f"{atlas}.truth": truth.sha256 for atlas, truth in self.truths.items()}
        return truths | {
            f"{case}.{name}": sha for case, own in self.files.items() for name, sha in own.hashes().items()
        }

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {
            "rule": self.rule,
            "fuse": self.settings.fusing(),
            "steps": self.settings.correct_steps,
            "atlases": self.voting.model_dump(mode="json"),
            "learnt": {case: dict(learnt) for case, learnt in self.learnt.items()},
            "subjects": dict(self.subjects),
        }


@task(task_run_name="learn what fusion does wrong", **TASK_OPTIONS)
@work
def correct(job: CorrectJob) -> Made:
    """Write network and learning curve unless they hurt atlases not seen; goes on from a checkpoint."""
    values = _values(job)
    # What was fused lies beside the states of the training: a run that was killed does not fuse again.
    scratch = job.layout.checkpoint(job.fingerprint()).with_suffix("")
    cases = [_case(job, atlas, values, scratch) for atlas in sorted(job.files)]
    steps = job.settings.correct_steps
    settings = CorrectionSettings(steps=steps, warm_up=min(CorrectionSettings.warm_up, steps // 10))
    network: dict[str, Any] = {"ndim": cases[0].image.ndim, "labels": len(values), "widths": widths_for(len(values))}
    precision = precision_on(job.device)
    torch.set_num_threads(THREADS)
    try:
        learnt = learn_correction(
            lambda: build_network(**network),
            cases,
            settings,
            device=job.device,
            precision=precision,
            checkpoints=scratch,
            progress=job.tell,
        )
    except TrainingDivergedError as error:
        raise ValueError(f"{error}; fused labels stay as they are") from error
    outputs = _write(
        job, learnt, {"values": values.tolist(), "network": network, "steps": steps, "precision": precision}
    )
    shutil.rmtree(scratch, ignore_errors=True)
    return Made(outputs, _facts(learnt))


def correct_jobs(study: Study, tell: Tell | None = None) -> list[CorrectJob]:
    """The one job, if fusion is to be corrected and there are atlases enough."""
    usable = usable_atlases(study)
    if not study.corrects or len(usable) < MIN_CASES:
        return []
    truths = {
        atlas.id: study.artifact("preprocess", atlas.id, study.layout.preprocessed_labels(atlas.id))
        for atlas in study.atlases
    }
    return [
        CorrectJob(
            COHORT,
            study.call.output,
            study.device,
            files={atlas: case_files(study, atlas, others) for atlas, others in usable.items()},
            truths=truths,
            rule=_rule(study),
            settings=study.call.settings.fuse,
            voting=study.call.settings.atlases,
            learnt={atlas: learnt_parameters(study, atlas) for atlas in usable},
            subjects={atlas: study.cohort.case(atlas).subject for atlas in usable},
            tell=tell,
        )
    ]


def usable_atlases(study: Study) -> dict[str, list[str]]:
    """The atlases onto which others were brought, and these."""
    records = {atlas.id: study.record("register", atlas.id) for atlas in study.atlases}
    brought = {atlas: sorted(record.facts["transforms"]) for atlas, record in records.items() if record is not None}
    return {atlas: others for atlas, others in brought.items() if others}


def _rule(study: Study) -> str:
    """The one rule that is asked for; of several the favourite, by what the atlases taught."""
    fuse = study.call.settings.fuse
    if fuse.rule != SELECT:
        return fuse.rule
    learnt = study.record("learn", COHORT) is not None
    names = [name for name in fuse.candidates if name != DATA_PARAMETERS or learnt]
    possible = {*names, *([CONSENSUS] if set(CONSENSUS_OF) <= set(names) else [])}
    return next((rule for rule in selector_of(study).favourites if rule in possible), fuse.candidates[0])


def _values(job: CorrectJob) -> Tensor:
    """Label values of all atlases in ascending order, 0 first."""
    found = [torch.unique(read_labels(truth.path).data) for _, truth in sorted(job.truths.items())]
    return torch.unique(torch.cat([torch.zeros(1, dtype=torch.int64), *found]))


def _case(job: CorrectJob, atlas: str, values: Tensor, scratch: Path) -> CorrectionCase:
    """An atlas, fused from the others; its probabilities stay on the disk."""
    path = scratch / f"{atlas}.npy"
    if not path.is_file():
        with atomic_path(path) as temporary:
            _fuse(job, atlas, values, temporary)
    on_disk = torch.from_numpy(np.load(path, mmap_mode="c"))
    truth = read_labels(job.truths[atlas].path).data
    labels = torch.searchsorted(values, truth.contiguous())
    image = read_image(job.files[atlas].fixed.path).data
    return CorrectionCase(atlas, image, on_disk, labels.to(torch.int16), job.subjects[atlas])


def _fuse(job: CorrectJob, atlas: str, values: Tensor, path: Path) -> None:
    """Write probabilities of all `values` for an atlas, without its own label map, in half precision."""
    files, learnt = job.files[atlas], job.learnt[atlas]
    with open_evidence(files, job.device, job.layout.scratch) as (_, everybody):
        source, choice = voters(everybody, files.names, job.voting, learnt)
        rules = rules_of(job.settings, learnt, choice.kept)
        kept = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            path, "w+", np.float16, (len(values), *source.shape)
        )

        def write(part: tuple[slice, ...], probabilities: Tensor) -> None:
            kept[part] = probabilities.half().cpu().numpy()

        write_fused(source, rules, job.rule, values, write)
        kept.flush()


def _write(job: CorrectJob, learnt: LearntCorrection, about: Mapping[str, Any]) -> list[Path]:
    """Weights, settings and learning curve; nothing if the correction is not used, and what lay there goes."""
    folder = job.layout.model(MODEL)
    outputs = [folder / name for name in (WEIGHTS, SETTINGS, CURVE)]
    if learnt.network is None:
        _remove(outputs)
        return []
    save_weights(outputs[0], learnt.network)
    write_json(outputs[1], {**about, "rule": job.rule, "gain": learnt.gain, "error": learnt.error})
    write_table(outputs[2], learnt.curve)
    return outputs


def _remove(files: Iterable[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


def _facts(learnt: LearntCorrection) -> dict[str, Any]:
    curve = [{"step": int(row["step"]), "loss": number(row["loss"])} for row in learnt.curve.to_dict("records")]
    return {
        "used": learnt.network is not None,
        "gain": number(learnt.gain),
        "error": number(learnt.error),
        "gains": {case: number(gain) for case, gain in learnt.gains.items()},
        "sentence": learnt.sentence,
        "notes": list(learnt.notes),
        "curve": curve,
    }
