"""`longitudinal` end to end on tiny visits: tables, a visit added, what is done before, and odd cohorts."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from covoxel.io import read_labels, read_table, write_image, write_labels, write_table
from covoxel.manifest import Manifest
from covoxel.segmentation import ImageModel
from covoxel.spatial import Grid, Image
from tasks.visit_network import _loaded

Invoke = Callable[..., tuple[int, str, str]]
SHAPE = (18, 16, 14)
STAGES = ("visit", "within", "label-template", "follow")


def ball(radius: float, seed: int) -> tuple[Image, Image]:
    """A ball in a larger one, a little noisy and shaded, and its label."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing(SHAPE, 2.0)
    points = grid.to_ras(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1))
    away = np.linalg.norm(points - rng.uniform(-0.4, 0.4, 3), axis=-1)
    values = 0.5 / (1 + np.exp(away - 14)) + 0.5 / (1 + np.exp(1.5 * (away - radius)))
    values = 1000 * values * np.exp(0.02 * points[..., 0] / 14) + rng.normal(0, 8, SHAPE)
    return Image(torch.tensor(values, dtype=torch.float32), grid), Image(
        torch.tensor((away < radius).astype(int)), grid
    )


def row(
    folder: Path, case: str, subject: str, date: str | None, radius: float, label: bool = False
) -> dict[str, object]:
    image, labels = ball(radius, crc32(case.encode()))
    write_image(folder / f"{case}.nii.gz", image)
    if label:
        write_labels(folder / f"{case}_dseg.nii.gz", labels)
    return {
        "id": case,
        "image": f"{case}.nii.gz",
        "label": f"{case}_dseg.nii.gz" if label else None,
        "subject": subject,
        "session": case.rpartition("_")[2] if "_" in case else None,
        "date": date,
    }


def cohort_of(folder: Path, rows: Sequence[dict[str, object]]) -> Path:
    write_table(folder / "cases.tsv", pd.DataFrame(rows))
    return folder / "cases.tsv"


@pytest.fixture
def visits(tmp_path: Path) -> list[dict[str, object]]:
    """An atlas, a subject with an odd name that shrinks, one with a visit without a date, and one seen once."""
    folder = tmp_path / "cohort"
    return [
        row(folder, "atlas", "atlas", None, 8.0, label=True),
        row(folder, "p1_v1", "../Ünal", "2020-01-01", 8.2),
        row(folder, "p1_v2", "../Ünal", "2021-01-01", 8.0),
        row(folder, "p1_v3", "../Ünal", "2022-01-01", 7.8),
        row(folder, "p2_v1", "p2", "2020-01-01", 8.0),
        row(folder, "p2_v2", "p2", None, 8.0),
        row(folder, "p3_v1", "p10", "2020-01-01", 8.0),
    ]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text("register: {engine: identity}\nlongitudinal: {rule: majority, levels: 0}\n")
    return path


def test_volumes_rates_and_a_visit_that_comes_later(
    invoke: Invoke, visits: list[dict[str, object]], settings: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "cohort", tmp_path / "out"
    run = ["longitudinal", "--cohort", cohort_of(folder, visits), "--atlases", "atlas", "--output", output]
    run += ["--settings", settings]
    status, text, errors = invoke(*run)
    assert status == 0, errors
    assert f"report: {output / 'longitudinal' / 'index.html'}" in text

    tables = output / "longitudinal"
    rates = read_table(tables / "rates.tsv")
    own = rates[(rates["subject"] == "../Ünal")].set_index("from")["percent_per_year"].astype(float)
    true = 100 * ((7.8 / 8.2) ** 1.5 - 1)
    assert own["labels"] == pytest.approx(true, abs=4)
    assert own["jacobian"] == pytest.approx(true, abs=4)
    notes = dict(zip(rates["subject"], rates["note"], strict=True))
    assert notes["p2"] == "no two visits have different dates"
    assert notes["p10"] == "one visit only"
    assert list(dict.fromkeys(read_table(tables / "volumes.tsv")["subject"])) == ["../Ünal", "p2", "p10"]
    assert "4 are needed" in read_table(tables / "model.tsv")["note"][0]
    assert set(read_table(tables / "floor.tsv")["source"]) == {"residuals"}
    assert "no date" in str(read_table(output / "longitudinal" / "cases.tsv").set_index("id").loc["p2_v2", "flags"])
    labels = read_labels(tables / "segmentations" / "p1_v3.nii.gz")
    assert labels.data.sum() > 100
    assert not list(tmp_path.rglob("*Ünal*")), "an unsafe name is no file"

    manifest = Manifest(output)
    kept = {
        stage: [manifest.path(stage, name).stat().st_mtime_ns for name in manifest.cases(stage)] for stage in STAGES
    }
    assert invoke(*run)[0] == 0
    again = {
        stage: [manifest.path(stage, name).stat().st_mtime_ns for name in manifest.cases(stage)] for stage in STAGES
    }
    assert again == kept, "nothing is done twice"

    said = invoke("status", "--output", output)[1]
    assert "p1_v3\tdone\ta rerun would do: nothing" in said

    before = read_table(tables / "volumes.tsv").set_index("id")["volume_mm3"]
    cohort_of(folder, [*visits, row(folder, "p1_v4", "../Ünal", "2023-01-01", 7.6)])
    said = invoke("status", "--output", output)[1]
    assert "p1_v4\tnot done yet\ta rerun would do: check preprocess visit within label-template follow" in said
    assert "p2_v1\tdone\ta rerun would do: nothing" in said
    assert invoke(*run)[0] == 0
    key = next(name for name in manifest.cases("within") if name.startswith("subject-"))
    updated = manifest.read("within", key)
    assert updated is not None
    assert updated.facts["updated_from"] == ["p1_v1", "p1_v2", "p1_v3"]
    changed = {stage: _times(manifest, stage, kept[stage]) for stage in STAGES}
    assert changed == {"visit": 1, "within": 1, "label-template": 0, "follow": 1}
    drift = read_table(tables / "drift.tsv")
    assert set(drift["id"]) == {"p1_v1", "p1_v2", "p1_v3"}
    first = drift[drift["from"] == "labels"].set_index("id").loc["p1_v1"]
    assert first["before_mm3"] == pytest.approx(before["p1_v1"], rel=1e-5)
    assert drift["percent"].astype(float).abs().max() < 3
    assert "Later runs changed earlier volumes" in (tables / "index.html").read_text()


def _times(manifest: Manifest, stage: str, before: list[int]) -> int:
    """Number of records of a stage that are new."""
    return len({manifest.path(stage, name).stat().st_mtime_ns for name in manifest.cases(stage)} - set(before))


def test_two_visits_on_one_day_are_a_floor_and_a_broken_visit_stops_no_other(
    invoke: Invoke, settings: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "cohort", tmp_path / "out"
    rows = [
        row(folder, "atlas", "atlas", None, 8.0, label=True),
        row(folder, "p1_v1", "p1", "2020-01-01", 8.0),
        row(folder, "p1_v2", "p1", "2020-01-01T15:00:00", 8.0),
        row(folder, "p1_v3", "p1", "2022-13-01", 8.0),
        row(folder, "p1_v4", "p1", "2023-01-01", 8.0),
    ]
    (folder / "p1_v4.nii.gz").write_bytes(b"broken")
    run = ["longitudinal", "--cohort", cohort_of(folder, rows), "--atlases", "atlas", "--output", output]
    status, text, _ = invoke(*run, "--settings", settings)
    assert status == 3
    assert "4 done, 0 failed, 1 set aside" in text
    assert set(read_table(output / "longitudinal" / "floor.tsv")["source"]) == {"same-day visits"}
    flags = read_table(output / "longitudinal" / "cases.tsv").set_index("id")["flags"]
    assert "year-month-day" in str(flags["p1_v3"])


def test_what_is_asked_for_and_not_there_is_refused_before_anything_starts(
    invoke: Invoke, visits: list[dict[str, object]], tmp_path: Path
) -> None:
    cohort = cohort_of(tmp_path / "cohort", visits[:2])
    path = tmp_path / "wrong.yaml"
    for text, rule in (
        ("longitudinal: {covariates: [age]}", "ask for age, and the table participants.tsv cannot be read"),
        ("longitudinal: {rule: fastest}", "longitudinal.rule = 'fastest' is wrong"),
        ("longitudinal: {network: nnunet}", "must have a trained model, and segment.nnunet.model names none"),
        ("longitudinal: {network: joint}\nsegment: {model: nowhere}", "segment.model: "),
    ):
        path.write_text(text)
        run = ["longitudinal", "--cohort", cohort, "--atlases", "atlas", "--output", tmp_path / "out"]
        status, _, errors = invoke(*run, "--settings", path)
        assert status == 2, errors
        assert rule in errors


def test_a_network_has_a_say_and_time_turned_round_gives_the_opposite_rate(
    invoke: Invoke, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, loads = tmp_path / "cohort", []

    def bright(image: Tensor) -> Tensor:
        inside = 20 * (image - 0.75)
        return torch.cat([-inside, inside], 1)

    def load(folder: Path, device: str) -> ImageModel:
        loads.append(folder)
        return ImageModel(bright, (0, 1))

    values = [0, 1]
    monkeypatch.setattr("tasks.visit_network.load_segmenter", load)
    monkeypatch.setattr("tasks.visit_network.joint_model_sha256", lambda folder: "0" * 64)
    monkeypatch.setattr("tasks.visit_network.joint_facts", lambda folder: SimpleNamespace(values=values))
    _loaded.cache_clear()
    settings.write_text(
        "register: {engine: identity}\nlongitudinal: {rule: majority, levels: 0, network: joint}\n"
        f"segment: {{views: 1, model: {tmp_path}}}\n"
    )
    rows = [
        row(folder, "atlas", "atlas", None, 6.0, label=True),
        row(folder, "p1_v1", "p1", "2020-01-01", 8.2),
        row(folder, "p1_v2", "p1", "2022-01-01", 7.8),
    ]

    def ran(name: str, dates: Sequence[str]) -> pd.DataFrame:
        for each, date in zip(rows[1:], dates, strict=True):
            each["date"] = date
        run = ["longitudinal", "--cohort", cohort_of(folder, rows), "--atlases", "atlas", "--output", tmp_path / name]
        status, _, errors = invoke(*run, "--settings", settings)
        assert status == 0, errors
        return read_table(tmp_path / name / "longitudinal" / "rates.tsv").set_index("from")

    forth, back = ran("forth", ("2020-01-01", "2022-01-01")), ran("back", ("2022-01-01", "2020-01-01"))
    logs = [np.log1p(rates["percent_per_year"].astype(float) / 100) for rates in (forth, back)]
    assert float((logs[0] + logs[1]).abs().max()) < 1e-6
    assert logs[0]["labels"] < -0.01
    # The atlas says six millimetres, the network eight: half of what lies between counts.
    volumes = read_table(tmp_path / "forth" / "longitudinal" / "volumes.tsv")["volume_mm3"].astype(float)
    small, large = (4 / 3 * np.pi * radius**3 for radius in (6.0, 8.0))
    assert volumes.mean() == pytest.approx((small + large) / 2, rel=0.1)
    record = Manifest(tmp_path / "forth").read("follow", "p1")
    assert record is not None
    assert record.inputs["network"] == "0" * 64
    assert len(loads) == 3, "twice to check the settings, once to segment"

    values.append(2)
    run = ["longitudinal", "--cohort", folder / "cases.tsv", "--atlases", "atlas", "--output", tmp_path / "none"]
    status, _, errors = invoke(*run, "--settings", settings)
    assert status == 2
    assert "must know the labels of the atlases, [1], it knows [1, 2]" in errors
