"""The built-in cohort: complete, repeatable, and as true as it says."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import data_catalog.synthetic
from covoxel.io import read_image, read_labels, read_table, sha256_file
from covoxel.io.transforms import read_transform
from covoxel.spatial import resample
from data_catalog import CohortError, EvaluationLabels, check_case, make_synthetic_cohort, open_cohort
from data_catalog.synthetic import load_anatomy

SPACING_MM = 5.0


def _files(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _read_the_maps_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_catalog.synthetic, "load_anatomy", cache(load_anatomy))
        yield


@pytest.fixture(scope="module")
def cohort_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects, two of them labelled, 5 mm."""
    folder = tmp_path_factory.mktemp("synthetic") / "cohort"
    return make_synthetic_cohort(folder, 3, spacing_mm=SPACING_MM)


@pytest.fixture(scope="module")
def visits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject at three visits, 5 mm."""
    folder = tmp_path_factory.mktemp("synthetic") / "visits"
    return make_synthetic_cohort(folder, 3, labelled=1, spacing_mm=SPACING_MM, kind="longitudinal")


def test_it_is_a_sound_cohort(cohort_folder: Path) -> None:
    cohort = open_cohort(cohort_folder)
    assert [case.id for case in cohort.cases] == ["sub-001", "sub-002", "sub-003"]
    assert [case.label is not None for case in cohort.cases] == [True, True, False]
    assert cohort.label_names == {1: "grey matter", 2: "white matter"}
    assert not cohort.rejected
    assert [check_case(case, {1, 2}, 3).reason for case in cohort.cases] == [None] * 3
    truth = EvaluationLabels(cohort_folder / "truth" / "labels")
    assert all(case.id in truth for case in cohort.cases)
    as_table = open_cohort(cohort_folder / "cases.tsv")
    assert [case.image for case in as_table.cases] == [case.image for case in cohort.cases]


def test_equal_settings_give_equal_bytes_on_any_number_of_threads(cohort_folder: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = make_synthetic_cohort(tmp_path / "again", 3, labelled=2, spacing_mm=SPACING_MM)
    finally:
        torch.set_num_threads(threads)
    assert _files(again) == _files(cohort_folder)


def test_another_seed_gives_others_and_fewer_cases_the_same(cohort_folder: Path, tmp_path: Path) -> None:
    fewer = make_synthetic_cohort(tmp_path / "fewer", 1, spacing_mm=SPACING_MM)
    other = make_synthetic_cohort(tmp_path / "other", 1, labelled=1, spacing_mm=SPACING_MM, seed=1)
    assert open_cohort(fewer).case("sub-001").label is not None
    name = "images/sub-001.nii.gz"
    assert _files(fewer)[name] == _files(cohort_folder)[name] != _files(other)[name]


def test_what_is_there_is_not_made_again_and_what_is_missing_is(cohort_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cohort_folder.rglob("*") if path.is_file()}
    make_synthetic_cohort(cohort_folder, 3, labelled=2, spacing_mm=SPACING_MM)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    hashes = _files(cohort_folder)
    (cohort_folder / "truth" / "labels" / "sub-002.nii.gz").unlink()
    make_synthetic_cohort(cohort_folder, 3, labelled=2, spacing_mm=SPACING_MM)
    assert _files(cohort_folder) == hashes


def test_a_folder_that_holds_something_else_is_refused(cohort_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="holds a synthetic cohort made with other settings; choose another folder"):
        make_synthetic_cohort(cohort_folder, 3, labelled=1, spacing_mm=SPACING_MM)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CohortError, match="is not empty and holds no synthetic cohort"):
        make_synthetic_cohort(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"cases": 0}, "cases must be 1 to 999"),
        ({"cases": 2, "labelled": 3}, "labelled 0 to cases, got 2 and 3"),
        ({"spacing_mm": 0.0}, "spacing_mm must be 1 to 8 mm, got 0.0"),
        ({"kind": "spiral"}, "kind must be one of cross_section, longitudinal, got 'spiral'"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, object], rule: str) -> None:
    with pytest.raises(CohortError, match=rule):
        make_synthetic_cohort(tmp_path / "new", **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_the_true_transform_brings_the_template_onto_each_case(cohort_folder: Path) -> None:
    anatomy = load_anatomy().seen_at(SPACING_MM)
    for case in open_cohort(cohort_folder).cases:
        image = read_image(case.image)
        truth = read_transform(cohort_folder / "truth" / "transforms" / f"from-{case.id}_to-mni152_xfm.h5", image.grid)
        labels = read_labels(cohort_folder / "truth" / "labels" / f"{case.id}.nii.gz")
        moved = resample(anatomy.intensity, image.grid, truth).data
        assert float(np.corrcoef(moved.ravel(), image.data.ravel())[0, 1]) > 0.93
        grey = resample(anatomy.probabilities[1], image.grid, truth).data
        assert float(grey[labels.data == 1].mean()) > 0.6
        assert float(grey[labels.data != 1].mean()) < 0.12
        assert labels.grid.isclose(image.grid)


def test_the_true_volumes_are_those_of_the_true_labels(cohort_folder: Path) -> None:
    volumes = read_table(cohort_folder / "truth" / "volumes.tsv").set_index(["id", "label"])["volume_ml"]
    for case_id in ("sub-001", "sub-003"):
        labels = read_labels(cohort_folder / "truth" / "labels" / f"{case_id}.nii.gz")
        for value in (1, 2):
            expected = int((labels.data == value).sum()) * SPACING_MM**3 / 1000
            assert volumes[case_id, value] == pytest.approx(expected, rel=1e-4)
            assert 200 < expected < 2000


def test_visits_are_dated_and_shrink_in_one_place_only(visits_folder: Path) -> None:
    cohort = open_cohort(visits_folder / "cases.tsv")
    assert {case.subject for case in cohort.cases} == {"sub-001"}
    assert [case.session for case in cohort.cases] == ["ses-01", "ses-02", "ses-03"]
    assert [case.date for case in cohort.cases] == ["2020-03-01", "2021-03-01", "2022-03-01"]
    assert [case.session for case in open_cohort(visits_folder).cases] == ["ses-01", "ses-02", "ses-03"]
    changes = read_table(visits_folder / "truth" / "changes.tsv")
    left = changes[changes["region"] == "left medial temporal lobe"]
    right = changes[changes["region"] == "right medial temporal lobe"]
    assert right["jacobian"].tolist() == [1, 1, 1]
    yearly = left["jacobian"].to_numpy()
    assert yearly[0] == 1
    assert 0.9 < yearly[1] < 0.99
    assert yearly[2] == pytest.approx(yearly[1] ** 2, rel=1e-4)
    assert (left["volume_ml"] / left["jacobian"]).tolist() == pytest.approx([4 / 3 * np.pi * 1.2**3] * 3, rel=1e-4)


def test_the_true_transforms_of_two_visits_show_the_known_change(visits_folder: Path) -> None:
    changes = read_table(visits_folder / "truth" / "changes.tsv").set_index(["region", "id"])
    for region, factor in (("left medial temporal lobe", None), ("right medial temporal lobe", 1.0)):
        density = {}
        for visit in ("sub-001_ses-01", "sub-001_ses-03"):
            row = changes.loc[(region, visit)]
            image = read_image(visits_folder / "images" / f"{visit}.nii.gz")
            path = visits_folder / "truth" / "transforms" / f"from-{visit}_to-mni152_xfm.h5"
            transform = read_transform(path, image.grid)
            centre = row[["centre_r_mm", "centre_a_mm", "centre_s_mm"]].to_numpy(dtype=float)
            shell = np.random.default_rng(0).normal(size=(4000, 3))
            shell *= row["radius_mm"] / np.linalg.norm(shell, axis=1, keepdims=True)
            moved = transform.map(centre + shell) - transform.map(centre[None])
            density[visit] = np.linalg.norm(moved, axis=1).mean() / row["radius_mm"]
            expected = factor or row["jacobian"]
        ratio = (density["sub-001_ses-01"] / density["sub-001_ses-03"]) ** 3
        assert ratio == pytest.approx(expected, rel=0.02)
