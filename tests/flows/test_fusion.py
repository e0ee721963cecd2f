"""Label fusion in the flows: a rule for each case, atlases chosen and rejected, weights learnt, and what falls back."""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from covoxel.fusion.candidates import FusedImage, Rules, candidates
from covoxel.fusion.source import Source
from covoxel.io import read_image, read_labels, read_table, write_labels
from covoxel.manifest import Manifest
from covoxel.spatial import Image
from covoxel.training import TrainingDivergedError

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]

IDENTITY = "register: {engine: identity}\n"


@pytest.fixture
def run(invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path) -> Callable[..., Path]:
    """Run `few-shot` on a cohort with so many atlases and two cases more, and give the output folder."""

    def run(settings: str, *more: object, atlases: int = 3, cohort: Path | None = None) -> Path:
        folder = cohort or make_cohort(cases=atlases + 2, labelled=atlases)
        (tmp_path / "settings.yaml").write_text(IDENTITY + settings)
        names = ",".join(f"c{number}" for number in range(1, atlases + 1))
        output = tmp_path / "out"
        arguments = ("--atlases", names, "--output", output, "--settings", tmp_path / "settings.yaml", *more)
        code, text, problems = invoke("few-shot", "--cohort", folder, *arguments)
        assert code == 0, text + problems
        return output

    return run


def facts(output: Path, stage: str, case: str) -> dict:
    record = Manifest(output).read(stage, case)
    assert record is not None
    return dict(record.facts)


def test_select_predicts_every_candidate_and_keeps_one(run: Callable[..., Path], invoke: Invoke) -> None:
    output = run("fuse: {candidates: [majority, locally_weighted, joint_label_fusion]}\n")
    fused = facts(output, "fuse", "c5")
    assert set(fused["predicted"]) == {"majority", "locally_weighted", "joint_label_fusion", "consensus"}
    assert all(0 <= value <= 1 for value in fused["predicted"].values())
    assert fused["rule"] in fused["predicted"]
    assert fused["quality"] == fused["predicted"][fused["rule"]]

    cases = read_table(output / "cases.tsv").set_index("id")
    assert cases.loc["c5", "predicted_quality"] == pytest.approx(fused["quality"], rel=1e-5)
    assert cases["flags"].isna().all()
    page = (output / "report" / "index.html").read_text()
    assert "Predicted quality was learnt on 3 labelled cases only" in page
    assert "Label fusion" in page
    assert fused["reason"].split(",")[0].split(" ")[0] in page

    code, text, _ = invoke("status", "--output", output)
    assert code == 0
    assert text.count("a rerun would do: nothing") == 5
    code, _, problems = invoke("fuse-labels", "--output", output, "--rule", "majority")
    assert code == 0
    assert facts(output, "fuse", "c5")["rule"] == "majority"


@pytest.mark.parametrize("judged", ["joint_label_fusion", "majority"])
def test_a_large_image_is_judged_on_cells_and_only_the_kept_rule_is_used_on_all_voxels(
    run: Callable[..., Path], judged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[tuple[tuple[int, ...], tuple[str, ...]]] = []

    def noted(source: Source, rules: Rules, **more: Any) -> dict[str, FusedImage]:
        used.append((source.shape, tuple(rules)))
        return candidates(source, rules, **more)

    monkeypatch.setattr("tasks.fusion.candidates", noted)
    output = run(f"fuse: {{candidates: [{judged}, staple], judge_voxels: 400}}\n")
    whole = read_image(output / "work" / "preprocessed" / "c5.nii.gz").grid.shape
    kept = facts(output, "fuse", "c5")
    tried = (judged, "staple")
    on_cells, on_voxels = ([each for each in used if (each[0] == whole) is whether] for whether in (False, True))
    assert [rules for _, rules in on_cells] == [tried, tried]  # of c4 and c5
    assert all(prod(shape) <= 400 < prod(whole) for shape, _ in on_cells)
    assert sorted(rules for _, rules in on_voxels) == sorted(
        (facts(output, "fuse", case)["rule"],) for case in ("c4", "c5")
    )
    assert set(kept["predicted"]) == set(tried)
    assert read_labels(output / "segmentations" / "c5.nii.gz").grid.shape == whole
    assert facts(output, "calibrate", "c1")["facts"]


@pytest.mark.parametrize(("most", "labelled"), [(2, "c1 c4"), (3, "c1 c3 c4"), ("null", "c1 c2 c3 c4")])
def test_select_learns_from_so_many_atlases_and_registers_onto_no_others(
    run: Callable[..., Path], most: int | str, labelled: str
) -> None:
    wanted = set(labelled.split())
    output = run(f"fuse: {{candidates: [majority], calibrate_on: {most}}}\nreport: {{figures: 0}}\n", atlases=4)
    names = [f"c{number}" for number in range(1, 7)]
    assert {name for name in names if Manifest(output).read("register", name) is not None} == wanted | {"c5", "c6"}
    assert {name for name in names if Manifest(output).read("calibrate", name) is not None} == wanted
    for name in wanted:  # by all the others
        assert len(facts(output, "register", name)["transforms"]) == 3
    page = (output / "report" / "index.html").read_text()
    assert f"learnt on {len(wanted)} labelled cases only" in page


def test_with_one_atlas_the_prediction_says_that_it_rests_on_other_data(run: Callable[..., Path]) -> None:
    output = run("", atlases=1)
    flags = read_table(output / "cases.tsv").set_index("id")["flags"]
    assert "rests on other data" in flags["c2"]
    assert "rests on other data" in flags["c3"]


@pytest.mark.parametrize("by", ["likeness", "template"])
def test_only_the_atlases_chosen_are_registered_and_the_report_says_why(run: Callable[..., Path], by: str) -> None:
    output = run(f"fuse: {{rule: majority}}\natlases: {{count: 1, by: {by}}}\n")
    chosen = facts(output, "choose", "c4")
    (kept,) = chosen["kept"]
    assert [path.name for path in (output / "transforms").glob("c4_*.h5")] == [f"c4_from_{kept}_xfm.h5"]
    assert set(facts(output, "fuse", "c4")["atlases"]) == {kept}
    assert len(chosen["rejected"]) == 2
    page = (output / "report" / "index.html").read_text()
    assert "was left out: it is number 2 by likeness" in page


def test_an_atlas_that_contradicts_all_others_does_not_vote(run: Callable[..., Path], make_cohort: MakeCohort) -> None:
    cohort = make_cohort(cases=6, labelled=4)
    wrong = read_labels(cohort / "labels" / "c2.nii.gz")
    write_labels(cohort / "labels" / "c2.nii.gz", Image(wrong.data.roll(5, 2).flip(0), wrong.grid))
    output = run("fuse: {rule: majority}\n", atlases=4, cohort=cohort)
    fused = facts(output, "fuse", "c5")
    assert set(fused["rejected"]) == {"c2"}
    assert set(fused["atlases"]) == {"c1", "c3", "c4"}
    assert "Atlas c2 was left out" in (output / "report" / "index.html").read_text()


LEARN = "fuse: {rule: data_parameters}\nlearn: {epochs: 14}\n"


def test_learnt_weights_are_used_kept_as_a_table_and_learnt_once(run: Callable[..., Path], invoke: Invoke) -> None:
    output = run(LEARN)
    weights = read_table(output / "models" / "data_parameters" / "weights.tsv")
    assert set(weights["case"]) == {"c4", "c5"}
    assert set(weights["atlas"]) == {"c1", "c2", "c3"}
    assert weights["confidence"].between(0, 1).all()
    assert (output / "models" / "data_parameters" / "network.safetensors").is_file()
    trust = {atlas: row["trust"] for atlas, row in facts(output, "fuse", "c4")["atlases"].items()}
    own = weights[weights["case"] == "c4"].set_index("atlas")["confidence"]
    assert trust == pytest.approx(own.to_dict(), rel=1e-4)
    assert len(set(trust.values())) > 1
    assert not list((output / "work").glob("training/*"))
    before = (output / "models" / "data_parameters" / "weights.tsv").stat().st_mtime_ns
    code, _, _ = invoke("fuse-labels", "--output", output)
    assert code == 0
    assert (output / "models" / "data_parameters" / "weights.tsv").stat().st_mtime_ns == before


def test_training_that_diverges_trusts_all_alike_and_says_so(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise TrainingDivergedError("training diverged at step 3 of 9, case c4: its loss is nan")

    monkeypatch.setattr("tasks.learn.train", diverge)
    output = run(LEARN)
    cases = read_table(output / "cases.tsv").set_index("id")
    assert set(cases["status"]) == {"done"}
    assert "training diverged at step 3" in cases.loc["c4", "flags"]
    assert "all atlases are trusted alike" in cases.loc["c5", "flags"]
    found = read_labels(output / "segmentations" / "c4.nii.gz").data
    assert set(torch.unique(found).tolist()) == {0, 3, 17}


def test_a_choice_of_atlases_by_weight_keeps_the_most_trusted(run: Callable[..., Path]) -> None:
    output = run(LEARN + "atlases: {count: 2, by: weight}\n")
    fused = facts(output, "fuse", "c4")
    learnt = facts(output, "learn", "@cohort")["parameters"]["c4"]
    assert set(fused["atlases"]) == set(sorted(learnt, key=learnt.__getitem__)[1:])
    assert "learnt weight" in next(iter(fused["rejected"].values()))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("fuse: {candidates: [majorty]}\n", "fuse.candidates"),
        ("fuse: {rule: select, options: {radius: 2}}\n", "select has no options"),
        ("fuse: {candidates: []}\n", "fuse.candidates"),
        ("atlases: {count: 0}\n", "atlases.count = 0 is wrong"),
        ("atlases: {by: luck}\n", "atlases.by = 'luck' is wrong"),
        ("learn: {network: unett}\nfuse: {rule: data_parameters}\n", "learn.network"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(
    invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path, settings: str, sentence: str
) -> None:
    (tmp_path / "wrong.yaml").write_text(IDENTITY + settings)
    arguments = ("--atlases", "c1,c2", "--output", tmp_path / "out", "--settings", tmp_path / "wrong.yaml")
    code, _, problems = invoke("few-shot", "--cohort", make_cohort(), *arguments)
    assert code == 2
    assert sentence in problems
