"""Status: what became of each case of an output folder, and what a rerun would do; reads, and starts nothing."""

from collections import Counter
from pathlib import Path

from covoxel.io import read_table
from covoxel.manifest import FolderLock
from tasks import train_joint, train_registration
from tasks.call import Call, CallError
from tasks.joint_recipe import find_joint_recipe, load_joint_recipe
from tasks.last_call import last_call
from tasks.layout import Layout
from tasks.recipe import find_recipe, load_recipe
from tasks.rerun import NOT_YET, NOTHING, plan
from tasks.settings import SettingsError
from tasks.trainings import trained, trained_on


def status_lines(output: Path) -> list[str]:
    """Lines for people: a line a case (state, reason, what a rerun would do), then the counts.

    Raises
    ------
    CallError
        If the folder holds no run.
    """
    layout = Layout(output)
    states = _states(layout.cases_table)
    try:
        call = last_call(output)
        states |= _states(layout.longitudinal("cases.tsv")) if call.follows else {}
        states = _trained_on(call) | (_states(layout.atlas("cases.tsv")) if call.builds_atlas else {}) | states
        reruns, trouble = plan(call), None
    except (CallError, SettingsError) as error:
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


def _trained_on(call: Call) -> dict[str, tuple[str, str]]:
    """Cases on which the network of a training was trained."""
    if call.recipe is None:
        return {}
    if call.trains == "joint":
        stage, name = train_joint.STAGE, load_joint_recipe(find_joint_recipe(call.recipe)).name
    else:
        stage, name = train_registration.STAGE, load_recipe(find_recipe(call.recipe)).name
    record = trained(call.output, stage, name)
    return {} if record is None else dict.fromkeys(trained_on(record), ("trained on", ""))


def _states(table: Path) -> dict[str, tuple[str, str]]:
    if not table.is_file():
        return {}
    rows = read_table(table).to_dict("records")
    return {
        str(row["id"]): (str(row["status"]), row["reason"] if isinstance(row["reason"], str) else "") for row in rows
    }
