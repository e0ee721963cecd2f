"""`build-atlas` end to end on a tiny cohort: what it leaves, going on after a kill, what is refused."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from covoxel.io import read_image, read_labels, read_table, read_transform, write_image
from covoxel.manifest import Manifest
from covoxel.spatial import Image, resample

Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]


def build(cohort: Path, output: Path, settings: Path, *more: object) -> list[object]:
    """Arguments of a run."""
    return ["build-atlas", "--cohort", cohort, "--output", output, "--settings", settings, *more]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """One deformable iteration."""
    path = tmp_path / "atlas.yaml"
    path.write_text("template: {iterations: 1, freedom: similarity}\n")
    return path


def content(output: Path) -> dict[str, str]:
    """Hash of all images, tables and transforms of the template, by name."""
    files = [path for path in (output / "atlas").rglob("*") if path.suffix in (".gz", ".tsv", ".h5")]
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_template_with_all_that_belongs_to_it_goes_on_after_a_kill_as_if_nothing_had_been(
    invoke: Invoke, make_cohort: MakeCohort, settings: Path, tmp_path: Path, prefect_api: str
) -> None:
    cohort, killed, output = make_cohort(cases=5, labelled=2), tmp_path / "killed", tmp_path / "out"
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [*map(str, build(cohort, killed, settings, "--atlases", "c1,c2", "--workers", "1"))]
    run = subprocess.Popen(
        [sys.executable, "-m", "flows", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    manifest, end = Manifest(killed), time.monotonic() + 120
    while not manifest.cases("atlas-place-2") and run.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    finished = manifest.cases("atlas-place-2")
    assert 0 < len(finished) < 5
    kept = {case: manifest.path("atlas-place-2", case).stat().st_mtime_ns for case in finished}
    status, _, text = invoke(*build(cohort, killed, settings, "--atlases", "c1,c2"))
    assert status == 0, text
    assert kept == {case: manifest.path("atlas-place-2", case).stat().st_mtime_ns for case in finished}

    status, text, _ = invoke(*build(cohort, output, settings, "--atlases", "c1,c2", "--workers", "2"))
    assert status == 0
    assert "template of 5 cases after 3 steps" in text
    assert content(killed) == content(output)
    assert "c3\tdone\ta rerun would do: nothing" in invoke("status", "--output", output)[1]

    template = read_image(output / "atlas" / "template.nii.gz")
    first, second = (read_image(output / "atlas" / f"label-{v}_probseg.nii.gz").data for v in (3, 17))
    assert float((first + second).max()) <= 1 + 1e-5
    labels = read_labels(output / "atlas" / "dseg.nii.gz")
    assert set(np.unique(labels.data.numpy())) == {0, 3, 17}
    history = read_table(output / "atlas" / "history.tsv")
    assert list(history["kind"]) == ["affine", "affine", "deform"]
    assert (history["cases"] == 5).all()
    for name in ("history.png", "template.webp"):
        assert (output / "atlas" / name).stat().st_size > 1000
    image = read_image(cohort / "images" / "c4.nii.gz")
    onto = read_transform(output / "atlas" / "transforms" / "template_from_c4_xfm.h5", template.grid)
    back = read_transform(output / "atlas" / "transforms" / "c4_from_template_xfm.h5", image.grid)
    assert correlation(resample(image, template.grid, onto), template) > 0.85
    assert correlation(resample(template, image.grid, back), image) > 0.85


def correlation(one: Image, other: Image) -> float:
    return float(np.corrcoef(one.data.numpy().ravel(), other.data.numpy().ravel())[0, 1])


def test_what_is_no_cohort_for_a_template_is_refused(
    invoke: Invoke, make_cohort: MakeCohort, settings: Path, tmp_path: Path
) -> None:
    cohort = make_cohort(cases=2, labelled=0)
    status, _, text = invoke(*build(cohort, tmp_path / "a", settings, "--cases", "c1"))
    assert status == 2
    assert "a template needs two cases or more, got 1 (c1)" in text
    for number, kind in ((1, "T1w"), (2, "T2w")):
        (cohort / "images" / f"c{number}.nii.gz").rename(cohort / "images" / f"c{number}_{kind}.nii.gz")
    status, _, text = invoke(*build(cohort, tmp_path / "b", settings))
    assert status == 2
    assert "of different contrast by their names (T1w, T2w" in text
    settings.write_text("template: {similarity: likeness}\n")
    status, _, text = invoke(*build(cohort, tmp_path / "c", settings))
    assert status == 2
    assert "different contrast" in text
    assert not (tmp_path / "c" / "atlas").exists()


def test_atlases_come_onto_cases_through_their_template_by_one_registration_each(
    invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path
) -> None:
    cohort, output, settings = make_cohort(cases=4, labelled=2), tmp_path / "out", tmp_path / "route.yaml"
    settings.write_text("template: {iterations: 1}\nfuse: {rule: majority}\nreport: {figures: 0}\n")
    call = ["few-shot", "--route", "template", "--cohort", cohort, "--output", output, "--settings", settings]
    truth = ["--evaluate", tmp_path / "cohort-truth"]
    status, text, wrong = invoke(*call, "--atlases", "c1,c2", *truth)
    assert status == 0, wrong
    assert float(text.partition("mean Dice ")[2].split()[0]) > 0.8
    assert "registered to an unbiased template of the atlases, once" in (output / "report" / "index.html").read_text()
    record = Manifest(output).read("register", "c3")
    assert record is not None
    assert record.facts["registrations"] == 1
    assert set(record.facts["transforms"]) == {"c1", "c2"}
    assert "register: 2 cases, 2 done before" in invoke(*call, "--atlases", "c1,c2", *truth)[2]
    status, _, wrong = invoke(*call, "--atlases", "c1")
    assert status == 2
    assert "the route template needs two atlases or more, got 1" in wrong
    assert (
        "--route must be one of direct, template, got 'scenic'"
        in invoke(*call[:2], "scenic", *call[3:], "--atlases", "c1")[2]
    )


def test_the_closest_of_several_templates_serves_each_case(
    invoke: Invoke, make_cohort: MakeCohort, tmp_path: Path
) -> None:
    cohort, output, settings = make_cohort(cases=6, labelled=4, finer=2), tmp_path / "out", tmp_path / "route.yaml"
    for number in range(1, 7):  # half a shell here or there: no affine map does that
        path = cohort / "images" / f"c{number}.nii.gz"
        image = read_image(path)
        world = image.grid.to_ras(np.moveaxis(np.indices(image.grid.shape), 0, -1))
        radius = np.linalg.norm(world / [12, 10, 11], axis=-1)
        side = world[..., 1] if number % 2 else -world[..., 1]
        if number % 2 == 0:
            image.data[torch.from_numpy(np.linalg.norm(world - [4, 0, 0], axis=-1) < 8)] = 0
        image.data[torch.from_numpy((radius > 0.8) & (radius < 1) & (side > 0))] = 80
        write_image(path, image)
    settings.write_text("template: {iterations: 1, count: 2}\nfuse: {rule: majority}\nreport: {figures: 0}\n")
    call = ["few-shot", "--route", "template", "--cohort", cohort, "--output", output, "--settings", settings]
    status, _, wrong = invoke(*call, "--atlases", "c1,c2,c3,c4")
    assert status == 0, wrong
    manifest = Manifest(output)
    groups = manifest.read("atlases-library", "@cohort")
    assert groups is not None
    assert sorted(map(sorted, groups.facts["templates"])) == [["c1", "c3"], ["c2", "c4"]]
    rows = {row["id"]: row for row in read_table(output / "cases.tsv").to_dict("records")}
    for case, like in (("c5", "c1"), ("c6", "c2")):
        record = manifest.read("register", case)
        assert record is not None
        assert record.facts["registrations"] == 1
        assert set(record.facts["transforms"]) == {"c1", "c2", "c3", "c4"}
        assert like in groups.facts["templates"][record.facts["template"] - 1]
        assert int(rows[case]["template"]) == record.facts["template"]
    assert "closest to it of 2 templates" in (output / "report" / "index.html").read_text()
    assert "register: 2 cases, 2 done before" in invoke(*call, "--atlases", "c1,c2,c3,c4")[2]
    settings.write_text("template: {iterations: 0, count: 2}\n")
    status, _, wrong = invoke(*call, "--atlases", "c1,c2,c3,c4")
    assert status == 2
    assert "template.count = 2 needs template.iterations of 1 or more" in wrong
