"""A run at a terminal that is interrupted, or loses its private server: it ends soon, leaves nothing, and goes on."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.interrupt_call import Call, Ended
from covoxel.manifest import FolderLock, Manifest

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]
SOON_SECONDS = 20.0
RECIPE = """
method: a tiny network for tests (nobody, 2019)
network: voxelmorph-1
network_settings: {head: stationary, encoder: [4], decoder: [4], half: 4, last: [4]}
similarity: {name: ncc}
batch: 2
steps: 100000
warm_up: 0
held_out: 0.0
check_every: 1000
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Call]:
    """A call that starts a private server."""

    def call(*arguments: object) -> Call:
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        return Call([str(argument) for argument in arguments], tmp_path / "state")

    return call


def check_end(ended: Ended, output: Path, last_line: str) -> None:
    assert ended.status == 1, ended.heard
    assert ended.seconds < SOON_SECONDS
    assert ended.last_line.startswith(last_line)
    assert "Traceback" not in ended.heard
    assert ended.left == 0
    assert FolderLock(output).holder() is None
    assert not list(output.rglob(".tmp-*"))


def test_ctrl_c_in_a_stage_and_the_same_call_again_give_the_bits_of_an_undisturbed_run(
    invoke: Invoke, make_cohort: MakeCohort, call: Callable[..., Call], tmp_path: Path
) -> None:
    cohort = make_cohort(cases=6)
    run = ("few-shot", "--cohort", cohort, "--atlases", "c1,c2", "--rule", "majority", "--workers", 1)
    output, undisturbed = tmp_path / "out", tmp_path / "undisturbed"
    assert invoke(*run, "--output", undisturbed)[0] == 0
    ours = call(*run)
    check_end(ours.run(output, stop_in="register", after=0.0), output, "interrupted; ")
    assert not (output / "report").exists()
    assert ours.run(output).status == 0
    files = [path.relative_to(undisturbed) for path in undisturbed.glob("segmentations/*.nii.gz")]
    assert len(files) == 12
    assert all((output / file).read_bytes() == (undisturbed / file).read_bytes() for file in files)


def test_ctrl_c_and_the_death_of_the_server_end_a_training_which_saves_where_it_is(
    make_cohort: MakeCohort, call: Callable[..., Call], tmp_path: Path
) -> None:
    recipe, output = tmp_path / "tiny.yaml", tmp_path / "out"
    recipe.write_text(RECIPE)
    ours = call("train-registration", "--cohort", make_cohort(cases=3), "--recipe", recipe, "--device", "cpu")
    check_end(ours.run(output, stop_in="train", shows=" [0-9]+/100000", after=0.5), output, "interrupted; ")
    (checkpoint,) = output.glob("work/training/*.pt")
    first = checkpoint.read_bytes()
    ended = ours.run(output, stop_in="train", shows=" [0-9]+/100000", after=0.5, by="server")
    check_end(ended, output, "error: the private Prefect server was killed by SIGKILL; run the same call again")
    assert checkpoint.read_bytes() != first
    assert Manifest(output).cases("train") == []
    assert not list((output / ".covoxel").glob("errors/*"))


def test_the_page_of_a_run_that_is_terminated_shows_it_as_crashed(
    make_cohort: MakeCohort, prefect_api: str, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    newest = FlowRunSort.START_TIME_DESC  # one answer has 200 runs at most, and the server of all tests has more
    output, arguments = tmp_path / "out", ("few-shot", "--cohort", str(make_cohort(cases=6)), "--atlases", "c1,c2")
    with get_client(sync_client=True) as client:
        before = {run.id for run in client.read_flow_runs(sort=newest)}
        ended = Call(arguments, tmp_path / "state").run(output, stop_in="register", after=0.0, by=signal.SIGTERM)
        check_end(ended, output, "interrupted; ")
        states = {
            run.name: run.state_name for run in client.read_flow_runs(sort=newest, limit=20) if run.id not in before
        }
    assert sorted(states.values()) == ["Completed", "Crashed", "Crashed"]  # preprocess; register and few-shot
