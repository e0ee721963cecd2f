"""Train nnU-Net: one fold, on the labels of the atlases and on fused ones as far as these are sure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from prefect import task

from covoxel.external.nnunet import Profile, Weighting, plan, train_fold, write_model
from covoxel.io import read_labels, write_json
from tasks.facts import FoldFacts
from tasks.job import Job, Made, number, work
from tasks.nnunet_data import NAME, TaughtCase, folds_of, held_out, label_names, make_dataset, taught_cases
from tasks.nnunet_settings import weighting_of
from tasks.options import TASK_OPTIONS
from tasks.plan_nnunet import STAGE as PLAN
from tasks.plan_nnunet import plan_name
from tasks.same_labels import content_of
from tasks.study import Study
from tasks.trainings import THREADS, Tell

STAGE = "train-nnunet"
FACTS = "covoxel.json"
"""In the folder of a fold: the label maps that it learnt from, which cannot score it."""


@dataclass(frozen=True)
class TrainFoldJob(Job):
    """One fold.

    Parameters
    ----------
    cases
        Of the data set, those that are held out too.
    names
        Of the structures, by value.
    profile
        As the plan left it.
    weighting
        How much fused labels count.
    fold, round
        Which one.
    held_out
        Ids of the cases that do not teach.
    tell
        Told of each step.
    """

    stage = STAGE
    facts = FoldFacts
    code = (
        "covoxel.external.nnunet",
        "covoxel.training.averaging",
        "covoxel.training.seeds",
        "tasks.nnunet_data",
        "tasks.train_nnunet",
    )
    vital = False

    cases: Sequence[TaughtCase]
    names: Mapping[int, str]
    profile: Profile
    weighting: Weighting
    fold: int
    round: int
    held_out: tuple[str, ...]
    tell: Tell | None = None

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: sha for case in self.cases for name, sha in case.hashes().items()}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {
            "profile": asdict(self.profile),
            "weighting": asdict(self.weighting),
            "names": {str(value): name for value, name in self.names.items()},
            "weights": {case.id: number(case.weight) for case in self.cases},
            "fold": self.fold,
            "held_out": list(self.held_out),
        }


@task(task_run_name="train nnU-Net, fold {job.fold}", **TASK_OPTIONS)
@work
def train_nnunet(job: TrainFoldJob) -> Made:
    """Write the fold into nnU-Net's model folder; goes on from a checkpoint if it was killed."""
    folder = job.layout.nnunet(job.round)
    made = plan(make_dataset(folder, job.cases, job.names), folder, job.profile, device=job.device)
    teaching = [case for case in job.cases if case.id not in job.held_out and case.id not in made.failed]
    checkpoint = job.layout.checkpoint(job.fingerprint())
    torch.set_num_threads(THREADS)
    trained = train_fold(
        made,
        job.fold,
        [case.id for case in teaching],
        job.held_out,
        weighting=job.weighting,
        device=job.device,
        checkpoint=checkpoint,
        progress=job.tell,
    )
    model = job.layout.nnunet_model(job.round)
    write_model(model, made, [trained])
    own = model / f"fold_{job.fold}"
    drawn = [content_of(read_labels(case.label.path)) for case in teaching if case.confidence is None]
    write_json(own / FACTS, {"taught_by": [label_map.plain() for label_map in drawn]})
    checkpoint.unlink(missing_ok=True)
    outputs = [model / "plans.json", model / "dataset.json", own / "checkpoint_final.pth", own / FACTS]
    facts = {
        "cases": len(teaching),
        "drawn": len(drawn),
        "fused": len(teaching) - len(drawn),
        "held_out": list(job.held_out),
        "losses": [number(loss) for loss in trained.losses],
        "remarks": list(made.remarks),
        "left_out": dict(made.failed),
    }
    return Made(outputs, facts)


def train_jobs(study: Study, tell: Tell | None = None, *, round_: int, fold: int) -> list[TrainFoldJob]:
    """The one job of a fold, if its round was planned."""
    planned = study.record(PLAN, plan_name(round_))
    if planned is None or fold >= len(folds_of(study)):
        return []
    cases, fields = taught_cases(study, round_), dict(planned.facts["profile"])
    fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return [
        TrainFoldJob(
            fold_name(round_, fold),
            study.call.output,
            study.device,
            cases=cases,
            names=label_names(study),
            profile=Profile(**fields),
            weighting=weighting_of(study.call.settings.segment.nnunet),
            fold=fold,
            round=round_,
            held_out=held_out(study, fold, cases),
            tell=tell,
        )
    ]


def fold_name(round_: int, fold: int) -> str:
    """What stands for the id of a case in the record of a fold."""
    return f"@{NAME}-{round_}-{fold}"
