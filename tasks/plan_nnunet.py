"""Plan nnU-Net: its data set, fingerprint and plans, cut down to the memory at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import task

from covoxel.external.nnunet import Profile, plan
from covoxel.io import write_json
from tasks.facts import PlanFacts
from tasks.job import Job, Made, work
from tasks.nnunet_data import TaughtCase, label_names, make_dataset, taught_cases
from tasks.nnunet_settings import profile_of
from tasks.options import TASK_OPTIONS
from tasks.study import Study

STAGE = "plan-nnunet"


@dataclass(frozen=True)
class PlanJob(Job):
    """All cases that teach, and what is asked of the plans.

    Parameters
    ----------
    cases
        That teach.
    names
        Of the structures, by value.
    profile
        Before anything is cut down.
    round
        The first, or the second.
    """

    stage = STAGE
    facts = PlanFacts
    code = ("covoxel.external.nnunet", "tasks.nnunet_data", "tasks.plan_nnunet")
    vital = False

    cases: Sequence[TaughtCase]
    names: Mapping[int, str]
    profile: Profile
    round: int

    def inputs(self) -> Mapping[str, str]:
        """SHA-256 of everything that is read, by name."""
        return {name: sha for case in self.cases for name, sha in case.hashes().items()}

    def parameters(self) -> Mapping[str, Any]:
        """Settings the result depends on."""
        return {"profile": asdict(self.profile), "names": {str(value): name for value, name in self.names.items()}}


@task(task_run_name="plan nnU-Net", **TASK_OPTIONS)
@work
def plan_nnunet(job: PlanJob) -> Made:
    """Write data set and plans; what the plans became is in the facts."""
    folder = job.layout.nnunet(job.round)
    made = plan(make_dataset(folder, job.cases, job.names), folder, job.profile, device=job.device)
    facts = {
        "profile": asdict(made.profile),
        "configuration": made.configuration,
        "fingerprint": made.fingerprint,
        "remarks": list(made.remarks),
        "failed": dict(made.failed),
    }
    path = folder / "plan.json"
    write_json(path, facts)
    return Made([path], facts)


def plan_jobs(study: Study, round_: int) -> list[PlanJob]:
    """The one job of a round, if nnU-Net is trained and there is something to train it on."""
    cases, names = taught_cases(study, round_), label_names(study)
    if not cases or not names:
        return []
    return [
        PlanJob(
            plan_name(round_),
            study.call.output,
            study.device,
            cases=cases,
            names=names,
            profile=profile_of(study.call.settings.segment.nnunet, study.device),
            round=round_,
        )
    ]


def plan_name(round_: int) -> str:
    """What stands for the id of a case in the record of a round's plan."""
    return f"@nnunet-{round_}"
