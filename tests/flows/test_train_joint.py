"""`train-joint` end to end on a tiny cohort: what trains, what is left, kills, reruns, and what is refused or told."""

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
from covoxel.spatial import Image
from covoxel.training import TrainingDivergedError
from tasks import joint_training
from tasks.joint_facts import joint_facts
from tasks.joint_models import load_segmenter
from tasks.models import load_model
from tasks.weights import ModelError

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]
MakeRecipe = Callable[..., Path]

TWO = """\
method: two tiny networks for tests (nobody, 2019)
registration:
  network: voxelmorph-1
  network_settings: {{head: stationary, encoder: [4], decoder: [4], half: 4, last: [4]}}
  similarity: {{name: ncc}}
  supervision: labels
  batch: 2
  warm_up: 0
  held_out: 0.0
  steps: {steps}
segmentation: {{network: unet, network_settings: {{widths: [2, 4]}}, warm_up: 0}}
segmentation_steps: {steps}
joint_steps: {steps}
ratio: 1
check_every: {steps}
"""
ONE = """\
method: one tiny network for tests (nobody, 2020)
network: shared-unet
network_settings: {{widths: [4, 4]}}
similarity: {{name: ncc}}
batch: 2
warm_up: 0
steps: {steps}
check_every: {steps}
"""
LEFT = {"registration", "segmentation.safetensors", "separate.safetensors", "recipe.yaml", "joint.json"}
LEFT |= {"curve.tsv", "README.md"}
PATCHED = """\
import functools, sys
import tasks.joint_training as tasks
tasks.train_joint = functools.partial(tasks.train_joint, checkpoint_seconds=0.0)
from flows.__main__ import main
main()
"""


@pytest.fixture
def recipe(tmp_path: Path) -> MakeRecipe:
    """Write a tiny recipe of so many steps a phase, with more keys."""

    def recipe(more: str = "", kind: str = TWO, steps: int = 2) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(kind.format(steps=steps) + more)
        return path

    return recipe


@pytest.fixture
def run(quick_settings: Path) -> Callable[..., list[object]]:
    """Arguments of a call."""

    def run(cohort: Path, output: Path, recipe: object, *more: object) -> list[object]:
        call = ["train-joint", "--cohort", cohort, "--output", output, "--recipe", recipe]
        return [*call, "--settings", quick_settings, "--device", "cpu", *more]

    return run


def record(output: Path) -> Record:
    found = Manifest(output).read("train-joint", "@tiny")
    assert found is not None
    return found


@pytest.fixture
def spares_one_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small cohort will do."""
    monkeypatch.setattr(joint_training, "FEWEST", 4)


def with_test_case(cohort: Path, case: str) -> Path:
    (cohort / "split.json").write_text(json.dumps({"test": [case]}))
    return cohort


@pytest.mark.usefixtures("spares_one_of_four")
def test_networks_are_trained_by_atlases_and_fused_labels_once(
    invoke: Invoke, make_cohort: MakeCohort, recipe: MakeRecipe, run: Callable[..., list[object]], tmp_path: Path
) -> None:
    cohort, output = with_test_case(make_cohort(cases=6, labelled=6), "c6"), tmp_path / "out"
    call = run(cohort, output, recipe("held_out: 3\n"), "--atlases", "c1,c2,c3,c4")
    status, text, errors = invoke(*call)
    assert status == 0, errors
    model = output / "models" / "tiny"
    assert f"model: {model}" in text
    assert "trained on 5 cases, 4 with labels of their own, 1 with fused ones" in text
    assert "the recipe holds out 3 atlases to judge; of 4, 1 can be spared" in text
    assert "label 17: joint minus separate Dice" in text
    assert "on 1 held-out case: " in text
    assert "train-joint: step 6 of 6, loss" in errors

    assert {path.name for path in model.iterdir()} == LEFT
    assert not list((output / "work").glob("training/*"))
    assert list((output / "logs" / "tiny").rglob("events.out.tfevents.*"))
    assert set(read_table(model / "curve.tsv")["phase"]) == {"registration", "segmentation", "joint"}
    images = {f"c{number}.image" for number in range(1, 6)}
    labels = {"c1.labels", "c2.labels", "c3.labels", "c4.labels"}
    fused = {"c5.predicted", "c5.confidence"}
    assert set(record(output).inputs) == images | labels | fused, "a test case does not train, nor another label"
    assert not (output / "segmentations" / "c5.nii.gz").exists(), "fused labels that teach are no result"

    facts = joint_facts(model)
    assert facts.values == (0, 3, 17)
    assert len(facts.taught_by) == 5
    assert [verdict.label for verdict in facts.verdicts] == [1, 2]
    assert all(verdict.sentence in text for verdict in facts.verdicts)
    scores = record(output).facts["scores"]
    assert {name: len(cases) for name, cases in scores.items()} == {"segmentation": 1, "separate": 1}
    assert load_segmenter(model, "cpu").values == facts.values
    assert load_model(model / "registration", "cpu").spacing_mm == facts.spacing_mm
    card = (model / "README.md").read_text()
    for said in ("two tiny networks", "**images**: 5", "4 drawn by hand (those of the atlases), 1 fused of theirs"):
        assert said in card
    assert facts.verdicts[0].sentence in card
    assert str(tmp_path) not in card
    assert not any(f"c{number}" in card for number in range(1, 6))

    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert invoke(*call)[:2] == (status, text)
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert {path.name for path in after if before.get(path) != after[path]} <= {"call.json", "lock"}
    assert "c5\ttrained on\ta rerun would do: nothing" in invoke("status", "--output", output)[1]


def test_a_recipe_without_fused_labels_registers_nothing_and_needs_no_alarm_to_end(
    invoke: Invoke, make_cohort: MakeCohort, recipe: MakeRecipe, run: Callable[..., list[object]], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    how = recipe("fused_weight: 0\nheld_out: 1\n")
    status, text, errors = invoke(*run(make_cohort(cases=3), output, how, "--atlases", "c1,c2"))
    assert status == 0, errors
    assert "register:" not in errors
    assert "the recipe holds out 1 atlases to judge; of 2, none can be spared" in text
    assert "no atlas was held out: the alarm could not be checked, and the joint network is used" in text
    assert set(record(output).inputs) == {"c1.image", "c2.image", "c3.image", "c1.labels", "c2.labels"}
    assert joint_facts(output / "models" / "tiny").verdicts == ()
    assert "It was not checked whether joint training hurts." in (output / "models/tiny/README.md").read_text()

    use = tmp_path / "use.yaml"
    use.write_text(f"register: {{engine: identity}}\nfuse: {{rule: majority}}\nsegment: {{recipe: {how}, views: 1}}\n")
    call = ["--cohort", tmp_path / "cohort", "--atlases", "c1,c2", "--output", output, "--settings", use]
    status, _, errors = invoke("few-shot", *call, "--segmenter", "joint", "--device", "cpu")
    assert status == 0, errors
    assert "segment: 1 of 1" in errors
    assert "train-joint: " not in errors, "what is trained already is not trained again"


def test_without_an_atlas_registration_is_trained_and_segmentation_refused_with_the_reason(
    invoke: Invoke, make_cohort: MakeCohort, recipe: MakeRecipe, run: Callable[..., list[object]], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    status, text, errors = invoke(*run(make_cohort(cases=2), output, recipe()))
    assert status == 0, errors
    assert "the segmentation network was not trained: no case has labels to teach it" in text
    model = output / "models" / "tiny"
    assert {path.name for path in model.iterdir()} == LEFT - {"segmentation.safetensors", "separate.safetensors"}
    load_model(model / "registration", "cpu")
    with pytest.raises(ModelError, match="it has not learnt to segment: its training had no atlas, name one or more"):
        load_segmenter(model, "cpu")


def test_atlases_with_different_labels_teach_their_union_and_what_nobody_has_is_named(
    invoke: Invoke, make_cohort: MakeCohort, recipe: MakeRecipe, run: Callable[..., list[object]], tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=3, labelled=3), tmp_path / "out"
    (cohort / "labels.tsv").write_text("index\tname\n3\tleft\n17\tright\n40\tmiddle\n")
    labels = read_labels(cohort / "labels" / "c2.nii.gz")
    write_labels(cohort / "labels" / "c2.nii.gz", Image(labels.data * (labels.data == 3), labels.grid))
    status, text, errors = invoke(*run(cohort, output, recipe(), "--atlases", "c1,c2,c3"))
    assert status == 0, errors
    assert joint_facts(output / "models" / "tiny").values == (0, 3, 17)
    assert "no atlas has middle: it is not learnt" in text
    assert "label sets differ: c2 lack structures of others, which are neither taught nor punished there" in text
    card = (output / "models" / "tiny" / "README.md").read_text()
    assert "**label sets**: 1 atlas lacks structures of others" in card
    assert "c2" not in card


@pytest.mark.usefixtures("spares_one_of_four")
def test_one_network_is_trained_scored_and_kept_without_verdict(
    invoke: Invoke, make_cohort: MakeCohort, recipe: MakeRecipe, run: Callable[..., list[object]], tmp_path: Path
) -> None:
    output, how = tmp_path / "out", recipe("fused_weight: 0\nheld_out: 1\nalignment: affine\n", kind=ONE)
    call = run(make_cohort(cases=4, labelled=4), output, how, "--atlases", "c1,c2,c3,c4")
    status, text, errors = invoke(*call)
    assert status == 0, errors
    assert "there is no separate network to hold it against: the alarm was not checked" in text
    model = output / "models" / "tiny"
    assert {path.name for path in model.iterdir()} == {
        "network.safetensors",
        "recipe.yaml",
        "joint.json",
        "curve.tsv",
        "README.md",
    }
    assert {f"c{number}.alignment" for number in range(2, 5)} < set(record(output).inputs)
    (scores,) = record(output).facts["scores"]["network"].values()
    assert set(scores) == {"3", "17"}
    assert load_segmenter(model, "cpu").values == (0, 3, 17)
    assert "one tiny network" in (model / "README.md").read_text()
    assert invoke(*call)[:2] == (status, text)


def test_killed_in_the_joint_phase_and_run_again_gives_the_networks_of_an_undisturbed_run(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: MakeRecipe,
    run: Callable[..., list[object]],
    tmp_path: Path,
    prefect_api: str,
) -> None:
    cohort, path = make_cohort(cases=2), recipe(steps=6)
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PATCHED, *map(str, run(cohort, killed, path, "--atlases", "c1,c2"))]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not in_joint_phase(killed) and child.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert in_joint_phase(killed), "it was not there in time"
    assert Manifest(killed).cases("train-joint") == []
    assert "c2\tnot done yet\ta rerun would do: train-joint" in invoke("status", "--output", killed)[1]

    for output in (killed, undisturbed):
        status, _, errors = invoke(*run(cohort, output, path, "--atlases", "c1,c2"))
        assert status == 0, errors
        assert ("done before" in errors.partition("train-joint:")[2]) == (output == killed)
    names = ["registration/weights.safetensors", "segmentation.safetensors", "separate.safetensors", "curve.tsv"]
    for name in names:
        first, second = (output / "models" / "tiny" / name for output in (killed, undisturbed))
        assert first.read_bytes() == second.read_bytes(), name
    assert not list(killed.rglob(".tmp-*"))
    assert not list(killed.glob("work/training/*"))


def in_joint_phase(output: Path) -> bool:
    """Whether both networks have been trained alone: the second checkpoint has been written a few times."""
    states = [path for path in output.glob("work/training/*.pt") if ".registration" not in path.name]
    logs = list((output / "logs" / "tiny" / "joint").glob("events.*")) if states else []
    return bool(logs)


def test_a_checkpoint_of_other_settings_is_refused_in_one_sentence_that_names_the_setting(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: MakeRecipe,
    run: Callable[..., list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cohort, output = make_cohort(cases=2), tmp_path / "out"
    monkeypatch.setattr("tasks.train_joint.TrainJointJob.fingerprint", lambda job: "one for all")
    monkeypatch.setattr("tasks.train_joint._write", stop)
    assert invoke(*run(cohort, output, recipe(), "--atlases", "c1,c2"))[0] == 1
    status, _, errors = invoke(*run(cohort, output, recipe("joint_rate: 0.25\n"), "--atlases", "c1,c2"))
    assert status == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "is of another training: its joint_rate is 0.5, here 0.25" in line
    assert str(tmp_path) not in line


def stop(*_: object) -> None:
    raise ValueError("stopped before anything was written")


def test_a_training_that_diverges_leaves_no_model_and_says_at_which_case(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: MakeRecipe,
    run: Callable[..., list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingDivergedError("training of the segmentation network diverged at step 3, case c1: loss is nan")

    monkeypatch.setattr("tasks.joint_training.train_joint", diverge)
    output = tmp_path / "out"
    status, _, errors = invoke(*run(make_cohort(cases=2), output, recipe()))
    assert status == 1
    assert "error: no model was trained: training of the segmentation network diverged at step 3, case c1" in errors
    assert not (output / "models").exists()


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        (None, [], "unknown joint recipe 'lapirn'; it is one of train-registration; known: "),
        ("jiont_steps: 3\n", [], "unknown key jiont_steps; the nearest known key is joint_steps"),
        ("network: istn\n", [], "this one has both"),
        ("", ["--cases", "c1"], "recipe tiny registers two subjects, and there is only one to train on"),
        ("", ["--cases", "c9"], "c9"),
    ],
)
def test_wrong_calls_are_refused_before_anything_starts(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: MakeRecipe,
    run: Callable[..., list[object]],
    tmp_path: Path,
    text: str | None,
    more: list[str],
    sentence: str,
) -> None:
    output = tmp_path / "out"
    name = "lapirn" if text is None else recipe(text)
    status, _, errors = invoke(*run(make_cohort(cases=2), output, name, *more))
    assert status == 2
    assert sentence in errors
    assert not output.exists()


def test_a_model_of_another_kind_is_not_overwritten(
    invoke: Invoke, make_cohort: MakeCohort, recipe: MakeRecipe, run: Callable[..., list[object]], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    (output / "models" / "tiny").mkdir(parents=True)
    (output / "models" / "tiny" / "model.json").write_text("{}")
    status, _, errors = invoke(*run(make_cohort(cases=2), output, recipe()))
    assert status == 2
    assert "models/tiny in the output folder is a model of train-registration; give the recipe another name" in errors


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ("devices: 2", "train.devices = 2 is wrong: the joint recipe tiny trains on one device"),
        ("precision: 16-mixed", "train.precision = '16-mixed' is wrong: the CPU has"),
        ("labels: /none", "train.labels = '/none' is wrong: train-joint fuses the label maps that teach"),
    ],
)
def test_wrong_settings_of_a_training_are_refused_before_anything_starts(
    invoke: Invoke,
    make_cohort: MakeCohort,
    recipe: MakeRecipe,
    run: Callable[..., list[object]],
    tmp_path: Path,
    train: str,
    sentence: str,
) -> None:
    settings = tmp_path / "wrong.yaml"
    settings.write_text(f"train: {{{train}}}\n")
    call = run(make_cohort(cases=2), tmp_path / "out", recipe(), "--settings", settings)
    status, _, errors = invoke(*call)
    assert status == 2
    assert sentence in errors
    assert not (tmp_path / "out").exists()
