"""The other verbs: one stage alone, some cases alone, 2-D cohorts, the set-up of Prefect."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from covoxel.io import read_table, write_image, write_labels
from covoxel.manifest import Manifest
from covoxel.spatial import Grid, Image
from flows.daemons import Daemon

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]
STAGES = ("preprocess", "register", "fuse-labels", "report", "train-registration")
VERBS = ("demo", "few-shot", "longitudinal", *STAGES, "status", "settings", "deploy")


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


def test_the_demo_says_its_mean_dice_and_where_the_report_is(
    invoke: Invoke, quick_settings: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    status, text, errors = invoke("demo", "--output", output, "--cases", 4, "--settings", quick_settings)
    assert status == 0, errors
    said = re.search(r"mean Dice (0\.\d{4}) over (\d) cases", text)
    assert said is not None, text
    assert f"report: {output / 'report' / 'index.html'}" in text
    scores = read_table(output / "metrics.tsv").groupby("id")["dice"].mean()
    assert len(scores) == int(said[2]) > 0
    assert float(said[1]) == pytest.approx(scores.mean(), abs=1e-4)


def test_preprocess_needs_no_atlas_and_every_other_verb_does(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=3), tmp_path / "out"
    (cohort / "labels" / "c1.nii.gz").write_bytes(b"no image")
    status, text, _ = invoke("preprocess", "--cohort", cohort, "--output", output)
    assert status == 0
    assert "3 done" in text
    assert len(list((output / "work" / "preprocessed").glob("*.nii.gz"))) == 3
    assert not (output / "work" / "preprocessed_labels").exists()
    assert "c3\tnot done yet\ta rerun would do: nothing" in invoke("status", "--output", output)[1]

    assert invoke("few-shot", "--cohort", cohort, "--output", output)[0] == 2
    for verb in ("register", "fuse-labels", "report"):
        status, _, errors = invoke(verb, "--output", output)
        assert status == 2
        assert (
            errors == "error: no atlas is named; name at least one case whose label may be used (--atlases ID,ID,…)\n"
        )
        status, _, errors = invoke(verb, "--output", tmp_path / "none")
        assert status == 2
        assert "holds no run of covoxel" in errors

    assert invoke("register", "--output", output, "--atlases", "c2", "--settings", quick_settings)[0] == 0
    assert invoke("report", "--output", output, "--evaluate", tmp_path / "cohort-truth")[0] == 0
    assert list(read_table(output / "cases.tsv")["status"]) == ["done"] * 3
    assert sorted(set(read_table(output / "metrics.tsv")["id"])) == ["c1", "c3"]
    assert "majority vote" in (output / "report" / "index.html").read_text()


def test_the_report_names_the_similarity(invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path) -> None:
    settings = tmp_path / "affine.yaml"
    settings.write_text("register: {engine: affine, options: {similarity: nmi, iterations: [1], search: false}}\n")
    cohort, output = make_cohort(cases=2, labelled=1), tmp_path / "out"
    run = ["--cohort", cohort, "--atlases", "c1", "--output", output, "--settings", settings]
    assert invoke("few-shot", *run)[0] == 0
    page = (output / "report" / "index.html").read_text()
    assert "normalised mutual information" in page
    assert "cross-correlation" not in page


def test_names_by_which_two_transforms_would_be_one_file_are_refused(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=4), tmp_path / "out"
    names = {"c1": "z", "c2": "y_from_z", "c3": "x", "c4": "X_from_y"}
    for part in ("images", "labels"):
        for old, new in names.items():
            if (cohort / part / f"{old}.nii.gz").exists():
                (cohort / part / f"{old}.nii.gz").rename(cohort / part / f"{new}.nii.gz")
    run = ["--cohort", cohort, "--output", output, "--settings", quick_settings]
    status, _, errors = invoke("few-shot", *run, "--atlases", "z,y_from_z")
    assert status == 2
    assert "'x'" in errors
    assert "'X_from_y'" in errors
    assert "rename one of these cases" in errors
    assert not (output / "transforms").exists()
    assert invoke("preprocess", *run, "--atlases", "z")[0] == 0


def test_atlases_brought_onto_each_other_must_not_share_a_file_with_a_case(
    invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path
) -> None:
    """Atlas z onto atlas x_from_y, and atlas y_from_z onto case x."""
    cohort = make_cohort(cases=4, labelled=3)
    for part in ("images", "labels"):
        for old, new in {"c1": "x_from_y", "c2": "z", "c3": "y_from_z", "c4": "x"}.items():
            if (cohort / part / f"{old}.nii.gz").exists():
                (cohort / part / f"{old}.nii.gz").rename(cohort / part / f"{new}.nii.gz")
    run = ("--cohort", cohort, "--output", tmp_path / "out", "--atlases", "x_from_y,z,y_from_z")
    status, _, errors = invoke("few-shot", *run)
    assert status == 2
    assert "x_from_y_from_z_xfm.h5; rename one of these cases" in errors


def test_a_run_with_nothing_to_compute_starts_no_server_and_still_writes_the_report(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, output = make_cohort(cases=3), tmp_path / "out"
    truth = tmp_path / "cohort-truth"
    run = ["--cohort", cohort, "--atlases", "c1,c2", "--output", output, "--settings", quick_settings]
    first = invoke("few-shot", *run, "--evaluate", truth)
    tables = {path.name: path.read_bytes() for path in output.glob("*.tsv")}
    (output / "report" / "index.html").unlink()
    (output / "cases.tsv").unlink()

    def no_server(*_: object) -> None:
        raise AssertionError("a server was started")

    monkeypatch.setattr("flows.server.prefect_server", no_server)
    monkeypatch.delenv("PREFECT_API_URL")
    assert invoke("few-shot", *run, "--evaluate", truth)[:2] == first[:2]
    assert {path.name: path.read_bytes() for path in output.glob("*.tsv")} == tables
    assert "c3" in (output / "report" / "index.html").read_text()
    for verb in ("register", "fuse-labels"):
        assert invoke(verb, "--output", output)[:2] == (0, "3 done, 0 failed, 0 set aside\n")

    record = Manifest(output).read("register", "c3")
    assert record is not None
    Manifest(output).write(replace(record, seconds=2040.0))
    assert invoke("few-shot", *run)[0] == 0
    assert "34 min" in (output / "report" / "index.html").read_text(), "the time of the work is that of the first run"

    (output / "transforms" / "c3_from_c1_xfm.h5").write_bytes(b"damaged")
    status, _, errors = invoke("few-shot", *run)
    assert status == 1
    assert "a server was started" in errors


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
    from tasks.settings import FewShotSettings
    from tasks.settings_file import load_settings

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
    assert _dies(child)


def test_a_private_server_dies_with_its_run(tmp_path: Path) -> None:
    code = (
        "import flows.server as s, sys, time, os\n"
        "s._COMMAND = [sys.executable, '-c', 'import time; time.sleep(300)']\n"
        "child = s._start(1, s._free_slot(), 'covoxel:x')\nprint(child.pid, flush=True)\ntime.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PREFECT_HOME": str(tmp_path)}
    run = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    child = int(run.stdout.readline())
    run.send_signal(signal.SIGKILL)
    run.wait()
    run.stdout.close()
    assert _dies(child)


def _dies(pid: int) -> bool:
    """Whether a process that was sent its end is gone soon; a busy machine takes a moment."""
    end = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_progress_table_and_end_stand_on_the_page_of_the_run_itself(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    cohort, output = make_cohort(cases=3), tmp_path / "out"
    run = ["--cohort", cohort, "--atlases", "c1,c2", "--output", output, "--settings", quick_settings]
    assert invoke("few-shot", *run, "--evaluate", tmp_path / "cohort-truth")[0] == 0
    with get_client(sync_client=True) as client:
        few_shot = FlowFilter(name=FlowFilterName(any_=["few-shot"]))
        newest = client.read_flow_runs(flow_filter=few_shot, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[newest.id]))
        artifacts = {item.key: item for item in client.read_artifacts(artifact_filter=ours)}
    stages = ("check", "preprocess", "register", "fuse", "evaluate", "figures")
    assert set(artifacts) == {"cases", "summary", *(f"{stage}-progress" for stage in stages)}
    assert all(artifacts[f"{stage}-progress"].data == 100 for stage in stages)
    assert artifacts["fuse-progress"].description == "fuse: 3 of 3 cases"
    assert [row["id"] for row in json.loads(str(artifacts["cases"].data))] == ["c1", "c2", "c3"]
    assert "3 done" in str(artifacts["summary"].data)
    assert "mean Dice 0." in str(artifacts["summary"].data)


def test_deploy_makes_pools_and_deployments_and_prunes_what_is_named_no_more(prefect_api: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolUpdate
    from prefect.workers.process import ProcessWorker

    from flows.deploy import POOLS, _make_deployments, _make_pools, _named, _prune, job_template

    _make_pools()
    with get_client(sync_client=True) as client:
        old = WorkPoolUpdate(base_job_template=ProcessWorker.get_default_base_job_template(), concurrency_limit=7)
        client.update_work_pool("cpu", old)
    _make_pools()
    _make_deployments(prefect_api)
    with get_client(sync_client=True) as client:
        assert client.read_work_pool("cpu").concurrency_limit == 7, "an operator's change is kept"
    with get_client(sync_client=True) as client:
        assert set(POOLS) <= {pool.name for pool in client.read_work_pools()}
        made = {(str(item.entrypoint), item.name): item for item in client.read_deployments()}
        assert set(made) == _named()
        few_shot = made["flows.few_shot.few_shot", "cpu"]
        assert few_shot.job_variables == {}
        for pool in client.read_work_pools():
            if pool.name in POOLS:
                assert pool.base_job_template == job_template()
                assert set(pool.base_job_template["variables"]["properties"]) == {"name"}
        client.create_deployment(
            flow_id=few_shot.flow_id, name="old", entrypoint="flows.few_shot.few_shot", tags=["covoxel"]
        )
        client.create_deployment(few_shot.flow_id, name="of-others", entrypoint="x.y", tags=["theirs"])
        assert _prune() == 1
        assert {item.name for item in client.read_deployments()} == {name for _, name in _named()} | {"of-others"}
