"""The check on small files: the value to ignore leaves the label maps, copies leave the run, and all is counted."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from covoxel.io import read_labels, sha256_file, write_image, write_labels
from covoxel.spatial import Grid, Image
from tasks.atlas_label import label_of, without_value
from tasks.call import Call
from tasks.check import check, check_jobs, count_of, set_aside
from tasks.evaluate import EvaluateJob, evaluate
from tasks.fuse import keep, keep_jobs
from tasks.job import Artifact
from tasks.preprocess import preprocess, preprocess_jobs
from tasks.settings_file import parse_settings
from tasks.study import Study, read_study

SHAPE = (6, 7, 8)
NNUNET = '{"file_ending": ".nii.gz", "labels": {"background": 0, "all": [1, 2], "core": 2, "ignore": 3}}'


def _image(path: Path, seed: int) -> Path:
    data = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
    write_image(path, Image(data, Grid.from_spacing(SHAPE)))
    return path


def _labels(path: Path, *values: int) -> Image:
    """Write a label map in which each value fills a slice of its own."""
    data = torch.zeros(SHAPE, dtype=torch.int64)
    for place, value in enumerate(values):
        data[place] = value
    image = Image(data, Grid.from_spacing(SHAPE))
    write_labels(path, image)
    return image


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """Study of nnU-Net data with two atlases, `a` with voxels to ignore and `b` without, after its check."""
    root = tmp_path / "cohort"
    for number, name in enumerate("abc"):
        _image(root / "imagesTr" / f"{name}_0000.nii.gz", number)
    _labels(root / "labelsTr" / "a.nii.gz", 1, 2, 3)
    _labels(root / "labelsTr" / "b.nii.gz", 2, 1)
    (root / "dataset.json").write_text(NNUNET)

    def checked(*atlases: str) -> Study:
        call = Call(cohort=root, atlases=atlases, output=tmp_path / "out")
        found = read_study(call)
        found.records["check"] = {job.case: check.fn(job) for job in check_jobs(found)}
        set_aside(found)
        return found

    return checked


def test_the_value_to_ignore_is_background_for_all_later_stages(study: Callable[..., Study], tmp_path: Path) -> None:
    found = study("a", "b")
    a, b = (found.cohort.case(name) for name in "ab")
    assert found.records["check"]["a"].facts["label_values"] == [1, 2]
    assert label_of(found, b) == Artifact(b.training_label(), sha256_file(b.training_label()))
    cleaned = label_of(found, a)
    assert cleaned.path == tmp_path / "out" / "work" / "labels" / "a.nii.gz"
    assert cleaned.sha256 == sha256_file(cleaned.path)
    assert torch.unique(read_labels(cleaned.path).data).tolist() == [0, 1, 2]
    assert not read_labels(cleaned.path).data[2].any()
    kept = keep.fn(next(job for job in keep_jobs(found) if job.case == "a"))
    assert list(kept.facts["volumes_mm3"]) == ["1", "2"]
    preprocess.fn(next(job for job in preprocess_jobs(found) if job.case == "a"))
    prepared = read_labels(found.layout.preprocessed_labels("a"))
    assert torch.unique(prepared.data).tolist() == [0, 1, 2]


def test_a_cohort_without_a_value_to_ignore_keeps_its_fingerprints(study: Callable[..., Study]) -> None:
    jobs = {job.case: job for job in check_jobs(study("a"))}
    assert jobs["a"].parameters()["ignore"] == 3
    (job, *_) = jobs.values()
    assert "ignore" not in type(job)(job.case, job.output, "cpu", job.subject, None, 3).parameters()


@pytest.mark.parametrize(("ignore", "scores"), [(3, {"1": 1.0, "2": 1.0}), (None, {"1": 1.0, "2": 2 / 3, "3": 0.0})])
def test_voxels_to_ignore_in_the_truth_do_not_score(
    tmp_path: Path, ignore: int | None, scores: dict[str, float]
) -> None:
    _labels(tmp_path / "found.nii.gz", 1, 2, 2)
    _labels(tmp_path / "truth.nii.gz", 1, 2, 3)
    files = [Artifact(tmp_path / name, sha256_file(tmp_path / name)) for name in ("found.nii.gz", "truth.nii.gz")]
    job = EvaluateJob("a", tmp_path / "out", "cpu", *files, ignore=ignore)
    assert evaluate.fn(job).facts["dice"] == pytest.approx(scores)
    assert job.parameters() == ({} if ignore is None else {"ignore": 3})


def test_nothing_to_leave_out_leaves_a_label_map_as_it_is(tmp_path: Path) -> None:
    labels = _labels(tmp_path / "l.nii.gz", 1, 2)
    assert without_value(labels, None) is labels


def test_what_became_of_all_entries_is_counted(study: Callable[..., Study], tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    (root / "imagesTr" / "d_0000.nii.gz").symlink_to("nowhere")
    _image(root / "imagesTr" / "c_0001.nii.gz", 7)
    (root / "imagesTr" / "b-copy_0000.nii.gz").write_bytes((root / "imagesTr" / "b_0000.nii.gz").read_bytes())
    _labels(root / "labelsTr" / "a.nii.gz", 1, 9)
    found = study("a", "b")
    assert set(found.set_aside) == {"a", "b-copy", "d"}
    assert str(count_of(found)) == ("6 entries seen, 2 cases, 3 excluded, 1 ignored on purpose (1 further channels)")


def test_settings_choose_among_the_files_of_bids_and_confine_a_cohort(tmp_path: Path) -> None:
    root = tmp_path / "bids"
    for number, name in enumerate(("sub-1/anat/sub-1_run-1_T2w", "sub-1/anat/sub-1_run-2_T2w")):
        _image(root / f"{name}.nii.gz", number)
    for name in ("auto/sub-1_run-2_desc-x_dseg", "manual/sub-1_run-2_dseg"):
        _labels(root / "derivatives" / f"{name}.nii.gz", 1)
    _image(tmp_path / "outside.nii.gz", 5)
    (root / "sub-2" / "anat").mkdir(parents=True)
    (root / "sub-2" / "anat" / "sub-2_T2w.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    chosen = {"image": "T2w", "label": "manual", "run": 2, "trusted": False}
    call = Call(
        cohort=root,
        atlases=("sub-1_run-2",),
        output=tmp_path / "out",
        settings=parse_settings({"cohort": chosen}, "settings"),
    )
    cohort = read_study(call).cohort
    assert [(case.id, case.role) for case in cohort.cases] == [("sub-1_run-2", "atlas")]
    assert [item.id for item in cohort.rejected] == ["sub-2"]


def test_true_labels_in_the_folder_of_the_cohort_are_not_counted_as_excluded(tmp_path: Path) -> None:
    root = tmp_path / "cohort"
    _image(root / "images" / "a.nii.gz", 1)
    _labels(root / "gold" / "a.nii.gz", 1)
    call = Call(cohort=root, output=tmp_path / "out", evaluate=root / "gold")
    assert not read_study(call).cohort.rejected
    assert len(read_study(call.model_copy(update={"evaluate": None})).cohort.rejected) == 1
