"""`few-shot` with nnU-Net: trained on drawn and fused labels, judged, kept in folders that its own tools take."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from covoxel.io import read_labels, read_table
from covoxel.manifest import Manifest

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]

pytest.importorskip("nnunetv2")
TINY = "{epochs: 1, iterations: 2, patch: [16, 16, 16], batch: 2, features: 4, most_features: 8}"
QUICK = "register: {engine: identity}\nfuse: {candidates: [majority]}\n"


@pytest.fixture
def run(invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """Run `few-shot` with atlases c1 to c6 on two cases more; the output folder and what was said."""

    def run(settings: str, *more: object, status: int = 0) -> tuple[Path, str]:
        if not (tmp_path / "cohort").exists():
            make_cohort(cases=8, labelled=6)
        (tmp_path / "settings.yaml").write_text(QUICK + settings)
        names = ",".join(f"c{number}" for number in range(1, 7))
        output = tmp_path / "out"
        arguments = ("--atlases", names, "--output", output, "--settings", tmp_path / "settings.yaml", *more)
        code, text, problems = invoke("few-shot", "--cohort", tmp_path / "cohort", *arguments)
        assert code == status, text + problems
        return output, text + problems

    return run


def facts(output: Path, stage: str, case: str) -> dict:
    record = Manifest(output).read(stage, case)
    assert record is not None
    return dict(record.facts)


def test_it_is_trained_judged_and_kept_in_folders_of_its_own_and_a_rerun_computes_nothing(
    run: Callable[..., tuple[Path, str]],
    tmp_path: Path,
    snapshot: Callable[[Path], dict[str, int]],
    changed: Callable[[dict[str, int], Path], set[str]],
) -> None:
    settings = f"segment: {{segmenter: auto, networks: [nnunet], nnunet: {{override: {TINY}}}}}\n"
    output, text = run(settings, "--evaluate", tmp_path / "cohort-truth")
    assert "8 done, 0 failed, 0 set aside" in text
    trained = facts(output, "train-nnunet", "@nnunet-1-0")
    assert (trained["drawn"], trained["fused"], trained["held_out"]) == (4, 2, ["c1", "c6"])
    assert Manifest(output).cases("judge") == ["c1", "c6"]
    assert set(facts(output, "judge", "c1")["dice"]) <= {"fusion", "nnunet", "fusion+nnunet"}
    found = facts(output, "decide", "c7")
    assert set(found["predicted"]) == {"fusion", "nnunet", "fusion+nnunet"}
    assert set(found["agreement"]) == {"nnunet"}
    label_map = read_labels(output / "work" / "candidates" / "nnunet" / "c7.nii.gz")
    assert label_map.grid.isclose(read_labels(output / "work" / "fused" / "c7.nii.gz").grid)
    assert set(torch.unique(label_map.data).tolist()) <= {0, 3, 17}
    assert sorted(set(read_table(output / "metrics.tsv")["id"])) == ["c7", "c8"]

    raw = output / "work" / "nnunet" / "round_1" / "Dataset001_covoxel"
    assert sorted(path.name for path in (raw / "labelsTr").iterdir()) == [f"c{k}.nii.gz" for k in range(1, 9)]
    model = output / "models" / "nnunet-round_1"
    assert json.loads((model / "dataset.json").read_text())["numTraining"] == 8
    assert (model / "fold_0" / "checkpoint_final.pth").is_file()
    page = (output / "report" / "index.html").read_text()
    assert "nnU-Net was trained on 4 labels of atlases and 2 fused ones." in page
    assert "Isensee" in page
    assert str(tmp_path) not in page

    before = snapshot(output)
    run(settings, "--evaluate", tmp_path / "cohort-truth")
    assert changed(before, output) == set()

    brought = f"segment: {{segmenter: nnunet, nnunet: {{model: {model}}}}}\n"
    output, text = run(brought, "--evaluate", tmp_path / "cohort-truth")
    assert "8 done" in text
    assert set(facts(output, "decide", "c7")["predicted"]) == {"fusion", "nnunet", "fusion+nnunet"}
    assert Manifest(output).read("train-nnunet", "@nnunet-1-0") is not None


def test_a_second_round_trains_on_what_folds_that_did_not_see_a_case_say_of_it(
    run: Callable[..., tuple[Path, str]],
) -> None:
    output, _ = run(f"segment: {{segmenter: nnunet, nnunet: {{folds: 2, rounds: 2, override: {TINY}}}}}\n")
    first, second = (facts(output, "train-nnunet", f"@nnunet-1-{fold}") for fold in (0, 1))
    assert {"c7", "c8"} <= {*first["held_out"], *second["held_out"]}
    assert not set(first["held_out"]) & set(second["held_out"])
    for case in ("c7", "c8"):
        assert 0 <= facts(output, "relabel", case)["replaced"] <= 1
    assert facts(output, "plan-nnunet", "@nnunet-2")["failed"] == {}
    assert (output / "models" / "nnunet-round_2" / "fold_1" / "checkpoint_final.pth").is_file()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("nnunet: {rounds: 2}", "segment.nnunet.rounds = 2 needs folds of 2 or more, got 1"),
        ("nnunet: {override: {patches: [8, 8, 8]}}", "patches"),
        ("nnunet: {model: nowhere}", "segment.nnunet.model: "),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_started(
    run: Callable[..., tuple[Path, str]], settings: str, words: str
) -> None:
    output, text = run(f"segment: {{segmenter: nnunet, {settings}}}\n", status=2)
    assert words in text
    assert not (output / "work").exists()
