"""Status: what became of each case of an output folder, and what a rerun would do; reads, and starts nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from covoxel.io import read_table
from covoxel.manifest import FolderLock
from tasks.call import Call, CallError
from tasks.check import check_jobs, set_aside
from tasks.fuse import fuse_jobs, keep_jobs
from tasks.job import Job
from tasks.layout import Layout
from tasks.preprocess import preprocess_jobs
from tasks.register import register_jobs
from tasks.study import Study, read_study

NOT_YET = "not done yet"
NOTHING = "nothing"

_STAGES: tuple[tuple[str, Callable[[Study], Sequence[Job]]], ...] = (
    ("check", check_jobs),
    ("preprocess", preprocess_jobs),
    ("register", register_jobs),
    ("fuse", lambda study: [*fuse_jobs(study), *keep_jobs(study)]),
)


def status_lines(output: Path) -> list[str]:
    """Lines for people: a line a case (state, reason, what a rerun would do), then the counts.

    Raises
    ------
    CallError
        If the folder holds no run.
    """
    layout = Layout(output)
    states = _states(layout)
    try:
        reruns, trouble = plan(_last_call(layout)), None
    except CallError as error:
        if not layout.call.is_file():
            raise
        reruns, trouble = {}, str(error)
    lines = []
    for case in sorted({*states, *reruns}):
        state, reason = states.get(case, (NOT_YET, ""))
        again = reruns.get(case, NOTHING if trouble is None else "unknown")
        lines.append("\t".join(part for part in (case, state, reason, f"a rerun would do: {again}") if part))
    counts = Counter(states.get(case, (NOT_YET, ""))[0] for case in {*states, *reruns})
    lines.append(", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "no case yet")
    if trouble:
        lines.append(f"a rerun is not possible as things are: {trouble}")
    holder = FolderLock(output).holder()
    if holder:
        lines.append(f"a run is in progress (process {holder})")
    return lines


def plan(call: Call) -> dict[str, str]:
    """What a rerun of a call would do, by case: "nothing", or the first stage to be done and those after it.

    Raises
    ------
    CallError
        If the call is not possible any more.
    """
    study = read_study(call)
    reruns = dict.fromkeys((case.id for case in study.selected), NOTHING)
    reruns |= dict.fromkeys((rejected.id for rejected in study.cohort.rejected), NOTHING)
    names = [name for name, _ in _STAGES]
    for place, (stage, jobs_of) in enumerate(_STAGES):
        records = study.records.setdefault(stage, {})
        for job in jobs_of(study):
            record = job.done()
            if record is None:
                if job.case in reruns:
                    reruns[job.case] = " ".join(names[place:])
                study.failed[job.case] = NOT_YET
            else:
                records[job.case] = record
        if stage == "check":
            _set_aside(study)
    return reruns


def _set_aside(study: Study) -> None:
    try:
        set_aside(study)
    except CallError:
        if not any(case.id in study.failed for case in study.cohort.atlases):
            raise


def _last_call(layout: Layout) -> Call:
    try:
        return Call.model_validate_json(layout.call.read_text())
    except (OSError, ValueError):
        raise CallError(f"output {layout.output} holds no run of covoxel; name the --output of one") from None


def _states(layout: Layout) -> dict[str, tuple[str, str]]:
    if not layout.cases_table.is_file():
        return {}
    rows = read_table(layout.cases_table).to_dict("records")
    return {
        str(row["id"]): (str(row["status"]), row["reason"] if isinstance(row["reason"], str) else "") for row in rows
    }
