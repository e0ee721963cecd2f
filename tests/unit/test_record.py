"""Records: one that does not validate counts as none, whatever lies in its place."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from covoxel.io import sha256_json
from covoxel.manifest import Manifest, Record, fingerprint
from covoxel.record import MAX_RECORD_BYTES, record_of, record_text

MARK = fingerprint({"image": "a" * 64}, {"levels": 3}, "code")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    output = tmp_path / "segmentations" / "c1.nii.gz"
    output.parent.mkdir()
    output.write_bytes(b"labels")
    manifest = Manifest(tmp_path)
    made = manifest.hash_outputs([output])
    facts = {"quality": 0.25, "rule": "staple", "volumes": {2: 1.0, 10: 3.0}}
    manifest.write(Record("fuse", "c1", MARK, {"image": "a" * 64}, {"levels": 3}, "code", made, facts))
    return manifest


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def signed(data: dict[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in data.items() if name != "sha256"}
    return {**content, "sha256": sha256_json(content)}


def changed(manifest: Manifest, change: Callable[[dict[str, Any]], Any], *, is_signed: bool) -> None:
    path = manifest.path("fuse", "c1")
    data = json.loads(path.read_text())
    change(data)
    del data["sha256"]
    path.write_text(json.dumps(signed(data) if is_signed else data))


def test_a_record_carries_the_hash_of_its_content(manifest: Manifest) -> None:
    record = manifest.fresh("fuse", "c1", MARK)
    assert record is not None
    assert record.facts["volumes"] == {"2": 1.0, "10": 3.0}
    content = json.loads(manifest.path("fuse", "c1").read_text())
    assert content == signed(content)
    assert record_of(record_text(record)) == record


def test_one_that_was_filed_before_there_was_a_hash_is_valid(manifest: Manifest) -> None:
    changed(manifest, lambda data: None, is_signed=False)
    assert "sha256" not in json.loads(manifest.path("fuse", "c1").read_text())
    assert manifest.fresh("fuse", "c1", MARK) is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["facts"].update(quality=0.75),
        lambda data: data.update(facts={}),
        lambda data: data.update(outputs={}),
        lambda data: data.update(seconds=99.0),
        lambda data: data["facts"].pop("rule"),
    ],
)
def test_one_whose_content_was_changed_is_none(manifest: Manifest, change: Callable[[dict[str, Any]], Any]) -> None:
    path = manifest.path("fuse", "c1")
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    assert manifest.read("fuse", "c1") is None
    path.write_text(json.dumps({**data, "sha256": None}))
    assert manifest.read("fuse", "c1") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(outputs=[]),
        lambda data: data.update(outputs={"segmentations/c1.nii.gz": 3}),
        lambda data: data.update(outputs={"segmentations/c1.nii.gz": "abc"}),
        lambda data: data.update(outputs={"../c1.nii.gz": "a" * 64}),
        lambda data: data.update(outputs={"/etc/passwd": "a" * 64}),
        lambda data: data.update(outputs={"a\0b": "a" * 64}),
        lambda data: data.update(inputs=["a"]),
        lambda data: data.update(inputs={"image": None}),
        lambda data: data.update(settings=None),
        lambda data: data.update(facts=[1]),
        lambda data: data.update(facts="none"),
        lambda data: data.update(seconds="1"),
        lambda data: data.update(seconds=True),
        lambda data: data.update(seconds=-1),
        lambda data: data.update(code=5),
        lambda data: data.update(device=None),
        lambda data: data.update(stage="decide"),
        lambda data: data.update(case="c2"),
        lambda data: data.update(format=2),
        lambda data: data.update(more=1),
        lambda data: data.pop("inputs"),
        lambda data: data.pop("outputs"),
        lambda data: data.pop("fingerprint"),
    ],
)
@pytest.mark.parametrize("is_signed", [True, False])
def test_one_with_a_part_of_the_wrong_kind_is_none(
    manifest: Manifest, change: Callable[[dict[str, Any]], Any], is_signed: bool
) -> None:
    changed(manifest, change, is_signed=is_signed)
    assert manifest.read("fuse", "c1") is None
    assert manifest.fresh("fuse", "c1", MARK) is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_must_be_finite(manifest: Manifest, number: str) -> None:
    changed(manifest, lambda data: None, is_signed=False)
    path = manifest.path("fuse", "c1")
    path.write_text(path.read_text().replace("0.25", number))
    assert manifest.read("fuse", "c1") is None


@pytest.mark.parametrize("depth", [500, 5_000, 500_000])
@pytest.mark.parametrize("ends", ["[]", ('{"a":', "}")])
def test_deep_nesting_is_no_record(manifest: Manifest, depth: int, ends: str) -> None:
    changed(manifest, lambda data: data.update(facts=0), is_signed=False)
    path = manifest.path("fuse", "c1")
    path.write_text(path.read_text().replace('"facts": 0', f'"facts": {ends[0] * depth}1{ends[1] * depth}'))
    if depth > 1000:
        assert manifest.read("fuse", "c1") is None
    path.write_text(ends[0] * depth + "1" + ends[1] * depth)
    assert manifest.read("fuse", "c1") is None


def test_what_is_no_file_is_no_record_and_gives_way(manifest: Manifest) -> None:
    path, record = manifest.path("fuse", "c1"), manifest.read("fuse", "c1")
    assert record is not None
    for make in (
        Path.mkdir,
        os.mkfifo,
        lambda where: where.symlink_to("/dev/zero"),
        lambda where: where.symlink_to("x"),
    ):
        manifest.forget("fuse", "c1")
        make(path)  # type: ignore[operator]
        assert in_time(lambda: manifest.read("fuse", "c1")) is None
        manifest.forget("fuse", "c1")
        manifest.write(record)
        assert manifest.read("fuse", "c1") == record
    with path.open("wb") as file:
        file.truncate(MAX_RECORD_BYTES + 1)
    assert manifest.read("fuse", "c1") is None
    path.write_bytes(b"\xff\xfe{}")
    assert manifest.read("fuse", "c1") is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, endless])
def test_an_output_that_is_no_file_is_not_fresh(manifest: Manifest, make: Callable[[Path], None]) -> None:
    output = manifest.output / "segmentations" / "c1.nii.gz"
    output.unlink()
    make(output)
    assert in_time(lambda: manifest.fresh("fuse", "c1", MARK)) is None


def test_a_record_too_large_to_be_read_again_is_not_filed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covoxel.record.MAX_RECORD_BYTES", 200)
    with pytest.raises(ValueError, match="the record of c1 must have at most 200 bytes"):
        record_text(Record("fuse", "c1", "m", {}, {}, "code", {}, {"words": "x" * 200}))


def in_time(function: Callable[[], object], seconds: float = 20) -> object:
    """The result of a function, which must not wait forever."""
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it did not end"
    return found[0]
