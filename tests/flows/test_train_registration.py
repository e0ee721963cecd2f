"""`train-registration` end to end on a tiny cohort: what trains, what is left, kills, reruns, and use in `few-shot`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from covoxel.io import read_labels, read_table, write_labels
from covoxel.manifest import Manifest, Record
from covoxel.spatial import Image, resample_labels
from covoxel.training import TrainingDivergedError

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]

TINY = """\
method: a tiny network for tests (nobody, 2022)
network: voxelmorph-1
network_settings: {head: stationary, encoder: [4, 4], decoder: [4, 4], half: 4, last: [4]}
similarity: {name: ncc}
batch: 2
warm_up: 0
held_out: 0.0
"""
FILES = {"weights.safetensors", "recipe.yaml", "model.json", "curve.tsv", "README.md"}
PATCHED = """\
import functools, sys
import tasks.train_registration as tasks
tasks.train_registration = functools.partial(tasks.train_registration, checkpoint_seconds=0.0)
from flows.__main__ import main
main()
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Path]:
    """Write a tiny recipe of so many steps, with more keys."""

    def recipe(more: str = "", name: str = "tiny", steps: int = 4) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"{TINY}steps: {steps}\ncheck_every: {max(1, steps // 2)}\n{more}")
        return path

    return recipe


def run(cohort: Path, output: Path, recipe: object, *more: object) -> list[object]:
    return ["train-registration", "--cohort", cohort, "--output", output, "--recipe", recipe, "--device", "cpu", *more]


def record(output: Path, name: str = "tiny") -> Record:
    found = Manifest(output).read("train", f"@{name}")
    assert found is not None
    return found


def with_test_case(cohort: Path, case: str) -> Path:
    (cohort / "split.json").write_text(json.dumps({"test": [case]}))
    return cohort


def test_a_network_is_trained_by_labels_once_and_then_labels_the_cohort(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    cohort, output = with_test_case(make_cohort(cases=5, labelled=5), "c5"), tmp_path / "out"
    call = run(cohort, output, recipe("supervision: labels\n"), "--atlases", "c1,c2")
    status, text, errors = invoke(*call)
    assert status == 0, errors
    model = output / "models" / "tiny"
    assert f"model: {model}" in text
    assert "trained for 4 steps; best after" in text
    assert "train: step 4 of 4, loss" in errors

    assert {path.name for path in model.iterdir()} == FILES
    assert list((output / "logs" / "tiny").glob("events.out.tfevents.*"))
    assert not list((output / "work").glob("training/*"))
    assert list(read_table(model / "curve.tsv")["step"].astype(int)) == [2, 4]
    trained = record(output)
    images = {"c1.image", "c2.image", "c3.image", "c4.image"}
    assert set(trained.inputs) == images | {"c1.labels", "c2.labels"}, "a test case does not train, nor another label"

    card = (model / "README.md").read_text()
    for said in (
        "a tiny network for tests",
        "**images**: 4",
        "**label maps**: 2 drawn by hand (those of the atlases), 0 predicted; of 3, 17",
        "engine: learned+svf",
        "must not score",
    ):
        assert said in card
    assert str(tmp_path) not in card
    assert "c1" not in card

    before = {path: path.stat().st_mtime_ns for path in model.iterdir()}
    assert invoke(*call)[:2] == (status, text)
    assert {path: path.stat().st_mtime_ns for path in model.iterdir()} == before
    assert "c3\ttrained on\ta rerun would do: nothing" in invoke("status", "--output", output)[1]

    settings = tmp_path / "use.yaml"
    settings.write_text(f"register: {{engine: learned, model: {model}}}\nfuse: {{rule: majority}}\n")
    use = ["--cohort", cohort, "--atlases", "c1,c2", "--output", output, "--settings", settings, "--device", "cpu"]
    status, text, errors = invoke("few-shot", *use, "--evaluate", tmp_path / "cohort-truth")
    assert status == 0, errors
    assert "over 3 cases" in text
    page = (output / "report" / "index.html").read_text()
    assert "predicted by a network" in page
    assert "a tiny network for tests" in page
    assert str(tmp_path) not in page


LABELS = "supervision: labels\n"


@pytest.fixture
def predicted(tmp_path: Path) -> Callable[..., Path]:
    """Write "predicted" label maps, which are the true ones, and settings of a training by them."""

    def predicted(*cases: str, more: str = "") -> Path:
        folder, settings = tmp_path / "predicted", tmp_path / "train.yaml"
        for case in cases:
            write_labels(folder / f"{case}.nii.gz", read_labels(tmp_path / "cohort-truth" / f"{case}.nii.gz"))
        settings.write_text(f"train: {{labels: predicted{more}}}\n")
        return settings

    return predicted


def test_predicted_label_maps_teach_and_those_that_are_the_truth_do_not_score(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: Callable[..., Path],
    predicted: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort, output = with_test_case(make_cohort(cases=6, labelled=1), "c6"), tmp_path / "out"
    settings, folder = predicted("c1", "c2", "c3", "c6"), tmp_path / "predicted"
    labels = read_labels(folder / "c2.nii.gz")
    grid = labels.grid.with_spacing(3.0)
    write_labels(folder / "c2.nii.gz", resample_labels(labels, grid))
    write_labels(folder / "c5.nii.gz", Image(labels.data + 40, labels.grid))
    monkeypatch.chdir(tmp_path)
    call = run(cohort, output, recipe(LABELS), "--atlases", "c1", "--settings", settings)
    status, text, errors = invoke(*call)
    assert status == 0, errors
    assert "c5: its predicted label map does not teach: it has the value 40, which no atlas has" in text
    taught = {name for name in record(output).inputs if not name.endswith(".image")}
    assert taught == {"c1.labels", "c2.predicted", "c3.predicted", "c5.predicted"}, "c1 by its own; not a test case"
    card = (output / "models" / "tiny" / "README.md").read_text()
    assert "1 drawn by hand (those of the atlases), 2 predicted (1 more did not fit and were left out)" in card
    facts = json.loads((output / "models" / "tiny" / "model.json").read_text())
    assert len(facts["taught_by"]) == 3
    assert str(tmp_path) not in (output / "models" / "tiny" / "model.json").read_text()
    assert invoke(*call)[1] == text
    assert "c3\ttrained on\ta rerun would do: nothing" in invoke("status", "--output", output)[1]

    use = tmp_path / "use.yaml"
    use.write_text(f"register: {{engine: learned, model: {output / 'models' / 'tiny'}}}\nfuse: {{rule: majority}}\n")
    call = ["--cohort", cohort, "--atlases", "c1", "--output", output, "--settings", use, "--device", "cpu"]
    status, text, errors = invoke("few-shot", *call, "--evaluate", tmp_path / "cohort-truth")
    assert status == 0, errors
    assert "over 4 cases" in text, "c2, c4, c5, c6"
    rows = read_table(output / "cases.tsv").set_index("id")["flags"].fillna("")
    refused = "its true label trained the network that registered it and cannot score it"
    assert [case for case in rows.index if refused in rows[case]] == ["c3"]


def test_a_label_map_that_changes_is_a_new_training_and_one_of_a_named_test_case_teaches(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], predicted: Callable[..., Path], tmp_path: Path
) -> None:
    cohort, output = with_test_case(make_cohort(cases=4, labelled=2), "c4"), tmp_path / "out"
    how = recipe(LABELS)
    settings = tmp_path / "train.yaml"

    def train(labels: Path) -> Record:
        settings.write_text(f"train: {{labels: {labels}}}\n")
        call = run(cohort, output, how, "--atlases", "c1,c2", "--cases", "c3,c4", "--settings", settings)
        status, _, errors = invoke(*call)
        assert status == 0, errors
        return record(output)

    predicted("c3", "c4")
    first = train(tmp_path / "predicted")
    assert {"c3.predicted", "c4.predicted"} < set(first.inputs)
    moved = (tmp_path / "predicted").rename(tmp_path / "moved")
    assert train(moved).seconds == first.seconds
    labels = read_labels(moved / "c3.nii.gz")
    write_labels(moved / "c3.nii.gz", Image(labels.data.flip(0), labels.grid))
    again = train(moved)
    assert again.fingerprint != first.fingerprint
    weights = "models/tiny/weights.safetensors"
    assert again.outputs[weights] != first.outputs[weights]


def test_precision_reaches_the_training_and_is_part_of_what_it_is_known_by(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    cohort, settings, path = make_cohort(cases=2), tmp_path / "train.yaml", recipe()
    weights = []
    for precision in ("32-true", "bf16-mixed"):
        settings.write_text(f"train: {{precision: {precision}}}\n")
        assert invoke(*run(cohort, tmp_path / "out", path, "--settings", settings))[0] == 0
        assert f"**precision**: {precision}" in (tmp_path / "out" / "models" / "tiny" / "README.md").read_text()
        weights.append((tmp_path / "out" / "models" / "tiny" / "weights.safetensors").read_bytes())
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    ("text", "train", "sentence"),
    [
        (LABELS, "labels: none", "there is no such folder"),
        (LABELS, "labels: predicted", "it has a label map for none of the 1 cases that train and are no atlas"),
        ("", "labels: predicted", "the recipe tiny has supervision images, and learns from no label"),
        ("", "devices: 2", "train.devices = 2 is wrong: only GPUs can be several"),
        ("", "devices: 0", "train.devices = 0 is wrong"),
        ("", "precision: 16-mixed", "train.precision = '16-mixed' is wrong: the CPU has"),
        ("", "precision: half", "train.precision = 'half' is wrong"),
    ],
)
def test_wrong_settings_of_a_training_are_refused_before_anything_starts(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: Callable[..., Path],
    predicted: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    train: str,
    sentence: str,
) -> None:
    cohort = with_test_case(make_cohort(cases=4), "c4")
    predicted("c1", "c4")
    settings = tmp_path / "wrong.yaml"
    settings.write_text(f"train: {{{train}}}\n")
    monkeypatch.chdir(tmp_path)
    call = run(cohort, tmp_path / "out", recipe(text), "--atlases", "c1,c2", "--settings", settings)
    status, _, errors = invoke(*call)
    assert status == 2
    assert sentence in errors
    assert not (tmp_path / "out").exists()


def test_a_test_case_that_is_named_trains_by_its_image_alone_and_no_atlas_is_needed(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    cohort, output = with_test_case(make_cohort(cases=4, labelled=4), "c4"), tmp_path / "out"
    status, _, errors = invoke(*run(cohort, output, recipe(), "--cases", "c3,c4"))
    assert status == 0, errors
    assert set(record(output).inputs) == {"c3.image", "c4.image"}
    assert "**label maps**: none" in (output / "models" / "tiny" / "README.md").read_text()


def test_steps_and_the_end_stand_on_the_page_of_the_run(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    assert invoke(*run(make_cohort(cases=2), tmp_path / "out", recipe()))[0] == 0
    with get_client(sync_client=True) as client:
        ours = FlowFilter(name=FlowFilterName(any_=["train-registration"]))
        newest = client.read_flow_runs(flow_filter=ours, sort=FlowRunSort.START_TIME_DESC, limit=1)[0]
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[newest.id]))
        artifacts = {item.key: item for item in client.read_artifacts(artifact_filter=of_run)}
    assert set(artifacts) == {"check-progress", "preprocess-progress", "train-progress", "summary"}
    assert artifacts["train-progress"].data == 100
    assert artifacts["train-progress"].description == "train: 4 of 4 steps"
    assert "trained for 4 steps" in str(artifacts["summary"].data)


def test_affine_alignment_is_done_once_for_all_recipes_and_each_keeps_its_model(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=3), tmp_path / "out"
    first = recipe("alignment: affine\n")
    assert invoke(*run(cohort, output, first))[0] == 0
    aligned = {path: path.stat().st_mtime_ns for path in (output / "work" / "aligned").glob("*.h5")}
    assert {path.name for path in aligned} == {"c2_xfm.h5", "c3_xfm.h5"}
    assert {"c1.image", "c2.alignment", "c3.alignment"} < set(record(output).inputs)

    weights = output / "models" / "tiny" / "weights.safetensors"
    time_of_first = weights.stat().st_mtime_ns
    second = recipe("alignment: affine\nlearning_rate: 0.01\n", name="other")
    assert invoke(*run(cohort, output, second))[0] == 0
    assert invoke(*run(cohort, output, first))[0] == 0
    assert weights.stat().st_mtime_ns == time_of_first
    assert (output / "models" / "other" / "weights.safetensors").read_bytes() != weights.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in aligned} == aligned


def test_killed_in_training_and_run_again_gives_the_weights_of_an_undisturbed_run(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path, prefect_api: str
) -> None:
    cohort, path = make_cohort(cases=3), recipe(steps=60)
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PATCHED, *map(str, run(cohort, killed, path))]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(killed.glob("work/training/*.pt")) and child.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert Manifest(killed).cases("train") == []
    assert "c2\tnot done yet\ta rerun would do: train" in invoke("status", "--output", killed)[1]

    status, _, errors = invoke(*run(cohort, killed, path))
    assert status == 0, errors
    assert "done before" in errors
    assert invoke(*run(cohort, undisturbed, path))[0] == 0
    weights = [output / "models" / "tiny" / "weights.safetensors" for output in (killed, undisturbed)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    curves = [output / "models" / "tiny" / "curve.tsv" for output in (killed, undisturbed)]
    assert curves[0].read_bytes() == curves[1].read_bytes()
    assert not list(killed.rglob(".tmp-*"))


def test_an_interrupted_run_ends_its_training_with_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import mapping

    told: list[Callable[[int, int, float], None]] = []

    def jobs(study: object, tell: Callable[[int, int, float], None]) -> list[object]:
        told.append(tell)
        return []

    def interrupt(*_: object, **__: object) -> None:
        told[0](1, 9, 0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(mapping, "run_stage", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mapping.run_steps(object(), "train", object(), jobs)  # type: ignore[arg-type]
    with pytest.raises(InterruptedError):
        told[0](2, 9, 0.5)


def test_one_bad_image_does_not_stop_the_training(
    invoke: Invoke, make_cohort: MakeCohort, recipe: Callable[..., Path], tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=4), tmp_path / "out"
    (cohort / "images" / "c4.nii.gz").write_bytes(b"no image")
    status, text, errors = invoke(*run(cohort, output, recipe()))
    assert status == 3
    assert "3 done, 0 failed, 1 set aside" in text
    assert "c4: " in errors
    assert set(record(output).inputs) == {"c1.image", "c2.image", "c3.image"}


def test_a_training_that_diverges_leaves_no_model_and_says_at_which_case(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingDivergedError("the loss of c1 onto c2 was nan at step 3; the last checkpoint is kept")

    monkeypatch.setattr("tasks.train_registration.train_registration", diverge)
    output = tmp_path / "out"
    status, _, errors = invoke(*run(make_cohort(cases=2), output, recipe()))
    assert status == 1
    assert "error: no model was trained: the loss of c1 onto c2 was nan at step 3" in errors
    assert not (output / "models").exists()


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        (None, [], "unknown recipe 'tyni'; the nearest known one is"),
        ("stesp: 3\n", [], "unknown key stesp; the nearest known key is steps"),
        ("supervision: labels\n", ["--atlases", "c1"], "name two cases or more with --atlases, got 1"),
        ("pairs: within\n", [], "no subject has two"),
        ("", ["--cases", "c9"], "c9"),
    ],
)
def test_wrong_calls_are_refused_before_anything_starts(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: Callable[..., Path],
    tmp_path: Path,
    text: str | None,
    more: list[str],
    sentence: str,
) -> None:
    output = tmp_path / "out"
    name = "tyni" if text is None else recipe(text)
    status, _, errors = invoke(*run(make_cohort(cases=2), output, name, *more))
    assert status == 2
    assert sentence in errors
    assert not output.exists()
