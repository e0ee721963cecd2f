"""Correction in the flows: learnt once, used where it helps, said where it is not, and nothing stops without it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from covoxel.io import read_labels, read_table
from covoxel.manifest import Manifest
from covoxel.metrics import dice
from covoxel.training import TrainingDivergedError
from covoxel.training.correction import CorrectionSettings

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]
Run = Callable[..., Path]

SETTINGS = "register: {engine: identity}\nfuse: {rule: majority, correct_steps: 30}\nreport: {figures: 0}\n"


@dataclass(frozen=True)
class Quick(CorrectionSettings):
    """So that a few steps teach something."""

    learning_rate: float = 2e-2


def facts(output: Path, stage: str, case: str) -> dict[str, Any]:
    record = Manifest(output).read(stage, case)
    assert record is not None
    return dict(record.facts)


def page_of(output: Path) -> str:
    return (output / "report" / "index.html").read_text()


@pytest.fixture
def run(invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `few-shot` or another verb with so many atlases and a case more, and give the output folder."""
    monkeypatch.setattr("tasks.correct.CorrectionSettings", Quick)
    monkeypatch.setattr("tasks.correct.THREADS", 1)

    def run(*more: object, atlases: int = 4, verb: str = "few-shot") -> Path:
        (tmp_path / "settings.yaml").write_text(SETTINGS)
        names = ",".join(f"c{number}" for number in range(1, atlases + 1))
        output, cohort = tmp_path / "out", tmp_path / "cohort"
        arguments = ("--atlases", names, "--output", output, "--settings", tmp_path / "settings.yaml", *more)
        folder = cohort if cohort.is_dir() else make_cohort(cases=atlases + 1, labelled=atlases)
        code, text, problems = invoke(verb, "--cohort", folder, *arguments)
        assert code == 0, text + problems
        return output

    return run


def test_it_is_learnt_once_used_told_of_and_taken_back(run: Run, invoke: Invoke, tmp_path: Path) -> None:
    output = run("--no-correct", verb="fuse-labels")
    plain, fused = Manifest(output).read("fuse", "c5"), read_labels(output / "segmentations" / "c5.nii.gz").data
    assert plain is not None
    assert "corrected" not in plain.facts
    assert not any("correct" in key for key in plain.settings)
    assert not (output / "models").exists()

    output = run("--correct")
    learnt, own = facts(output, "correct", "@cohort"), facts(output, "fuse", "c5")
    assert learnt["used"]
    assert set(learnt["gains"]) == {"c1", "c2", "c3", "c4"}
    assert learnt["gain"] == pytest.approx(sum(learnt["gains"].values()) / 4)
    assert own["corrected"]
    assert own["rule"] == "majority"
    assert own["quality"] == pytest.approx(min(1, own["predicted"]["majority"] + learnt["gain"]))
    table = read_table(output / "cases.tsv").set_index("id")
    assert table.loc["c5", "rule"] == "majority, corrected"
    truth = read_labels(tmp_path / "cohort-truth" / "c5.nii.gz").data
    found = read_labels(output / "segmentations" / "c5.nii.gz").data
    assert sum(dice(found, truth, [3, 17]).values()) > sum(dice(fused, truth, [3, 17]).values())
    model = output / "models" / "correction"
    assert {path.name for path in model.iterdir()} == {"network.safetensors", "settings.json", "curve.tsv"}
    assert read_table(model / "curve.tsv")["step"].tolist() == [25, 30]
    assert not list((output / "work" / "training").iterdir())
    page = page_of(output)
    assert learnt["sentence"].split(";")[0] in page
    assert "Systematic errors of fusion were corrected" in page
    assert "10.1016/j.neuroimage.2011.01.006" in page

    before = (model / "network.safetensors").stat().st_mtime_ns
    (output / "segmentations" / "c5.nii.gz").unlink()
    assert "c5\tdone\ta rerun would do: fuse" in invoke("status", "--output", output)[1]
    code, _, _ = invoke("fuse-labels", "--output", output)
    assert code == 0
    assert (model / "network.safetensors").stat().st_mtime_ns == before
    assert torch.equal(read_labels(output / "segmentations" / "c5.nii.gz").data, found)

    (model / "network.safetensors").unlink()
    assert "c5\tdone\ta rerun would do: correct fuse" in invoke("status", "--output", output)[1]
    code, _, _ = invoke("fuse-labels", "--output", output, "--no-correct")
    again = Manifest(output).read("fuse", "c5")
    assert code == 0
    assert again is not None
    assert again.fingerprint == plain.fingerprint
    assert torch.equal(read_labels(output / "segmentations" / "c5.nii.gz").data, fused)


def test_with_three_atlases_nothing_is_learnt_and_the_report_says_so(run: Run) -> None:
    output = run("--correct", atlases=3)
    assert Manifest(output).read("correct", "@cohort") is None
    assert "at least 4 atlases that can be labelled by the others are needed" in page_of(output)
    assert not list((output / "transforms").glob("c1_*"))
    assert read_table(output / "cases.tsv").set_index("id").loc["c4", "rule"] == "majority"


def test_a_training_that_diverges_leaves_fused_labels_as_they_are(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingDivergedError("training diverged at step 3 of 9, case c4: soft_dice is nan")

    monkeypatch.setattr("tasks.correct.learn_correction", diverge)
    output = run("--correct")
    table = read_table(output / "cases.tsv").set_index("id")
    assert set(table["status"]) == {"done"}
    assert "training diverged at step 3" in table.loc["c5", "flags"]
    assert table.loc["c5", "rule"] == "majority"
    assert "fused labels stay as they are" in page_of(output)
