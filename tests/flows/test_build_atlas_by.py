"""`build-atlas --by` end to end on a tiny cohort: what it leaves, doing again what is lost, what is refused."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from covoxel.io import read_image, read_table

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]

KNOWN = {"c1": "50\tF", "c2": "54\tF", "c3": "58\tM", "c4": "62\tM", "c5": "66\tF", "c6": "70\tM", "c7": "n/a\tM"}


@pytest.fixture
def cohort(make_cohort: MakeCohort) -> Path:
    """Seven cases, two with labels; the age of the last is not known."""
    folder = make_cohort(cases=7, labelled=2)
    rows = [f"{case}\t{row}" for case, row in KNOWN.items()]
    (folder / "participants.tsv").write_text("\n".join(["participant_id\tage\tsex", *rows]) + "\n")
    return folder


@pytest.fixture
def call(cohort: Path, tmp_path: Path) -> list[object]:
    """Arguments of a run with one iteration and one round."""
    settings = tmp_path / "atlas.yaml"
    settings.write_text("template: {iterations: 1, freedom: similarity, conditional: {rounds: 1}}\n")
    return ["build-atlas", "--cohort", cohort, "--settings", settings, "--atlases", "c1,c2"]


def content(output: Path) -> dict[str, str]:
    """Hash of all images, tables and coefficients of the template, by name."""
    files = [path for path in (output / "atlas").rglob("*") if path.suffix in (".gz", ".tsv", ".npz")]
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_template_by_age_with_all_that_belongs_to_it_and_what_is_lost_is_made_again(
    invoke: Invoke, call: list[object], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    call = [*call, "--output", output, "--by", "age", "--at", "age=52,68,74"]
    status, text, wrong = invoke(*call)
    assert status == 0, wrong
    assert "left out of it: c7, age is not known of it" in text
    assert "age = 74 lies outside the cohort, which reaches from 50 to 70: that template is extrapolated" in text
    folder = output / "atlas" / "conditional"
    volumes = read_table(folder / "volumes.tsv")
    assert list(zip(volumes["template"], volumes["label"], volumes["extrapolated"], strict=True))[::2] == [
        ("age-52", 3, False),
        ("age-68", 3, False),
        ("age-74", 3, True),
    ]
    trends = read_table(folder / "trends.tsv").set_index("label")
    template = read_image(folder / "template.nii.gz")
    for label in (3, 17):
        probability = read_image(folder / f"age-52_label-{label}_probseg.nii.gz")
        volume = volumes[(volumes["template"] == "age-52") & (volumes["label"] == label)]["volume_mm3"].iloc[0]
        assert float(probability.data.sum()) * template.grid.voxel_volume_mm == pytest.approx(volume, rel=1e-4)
        assert trends["low"][label] <= trends["percent"][label] <= trends["high"][label]
    assert list(read_table(folder / "history.tsv")["round"]) == [0, 1]
    cases = read_table(folder / "cases.tsv").set_index("id")
    assert cases["status"]["c7"] == "left out"
    assert cases["age"]["c6"] == 70
    for name in ("templates.png", "volumes.png"):
        assert (folder / name).stat().st_size > 1000
    before = content(output)
    for path in (output / "work" / "atlas" / "conditional" / "step-1" / "placements").glob("c3*"):
        path.unlink()
    (folder / "template.nii.gz").unlink()
    status, _, wrong = invoke(*call)
    assert status == 0, wrong
    assert "conditional-place-1: 6 cases, 5 done before" in wrong
    assert content(output) == before
    assert "c3\tdone\ta rerun would do: nothing" in invoke("status", "--output", output)[1]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        (["--by", "agee"], "participants.tsv has no column 'agee'; did you mean 'age'?"),
        (["--by", "age,sex"], "a template by age, sex needs 9 cases or more of which they are known, got 6"),
        (["--by", "age", "--at", "age=110"], "age = 110 lies outside the cohort, which reaches from 50 to 70"),
        (["--by", "sex", "--at", "sex=X"], "sex = X is not known; sex is one of F, M"),
        (["--by", "age", "--at", "age"], "--at must be COLUMN=VALUE,VALUE,…, such as age=60,70, got 'age'"),
        (["--at", "age=60"], "template.conditional.at (--at) needs covariates: name them with --by"),
        (["--by", "age", "--participants", "none.tsv"], "the table none.tsv cannot be read"),
        (["--by", "sex", "--cases", "c1,c2,c5"], "sex is the same (F) for all cases; it cannot condition a template"),
    ],
)
def test_what_cannot_condition_a_template_is_refused_before_anything_starts(
    more: list[str], rule: str, invoke: Invoke, call: list[object], tmp_path: Path
) -> None:
    if "--cases" in more:
        call = call[:-2]
    status, _, text = invoke(*call, "--output", tmp_path / "out", *more)
    assert status == 2
    assert rule in text
    assert not (tmp_path / "out" / "work").exists()
