"""`few-shot` end to end on a tiny cohort: results, reruns, kills, and what is refused."""

import errno
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from covoxel.io import read_image, read_labels, read_table, write_image
from covoxel.manifest import FolderLock, Manifest
from covoxel.spatial import Image

NO_ROOM = "no room on the disk for c3.nii.gz; free some and run again, what is done is kept"
Invoke = Callable[..., tuple[int, str, str]]
MakeCohort = Callable[..., Path]


def few_shot(cohort: Path, output: Path, settings: Path, *more: object) -> list[object]:
    """Arguments of a run with two atlases."""
    return ["few-shot", "--cohort", cohort, "--atlases", "c1,c2", "--output", output, "--settings", settings, *more]


def content(output: Path) -> dict[str, str]:
    """Hash of every label map, confidence, transform and table."""
    files = [*output.glob("*.tsv"), *output.glob("segmentations/*.nii.gz"), *output.glob("transforms/*.h5")]
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_leaves_what_it_promises_and_reruns_do_only_what_changed(
    invoke: Invoke,
    make_cohort: MakeCohort,
    quick_settings: Path,
    tmp_path: Path,
    snapshot: Callable[[Path], dict[str, int]],
    changed: Callable[[dict[str, int], Path], set[str]],
) -> None:
    cohort, output = make_cohort(cases=4), tmp_path / "out"
    run = few_shot(cohort, output, quick_settings, "--evaluate", tmp_path / "cohort-truth")

    status, text, _ = invoke(*run)
    assert status == 0
    assert "4 done, 0 failed, 0 set aside" in text
    assert "mean Dice 0." in text
    assert str(output / "report" / "index.html") in text

    for case in ("c1", "c2", "c3", "c4"):
        image = nib.load(cohort / "images" / f"{case}.nii.gz")
        labels = nib.load(output / "segmentations" / f"{case}.nii.gz")
        assert labels.shape == image.shape
        np.testing.assert_allclose(labels.affine, image.affine, atol=1e-6)
        assert labels.get_data_dtype().kind in "iu"
        assert set(np.unique(np.asanyarray(labels.dataobj))) == {0, 3, 17}
        confidence = read_image(output / "segmentations" / f"{case}_confidence.nii.gz").data
        assert 0 <= float(confidence.min()) <= float(confidence.max()) <= 1
        assert (output / "segmentations" / f"{case}.json").is_file()
    own = read_labels(cohort / "labels" / "c1.nii.gz").data
    assert torch.equal(read_labels(output / "segmentations" / "c1.nii.gz").data, own)
    assert {path.name for path in (output / "transforms").glob("*.h5")} == {
        f"{fixed}_from_{moving}_xfm.h5" for fixed in ("c3", "c4") for moving in ("c1", "c2")
    }

    cases = read_table(output / "cases.tsv")
    assert list(cases["status"]) == ["done"] * 4
    assert list(cases["role"]) == ["atlas", "atlas", "unlabelled", "unlabelled"]
    metrics = read_table(output / "metrics.tsv")
    assert sorted(set(metrics["id"])) == ["c3", "c4"]
    assert metrics["dice"].between(0.6, 1).all()
    assert len(read_table(output / "volumes.tsv")) == 8
    assert "c3" in (output / "report" / "index.html").read_text()
    tables = "".join(path.read_text() for path in output.glob("*.tsv"))
    assert str(tmp_path) not in tables

    before, first = snapshot(output), content(output)
    assert invoke(*run)[0] == 0
    assert changed(before, output) == set()
    assert content(output) == first

    image = read_image(cohort / "images" / "c4.nii.gz")
    write_image(cohort / "images" / "c4.nii.gz", Image(image.data * 1.5 + torch.rand_like(image.data), image.grid))
    code, lines, _ = invoke("status", "--output", output)
    assert code == 0
    assert "c4\tdone\ta rerun would do: check preprocess register fuse" in lines
    assert "c3\tdone\ta rerun would do: nothing" in lines
    assert invoke(*run)[0] == 0
    redone = changed(before, output)
    assert redone
    assert all("c4" in name for name in redone)

    before = snapshot(output)
    (output / "segmentations" / "c3.nii.gz").write_bytes(b"damaged")
    quick_settings.write_text(quick_settings.read_text() + "report: {title: Another}\n")
    assert invoke(*run)[0] == 0
    assert {name for name in changed(before, output) if name.endswith(".nii.gz")} == {
        "segmentations/c3.nii.gz",
        "segmentations/c3_confidence.nii.gz",
    }
    assert content(output)["segmentations/c3.nii.gz"] == first["segmentations/c3.nii.gz"]


def test_killed_in_the_middle_and_run_again_gives_the_same_as_an_undisturbed_run(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path, prefect_api: str
) -> None:
    cohort = make_cohort(cases=8)
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    environment = {**os.environ, "PREFECT_API_URL": prefect_api, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "flows", *map(str, few_shot(cohort, killed, quick_settings, "--workers", "1"))]
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest, end = Manifest(killed), time.monotonic() + 60
    while not manifest.cases("fuse") and run.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    finished = manifest.cases("fuse")
    assert 0 < len(finished) < 8
    kept = {case: (killed / "segmentations" / f"{case}.nii.gz").stat().st_mtime_ns for case in finished}

    assert invoke(*few_shot(cohort, killed, quick_settings))[0] == 0
    assert invoke(*few_shot(cohort, undisturbed, quick_settings, "--workers", "2"))[0] == 0
    assert content(killed) == content(undisturbed)
    assert len(content(killed)) == 3 + 16 + 12
    assert kept == {case: (killed / "segmentations" / f"{case}.nii.gz").stat().st_mtime_ns for case in finished}
    assert not list(killed.rglob(".tmp-*"))


def test_bad_cases_are_set_aside_with_a_sentence_and_the_others_are_done(
    invoke: Invoke,
    make_cohort: MakeCohort,
    quick_settings: Path,
    tmp_path: Path,
    phantom: Callable[..., tuple[Image, Image]],
) -> None:
    cohort, output = make_cohort(cases=6, labelled=5), tmp_path / "out"
    images, labels = cohort / "images", cohort / "labels"
    good = (images / "c6.nii.gz").read_bytes()
    (images / "truncated.nii.gz").write_bytes(good[: len(good) // 2])
    values = np.asanyarray(nib.load(images / "c6.nii.gz").dataobj).copy()
    affine = nib.load(images / "c6.nii.gz").affine
    nib.save(nib.Nifti1Image(values[:, :, 0], affine), images / "flat.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([values, values + 1], -1), affine), images / "series.nii.gz")
    nib.save(nib.Nifti1Image(np.full_like(values, 7), affine), images / "constant.nii.gz")
    nib.save(nib.Nifti1Image(values[::-1].copy(), affine), images / "name with spaces.nii.gz")
    nib.save(nib.Nifti1Image(values[:, ::-1].copy(), affine), images / "dots..here.nii.gz")
    nib.save(nib.Nifti1Image(values[:, :, ::-1].copy(), affine), images / "kopf-größe.nii.gz")
    nib.save(nib.Nifti1Image(values, affine), images / "copy.nii.gz")
    values[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(values, affine), images / "hole.nii.gz")
    own = nib.load(images / "c3.nii.gz").affine
    nib.save(nib.Nifti1Image(np.zeros(values.shape, np.uint8), own), labels / "c3.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), affine), labels / "c4.nii.gz")
    nifti = bytearray(gzip.decompress((images / "c5.nii.gz").read_bytes()))
    nifti[80:92] = bytes(12)  # spacing of 0 along three axes
    nifti[252:256] = bytes(4)  # neither qform nor sform says where the voxels are
    (images / "nospace.nii").write_bytes(bytes(nifti))

    arguments = few_shot(cohort, output, quick_settings)
    arguments[4] = "c1,c2,c3,c4"
    status, text, errors = invoke(*arguments)

    assert status == 3
    table = read_table(output / "cases.tsv").set_index("id")
    expected = {
        "truncated": "truncated.nii.gz",
        "flat": "2-D",
        "series": "series of volumes",
        "constant": "every voxel has the value 7",
        "hole": "not a number",
        "name with spaces": "a case name must",
        "dots..here": "two dots",
        "kopf-größe": "a case name must",
        "c3": "the label is empty",
        "c4": "the same grid",
        "nospace": "nospace.nii",
    }
    for case, words in expected.items():
        assert table.loc[case, "status"] == "set aside", case
        assert words in table.loc[case, "reason"], case
        assert str(tmp_path) not in table.loc[case, "reason"]
    assert {"c6", "copy"} == set(table.index[table["reason"].str.contains("the image is the same", na=False)]) | {
        case for case in ("c6", "copy") if table.loc[case, "status"] == "done"
    }
    assert {"c1", "c2", "c5"} <= set(table.index[table["status"] == "done"])
    assert "12 set aside" in text
    assert "the label is empty" in errors
    assert sum((output / "segmentations" / f"{case}.nii.gz").is_file() for case in table.index) == 4


def test_a_full_disk_fails_one_case_with_a_sentence_and_a_rerun_heals_it(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tasks.results
    import tasks.summary

    cohort, output = make_cohort(cases=4), tmp_path / "out"
    write = tasks.results.write_labels

    def full(path: Path, image: Image) -> None:
        if path.name.startswith("c3"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(tasks.results, "write_labels", full)
        status, text, _ = invoke(*few_shot(cohort, output, quick_settings))
    assert status == 3
    assert "3 done, 1 failed" in text
    table = read_table(output / "cases.tsv").set_index("id")
    assert table.loc["c3", "reason"] == NO_ROOM

    def no_table(path: Path, table: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(tasks.summary, "write_table", no_table)
        status, _, errors = invoke(*few_shot(cohort, output, quick_settings))
    assert status == 1
    assert "No space left on device; what is finished is kept" in errors

    assert invoke(*few_shot(cohort, output, quick_settings))[0] == 0
    assert list(read_table(output / "cases.tsv")["status"]) == ["done"] * 4


def test_a_wrong_call_is_refused_before_anything_starts(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort, output = make_cohort(cases=3), tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "a-file").write_text("")
    wrong_key = tmp_path / "wrong.yaml"
    wrong_key.write_text("register: {engin: svf}\n")
    wrong_engine = tmp_path / "engine.yaml"
    wrong_engine.write_text("register: {engine: magic}\n")

    def refused(run: list[object], *sentence: str) -> None:
        status, _, errors = invoke(*run)
        assert status == 2, errors
        assert errors.splitlines()[-1].startswith("error: "), errors
        for words in sentence:
            assert words in errors
        assert "Traceback" not in errors
        assert not (output / "cases.tsv").exists()

    def asked(**changes: object) -> list[object]:
        asked = {"cohort": cohort, "atlases": "c1,c2", "output": output, "settings": quick_settings, **changes}
        return ["few-shot", *(part for name, value in asked.items() for part in (f"--{name}", value))]

    refused(asked(atlases="c1,c9"), "'c9'")
    refused(asked(atlases="c3"), "'c3'", "no label")
    refused(asked(cases="c1,x7"), "'x7'")
    refused(asked(cohort=tmp_path / "empty"), "empty")
    refused(asked(cohort=tmp_path / "none"), "none")
    refused(asked(settings=wrong_key), "wrong.yaml", "register.engin", "nearest known key is register.engine")
    refused(asked(settings=wrong_engine), "'magic'", "identity")
    refused(asked(evaluate=tmp_path / "no-truth"), "no-truth does not exist")
    refused(asked(evaluate=tmp_path / "empty"), "empty has none for any of the 1 cases", "c3.nii.gz")
    refused(asked(device="tpu"), "device = 'tpu'")
    refused(asked(output=tmp_path / "a-file"), "a-file is a file")
    refused(asked(output=tmp_path / "a-file" / "out"), "cannot be written")
    refused(asked(output=cohort / "out"), "lies in the cohort's folder")
    if not torch.cuda.is_available():
        refused(asked(device="cuda"), "no CUDA device")

    def read_only(self: FolderLock) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(self.path))

    with monkeypatch.context() as patch:
        patch.setattr(FolderLock, "_acquire", read_only)
        refused(asked(), "cannot be written: Read-only file system")

    (cohort / "labels" / "c1.nii.gz").write_bytes(b"no image")
    (cohort / "labels" / "c2.nii.gz").write_bytes(b"no image")
    refused(asked(), "no atlas is fit for use")


def test_two_runs_do_not_mix_in_one_folder(
    invoke: Invoke, make_cohort: MakeCohort, quick_settings: Path, tmp_path: Path
) -> None:
    cohort, output = make_cohort(cases=3), tmp_path / "out"
    hold = "import sys,time,pathlib\nfrom covoxel.manifest import FolderLock\n"
    hold += "with FolderLock(pathlib.Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(output)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        status, _, errors = invoke(*few_shot(cohort, output, quick_settings))
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert status == 2
    assert f"in use by another run (process {holder.pid})" in errors
