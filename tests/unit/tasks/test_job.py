"""Jobs: a failure becomes one sentence without folders, and a record is filed last."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from typing_extensions import TypedDict

from covoxel.io import write_text
from covoxel.manifest import Manifest
from tasks.job import Job, Made, number, sentence, work


@dataclass(frozen=True)
class CountJob(Job):
    stage = "count"
    code = ("covoxel.registry",)

    text: str

    def inputs(self) -> Mapping[str, str]:
        return {"text": self.text}


@work
def count(job: CountJob) -> Made:
    path = job.output / "counts" / f"{job.case}.tsv"
    write_text(path, str(len(job.text)))
    if job.text == "bad":
        raise ValueError(f"{path}: the text must not be bad")
    return Made([path], {"letters": len(job.text)})


def test_a_job_is_done_once_its_record_is_filed_and_only_for_its_inputs(tmp_path: Path) -> None:
    job = CountJob("c1", tmp_path, "cpu", text="word")
    assert job.done() is None
    record = count(job)
    assert record.facts == {"letters": 4}
    assert job.done() == record
    assert CountJob("c1", tmp_path, "cpu", text="other").done() is None
    assert CountJob("c1", tmp_path, "cuda", text="word").done() == record


class Letters(TypedDict):
    letters: int


@dataclass(frozen=True)
class ImageJob(CountJob):
    stage = "image"
    facts = Letters


@work
def image(job: ImageJob) -> Made:
    path = job.output / f"{job.case}.nii.gz"
    write_text(path, job.text)
    return Made([path], {"letters": len(job.text)} if job.text else {})


@pytest.mark.parametrize("facts", [{}, {"letters": "4"}, {"letters": None}, {"letters": [4]}, {"letter": 4}])
def test_facts_that_lack_what_readers_rely_on_count_as_not_done(tmp_path: Path, facts: dict[str, object]) -> None:
    job = ImageJob("c1", tmp_path, "cpu", text="word")
    record = image(job)
    assert job.done() == record
    Manifest(tmp_path).write(replace(record, facts=facts))
    assert Manifest(tmp_path).fresh("image", "c1", job.fingerprint()) is not None
    assert job.done() is None


def test_a_stage_cannot_file_what_its_readers_could_not_use(tmp_path: Path) -> None:
    job = ImageJob("c1", tmp_path, "cpu", text="")
    with pytest.raises(TypeError, match="the facts of image must have all that Letters names"):
        image(job)
    assert job.done() is None


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{}")])
def test_the_sidecar_is_an_output(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    job = ImageJob("c1", tmp_path, "cpu", text="word")
    assert image(job).outputs.keys() == {"c1.nii.gz", "c1.json"}
    damage(tmp_path / "c1.json")
    assert job.done() is None


def test_a_job_must_say_what_it_reads() -> None:
    class Silent(Job):
        stage = "silent"
        code = ()

    with pytest.raises(TypeError, match="inputs"):
        Silent("c1", Path(), "cpu")  # type: ignore[abstract]


def test_a_job_that_fails_leaves_no_record_even_of_earlier_work(tmp_path: Path) -> None:
    count(CountJob("c1", tmp_path, "cpu", text="word"))
    bad = CountJob("c1", tmp_path, "cpu", text="bad")
    with pytest.raises(ValueError, match="must not be bad"):
        count(bad)
    assert bad.done() is None
    assert CountJob("c1", tmp_path, "cpu", text="word").done() is None
    kept = tmp_path / ".covoxel" / "errors" / "count_c1.txt"
    assert "the text must not be bad" in kept.read_text()
    count(CountJob("c1", tmp_path, "cpu", text="word"))
    assert not kept.exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("x.nii.gz: too\n small"), "x.nii.gz: too small"),
        (ValueError("/data/study/x.nii.gz: 3 mm/voxel is wrong"), "x.nii.gz: 3 mm/voxel is wrong"),
        (OSError(errno.ENOSPC, "No space left on device", "/out/c1.nii.gz"), "no room on the disk for c1.nii.gz"),
        (OSError(errno.EROFS, "Read-only file system", "/out/c1.nii.gz"), "c1.nii.gz cannot be written or read"),
        (MemoryError(), "not enough memory for this case"),
        (
            RuntimeError("can't allocate memory: you tried to allocate 2147483648 bytes."),
            "not enough memory: 2.0 GiB were",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory", "/out/c1.nii.gz"), "not enough memory for this case"),
        (ZeroDivisionError("division by zero"), "unexpected ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_is_one_sentence(error: Exception, expected: str) -> None:
    assert sentence(error).startswith(expected)
    assert "\n" not in sentence(error)


def test_folders_of_the_output_are_left_out_whatever_their_names(tmp_path: Path) -> None:
    job = CountJob("c1", tmp_path / "my study", "cpu", text="")
    error = ValueError(f"{job.output}/transforms/a_xfm.h5 must be intact")
    assert sentence(error, job) == "transforms/a_xfm.h5 must be intact"


def test_a_number_that_json_cannot_say_is_none() -> None:
    assert number(float("nan")) is None
    assert number(float("inf")) is None
    assert number(0.5) == 0.5
