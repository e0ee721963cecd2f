"""The other verbs: one stage alone, some cases alone, 2-D cohorts, the set-up of Prefect."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from covoxel.io import read_table, write_image, write_labels
from covoxel.spatial import Grid, Image
from flows.daemons import Daemon

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]
VERBS = ("demo", "few-shot", "preprocess", "register", "fuse-labels", "report", "status", "settings", "deploy")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_teaches_with_an_example(verb: str) -> None:
    from typer.testing import CliRunner

    from flows.__main__ import app

    result = CliRunner().invoke(app, [verb, "--help"], terminal_width=200)
    assert result.exit_code == 0
    assert f"python -m flows {verb}" in result.stdout.replace("\n", " ")


def test_help_and_wrong_calls_do_not_load_torch_or_prefect() -> None:
    code = (
        "import sys, flows.__main__\nassert not {'torch', 'prefect', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_one_stage_alone_does_what_it_needs_and_some_cases_alone_leave_the_others(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=4), tmp_path / "out"
    run = ["--cohort", cohort, "--atlases", "c1,c2", "--output", output, "--settings", quick_settings]

    assert invoke("register", *run, "--cases", "c3")[0] == 0
    assert {path.name for path in (output / "transforms").glob("*.h5")} == {"c3_from_c1_xfm.h5", "c3_from_c2_xfm.h5"}
    assert not (output / "segmentations").exists()

    assert invoke("few-shot", *run, "--cases", "c3")[0] == 0
    assert list(read_table(output / "cases.tsv")["id"]) == ["c3"]
    assert invoke("few-shot", *run, "--cases", "c4")[0] == 0
    table = read_table(output / "cases.tsv")
    assert list(table["id"]) == ["c3", "c4"]
    assert list(table["status"]) == ["done", "done"]
    assert sorted(set(read_table(output / "volumes.tsv")["id"])) == ["c3", "c4"]


def test_a_cohort_of_2d_images_is_segmented(invoke: Invoke, quick_settings: Path, tmp_path: Path) -> None:
    grid = Grid.from_spacing((20, 16), (1.0, 1.5))
    labels = torch.zeros(grid.shape, dtype=torch.int64)
    labels[6:14, 4:12] = 5
    for number in (1, 2, 3):
        noise = torch.randn(grid.shape, generator=torch.Generator().manual_seed(number))
        write_image(tmp_path / "flat" / "images" / f"s{number}.nii.gz", Image(labels * 20.0 + noise, grid))
        write_labels(tmp_path / "flat" / "labels" / f"s{number}.nii.gz", Image(labels, grid))
    output = tmp_path / "out"
    status, text, _ = invoke(
        "few-shot",
        *("--cohort", tmp_path / "flat", "--atlases", "s1", "--output", output, "--settings", quick_settings),
        *("--evaluate", tmp_path / "flat" / "labels"),
    )
    assert status == 0
    assert "mean Dice 1.0000 over 2 cases" in text


def test_status_of_a_folder_without_a_run_is_a_wrong_call(invoke: Invoke, tmp_path: Path) -> None:
    status, _, errors = invoke("status", "--output", tmp_path)
    assert status == 2
    assert "holds no run of covoxel" in errors


def test_the_printed_settings_can_be_used(invoke: Invoke, tmp_path: Path) -> None:
    from tasks.settings import FewShotSettings, load_settings

    status, text, _ = invoke("settings")
    assert status == 0
    (tmp_path / "printed.yaml").write_text(text)
    assert load_settings(tmp_path / "printed.yaml") == FewShotSettings()


def test_a_daemon_outlives_its_starter_and_is_stopped_by_its_id(tmp_path: Path) -> None:
    daemon = Daemon("sleeper", tmp_path)
    assert daemon.facts() == {}
    assert daemon.stop() is False
    daemon.start(["sh", "-c", "sleep 300 & echo $!; wait"], dict(os.environ), url="here")
    again = Daemon("sleeper", tmp_path)
    pid = int(again.facts()["pid"])
    assert again.facts()["url"] == "here"
    assert os.getsid(pid) == pid
    while not daemon.log.read_text().endswith("\n"):
        time.sleep(0.01)
    child = int(daemon.log.read_text())
    assert _alive(pid)
    assert _alive(child)
    assert again.stop() is True
    assert again.facts() == {}
    assert not _alive(pid)
    assert not _alive(child)


def test_a_private_server_dies_with_its_run(tmp_path: Path) -> None:
    code = (
        "import flows.server as s, sys, time, os\n"
        "s._COMMAND = [sys.executable, '-c', 'import time; time.sleep(300)']\n"
        "child = s._start(1)\nprint(child.pid, flush=True)\ntime.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_HOME": str(tmp_path)}
    run = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    child = int(run.stdout.readline())
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    end = time.monotonic() + 10
    while _alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_deploy_makes_pools_and_deployments_and_prunes_what_is_named_no_more(prefect_api: str) -> None:
    from prefect.client.orchestration import get_client

    from flows.deploy import POOLS, _make_deployments, _make_pools, _named, _prune

    _make_pools()
    _make_pools()
    _make_deployments(prefect_api)
    with get_client(sync_client=True) as client:
        assert set(POOLS) <= {pool.name for pool in client.read_work_pools()}
        made = {(str(item.entrypoint), item.name): item for item in client.read_deployments()}
        assert set(made) == _named()
        few_shot = made["flows.few_shot.few_shot", "cpu"]
        assert few_shot.job_variables["working_dir"] == str(Path(__file__).resolve().parents[2])
        client.create_deployment(
            flow_id=few_shot.flow_id, name="old", entrypoint="flows.few_shot.few_shot", tags=["covoxel"]
        )
        client.create_deployment(few_shot.flow_id, name="of-others", entrypoint="x.y", tags=["theirs"])
        assert _prune() == 1
        assert {item.name for item in client.read_deployments()} == {name for _, name in _named()} | {"of-others"}
