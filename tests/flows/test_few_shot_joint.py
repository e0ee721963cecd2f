"""`few-shot` with a joint network: which label map is kept, what falls back, what is judged, told and done again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from covoxel.io import read_labels, read_table
from covoxel.manifest import Manifest
from covoxel.segmentation import ImageModel, PairSegmenter
from covoxel.training import TrainingDivergedError
from tasks import joint_training
from tasks.joint_models import save_joint
from tasks.joint_network import _loaded
from tasks.joint_recipe import build_networks, parse_joint_recipe
from tasks.same_labels import content_of

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]
Run = Callable[..., tuple[Path, str]]

VALUES = (0, 3, 17)
BOTH = "fusion+joint"
TINY = {
    "method": "two tiny networks for tests (nobody, 2019)",
    "name": "tiny",
    "registration": {
        "network": "voxelmorph-1",
        "network_settings": {"head": "stationary", "encoder": [4], "decoder": [4], "half": 4, "last": [4]},
        "similarity": {"name": "ncc"},
        "supervision": "labels",
        "batch": 2,
        "warm_up": 0,
        "held_out": 0.0,
        "steps": 2,
    },
    "segmentation": {"network": "unet", "network_settings": {"widths": [2, 4]}, "warm_up": 0},
    "segmentation_steps": 2,
    "joint_steps": 2,
    "ratio": 1,
    "check_every": 2,
    "held_out": 1,
}
QUICK = "register: {engine: identity}\nfuse: {rule: majority}\n"
SELECT = "register: {engine: identity}\nfuse: {candidates: [majority]}\n"


def by_intensity(image: Tensor) -> Tensor:
    """What the phantom is made of: one structure is bright, the other less so."""
    return -200 * (image - torch.tensor([0.0, 1.0, 0.6]).view(1, 3, 1, 1, 1)) ** 2


def nothing(image: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(image), torch.zeros_like(image), torch.zeros_like(image)], 1)


def turned(image: Tensor) -> Tensor:
    """Both structures, but in other places."""
    return by_intensity(image).roll(6, 2)


@pytest.fixture
def run(invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path) -> Run:
    """Run `few-shot` on a cohort with so many atlases and two cases more; the output folder and what was said."""

    def run(settings: str, *more: object, atlases: int = 2, output: str = "out") -> tuple[Path, str]:
        cohort = tmp_path / "cohort"
        if not cohort.exists():
            make_cohort(cases=atlases + 2, labelled=atlases)
        (tmp_path / "settings.yaml").write_text(settings)
        names = ",".join(f"c{number}" for number in range(1, atlases + 1))
        folder = tmp_path / output
        arguments = ("--atlases", names, "--output", folder, "--settings", tmp_path / "settings.yaml", *more)
        code, text, problems = invoke("few-shot", "--cohort", cohort, *arguments)
        assert code == 0, text + problems
        return folder, text + problems

    return run


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Make the folder of a joint model that says what it is told to say; the settings that name it."""

    def model(says: ImageModel | PairSegmenter, taught_by: tuple[Path, ...] = (), segmenter: str = "auto") -> str:
        recipe = parse_joint_recipe(TINY, "tiny")
        registration, segmentation, _ = build_networks(recipe, 3, 3)
        networks = {"registration": registration, "segmentation": segmentation, "separate": segmentation}
        contents = [content_of(read_labels(path)) for path in taught_by]
        folder = tmp_path / "model"
        how = {"values": VALUES, "ndim": 3, "spacing_mm": (2.0, 2.0, 2.5), "taught_by": contents}
        save_joint(folder, recipe, networks, **how)
        monkeypatch.setattr("tasks.joint_network.load_segmenter", lambda folder, device: says)
        _loaded.cache_clear()
        return f"segment: {{segmenter: {segmenter}, views: 2, model: {folder}}}\n"

    return model


def facts(output: Path, stage: str, case: str) -> dict:
    record = Manifest(output).read(stage, case)
    assert record is not None
    return dict(record.facts)


def cases(output: Path) -> dict[str, dict]:
    return read_table(output / "cases.tsv").set_index("id").to_dict("index")


def test_both_are_kept_where_nothing_speaks_against_and_a_rerun_computes_nothing(
    run: Run,
    model: Callable[..., str],
    invoke: Invoke,
    tmp_path: Path,
    snapshot: Callable[[Path], dict[str, int]],
    changed: Callable[[dict[str, int], Path], set[str]],
) -> None:
    settings = QUICK + model(ImageModel(by_intensity, VALUES))
    truth = ("--evaluate", tmp_path / "cohort-truth")
    output, text = run(settings, *truth)
    assert "4 done, 0 failed, 0 set aside" in text
    found = facts(output, "decide", "c3")
    assert found["candidate"] == BOTH
    assert found["rule"] == f"{BOTH}: majority"
    assert found["predicted"][BOTH] == pytest.approx(found["predicted"]["fusion"] + 0.005)
    assert found["quality"] == found["predicted"][BOTH]
    assert {*facts(output, "fuse", "c3")} - {"predicted"} <= {*found}
    assert 0.5 < found["agreement"]["joint"] < 1
    assert set(found["agreement_of_structures"]["joint"]) == {"3", "17"}
    for folder in ("segmentations", "work/fused", "work/candidates/joint", f"work/candidates/{BOTH}"):
        assert (output / folder / "c3.nii.gz").is_file()
        assert (output / folder / "c3_confidence.nii.gz").is_file()
    both, joint = (read_labels(output / "work" / "candidates" / name / "c3.nii.gz").data for name in (BOTH, "joint"))
    assert torch.equal(read_labels(output / "segmentations" / "c3.nii.gz").data, both)
    true = read_labels(tmp_path / "cohort-truth" / "c3.nii.gz").data
    assert float((joint == true).float().mean()) > 0.99

    rows = cases(output)
    assert list(rows["c3"])[-3:] == ["rule", "agreement", "flags"]
    assert rows["c3"]["agreement"] == pytest.approx(found["agreement"]["joint"], rel=1e-5)
    assert rows["c1"]["status"] == "done"
    assert sorted(set(read_table(output / "metrics.tsv")["id"])) == ["c3", "c4"]
    page = (output / "report" / "index.html").read_text()
    assert "Label map that was kept" in page
    assert found["reason"] in page
    assert "as in DeepAtlas" in page
    assert str(tmp_path) not in page

    before = snapshot(output)
    run(settings, *truth)
    assert changed(before, output) == set()
    code, lines, _ = invoke("status", "--output", output)
    assert code == 0
    assert lines.count("a rerun would do: nothing") == 4

    plain, _ = run(QUICK, output="plain")
    assert not (plain / "work" / "fused").exists()
    for name in ("c3.nii.gz", "c3_confidence.nii.gz"):
        assert (plain / "segmentations" / name).read_bytes() == (output / "work" / "fused" / name).read_bytes()
    assert "agreement" not in (plain / "cases.tsv").read_text()


def test_a_network_that_fails_leaves_the_fused_label_map_with_a_flag(run: Run, model: Callable[..., str]) -> None:
    def broken(image: Tensor) -> Tensor:
        raise ValueError("the network is broken")

    empty, _ = run(QUICK + model(ImageModel(nothing, VALUES), segmenter="joint"), output="empty")
    failed, _ = run(QUICK + model(ImageModel(broken, VALUES), segmenter="joint"), output="failed")
    for folder, flag in (
        (empty, "the joint network found no structure; the fused label map is kept"),
        (failed, "segment: the network is broken; there is no label map of a network; the fused one is kept"),
    ):
        for case in ("c3", "c4"):
            assert facts(folder, "decide", case)["rule"] == "fusion: majority"
            assert cases(folder)[case]["flags"] == flag
            assert cases(folder)[case]["status"] == "done"
            kept = (folder / "segmentations" / f"{case}.nii.gz").read_bytes()
            assert kept == (folder / "work" / "fused" / f"{case}.nii.gz").read_bytes()


def test_atlases_that_taught_nothing_judge_and_labels_that_taught_do_not_score(
    run: Run, model: Callable[..., str], make_cohort: MakeCohort, tmp_path: Path
) -> None:
    make_cohort(cases=5, labelled=3)
    truth = tmp_path / "cohort-truth"
    taught = (truth / "c1.nii.gz", truth / "c5.nii.gz")
    settings = SELECT + model(ImageModel(by_intensity, VALUES), taught)
    output, _ = run(settings, "--evaluate", truth, atlases=3)
    assert Manifest(output).cases("judge") == ["c2", "c3"]
    dice = facts(output, "judge", "c2")["dice"]
    assert dice["joint"] > 0.95 > dice["fusion"]
    gains = [facts(output, "judge", case)["dice"] for case in ("c2", "c3")]
    mean = sum(one["joint"] - one["fusion"] for one in gains)
    found = facts(output, "decide", "c4")
    assert found["predicted"]["joint"] - found["predicted"]["fusion"] == pytest.approx((16 * 0.003 + mean) / 18)
    assert found["candidate"] == "joint"
    assert sorted(set(read_table(output / "metrics.tsv")["id"])) == ["c4"]
    assert "its true label trained the network that segmented it and cannot score it" in cases(output)["c5"]["flags"]
    assert "Dice on atlases that taught a network no label" in (output / "report" / "index.html").read_text()


def test_a_network_that_sees_atlases_is_shown_them_with_their_labels(
    run: Run, model: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []

    def beside(fixed: Tensor, moving: Tensor, labels: Tensor) -> Tensor:
        seen.append((len(moving), float(labels[:, 1:].sum())))
        return by_intensity(fixed) + 0.01 * labels

    settings = QUICK + model(PairSegmenter(beside, VALUES), segmenter="joint")
    monkeypatch.setattr("tasks.joint_network.NETWORK", "segmentation")  # the file by which such a model is known
    output, _ = run(settings)
    assert sum(count for count, _ in seen) == 4, "two cases, each beside two atlases"
    assert all(labelled > 100 for _, labelled in seen)
    assert set(Manifest(output).read("segment", "c3").inputs) >= {"joint.image.c1", "joint.labels.c2"}  # type: ignore[union-attr]
    assert facts(output, "decide", "c3")["candidate"] == "joint"
    assert torch.equal(
        *(read_labels(output / f / "c3.nii.gz").data for f in ("segmentations", "work/candidates/joint"))
    )


@pytest.fixture
def trains(tmp_path: Path) -> str:
    """Settings by which a tiny joint network is trained."""
    (tmp_path / "tiny.yaml").write_text(json.dumps(TINY))  # JSON is YAML
    return f"segment: {{segmenter: joint, recipe: {tmp_path / 'tiny.yaml'}, views: 2}}\n"


def test_the_network_is_trained_on_the_way_and_what_the_arbiter_says_is_in_the_report(
    run: Run,
    trains: str,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[Path], dict[str, int]],
    changed: Callable[[dict[str, int], Path], set[str]],
) -> None:
    monkeypatch.setattr(joint_training, "FEWEST", 4)
    output, _ = run(SELECT + trains, atlases=4)
    assert (output / "models" / "tiny" / "joint.json").is_file()
    (held_out,) = Manifest(output).cases("judge")
    verdict = facts(output, "train-joint", "@tiny")["verdicts"][0]["sentence"]
    page = (output / "report" / "index.html").read_text()
    assert verdict in page
    assert "Dice on an atlas that taught a network no label" in page
    assert "Registration loss: " in page
    assert held_out in {"c1", "c2", "c3", "c4"}
    for case in ("c5", "c6"):
        assert set(facts(output, "decide", case)["predicted"]) == {"fusion", "joint", BOTH}

    def no_server(*_: object) -> None:
        raise AssertionError("a server was started")

    tables, before = {path: path.read_bytes() for path in output.glob("*.tsv")}, snapshot(output)
    monkeypatch.setattr("flows.server.prefect_server", no_server)
    monkeypatch.delenv("PREFECT_API_URL")
    run(SELECT + trains, atlases=4)
    assert invoke("segment", "--output", output)[0] == 0
    assert changed(before, output) == set()
    assert {path: path.read_bytes() for path in output.glob("*.tsv")} == tables
    assert verdict in (output / "report" / "index.html").read_text()
    code, lines, _ = invoke("status", "--output", output)
    assert code == 0
    assert lines.count("a rerun would do: nothing") == 6
    (output / "work" / "candidates" / "joint" / "c5.nii.gz").unlink()
    lines = invoke("status", "--output", output)[1]
    assert "c5\tdone\ta rerun would do: segment decide" in lines
    assert "c6\tdone\ta rerun would do: nothing" in lines


def test_a_training_that_fails_leaves_all_fused_label_maps_with_the_reason(
    run: Run, trains: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingDivergedError("training of the segmentation network diverged at step 3, case c1: loss is nan")

    monkeypatch.setattr("tasks.joint_training.train_joint", diverge)
    output, _ = run(QUICK + trains)
    for case in ("c3", "c4"):
        row = cases(output)[case]
        assert row["status"] == "done"
        assert "train-joint: training of the segmentation network diverged at step 3" in row["flags"]
        assert "there is no label map of a network; the fused one is kept" in row["flags"]
        assert row["rule"] == "fusion: majority"
    assert "No label map of the joint network: it was not trained." in (output / "report" / "index.html").read_text()


def test_wrong_settings_are_refused_before_anything_starts(
    invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=3), tmp_path / "out"

    def refused(settings: str, sentence: str, verb: str = "few-shot", *more: object) -> None:
        (tmp_path / "wrong.yaml").write_text(QUICK + settings)
        call = (verb, "--cohort", cohort, "--atlases", "c1,c2", "--output", output)
        code, _, errors = invoke(*call, "--settings", tmp_path / "wrong.yaml", *more)
        assert code == 2, errors
        assert sentence in errors
        assert not (output / "work").exists()

    refused(f"segment: {{segmenter: auto, model: {tmp_path / 'none'}}}\n", "segment.model")
    refused("segment: {segmenter: both}\n", "segment.segmenter = 'both' is wrong")
    refused("segment: {segmenter: joint, recipe: deepatlass}\n", "deepatlas")
    refused("segment: {views: 0}\n", "segment.views = 0 is wrong")
    refused("", "--segmenter must be one of fusion, joint, nnunet, auto", "few-shot", "--segmenter", "best")
    refused("", "segment.segmenter is fusion, so no network segments", "segment")


def test_with_one_atlas_other_cases_that_the_network_has_labelled_are_atlases_too(
    run: Run, model: Callable[..., str], make_cohort: MakeCohort
) -> None:
    make_cohort(cases=4, labelled=1)
    settings = SELECT + model(ImageModel(by_intensity, VALUES))
    output, _ = run(settings, atlases=1)
    assert facts(output, "cohort", "c3")["cases"] == ["c2", "c4"], "not the case itself, and not the atlas"
    assert cases(output)["c3"]["rule"].startswith("cohort")
    labels = (output / "segmentations" / "c3.nii.gz").read_bytes()
    assert labels == (output / "work" / "candidates" / "cohort" / "c3.nii.gz").read_bytes()

    record = Manifest(output).path("cohort", "c3").read_bytes()
    run(settings, atlases=1)
    assert Manifest(output).path("cohort", "c3").read_bytes() == record, "what is done is not done again"

    for name, says, segmenter in (("joint", by_intensity, "joint"), ("wrong", turned, "auto")):
        other, _ = run(SELECT + model(ImageModel(says, VALUES), segmenter=segmenter), atlases=1, output=name)
        assert not list((other / "work" / "candidates").glob("cohort")), "nobody asked, or the network contradicts"
