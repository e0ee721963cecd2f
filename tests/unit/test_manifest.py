"""The manifest: what is done is known by content, and a folder has one writer."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from covoxel.manifest import FolderLock, FolderLockedError, Manifest, Record, code_sha256, fingerprint

INPUTS = {"image": "a" * 64}
SETTINGS = {"engine": "identity", "options": {"levels": 3}}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    output = tmp_path / "segmentations" / "c1.nii.gz"
    output.parent.mkdir()
    output.write_bytes(b"labels")
    manifest = Manifest(tmp_path)
    made = manifest.hash_outputs([output])
    mark = fingerprint(INPUTS, SETTINGS, "code")
    manifest.write(Record("fuse", "c1", mark, INPUTS, SETTINGS, "code", made, {"quality": 0.1 + 0.2}, 1.5, "cpu"))
    return manifest


def test_a_record_comes_back_as_it_was_written(manifest: Manifest) -> None:
    record = manifest.read("fuse", "c1")
    assert record is not None
    assert record.facts["quality"] == 0.1 + 0.2
    assert record.outputs.keys() == {"segmentations/c1.nii.gz"}
    assert manifest.cases("fuse") == ["c1"]
    (manifest.path("fuse", "c1").parent / ".tmp-1-2-3.json").write_text("{")
    assert manifest.cases("fuse") == ["c1"], "what is not written to its end is no record"


@pytest.mark.parametrize(
    ("inputs", "settings", "code"),
    [
        ({"image": "b" * 64}, SETTINGS, "code"),
        (INPUTS, {**SETTINGS, "engine": "affine"}, "code"),
        (INPUTS, {**SETTINGS, "options": {"levels": 4}}, "code"),
        (INPUTS, SETTINGS, "other code"),
        ({**INPUTS, "label": "c" * 64}, SETTINGS, "code"),
    ],
)
def test_another_input_setting_or_code_is_not_fresh(
    manifest: Manifest, inputs: dict[str, str], settings: dict[str, object], code: str
) -> None:
    assert manifest.fresh("fuse", "c1", fingerprint(INPUTS, SETTINGS, "code")) is not None
    assert manifest.fresh("fuse", "c1", fingerprint(inputs, settings, code)) is None


def test_a_changed_or_missing_output_is_not_fresh(manifest: Manifest) -> None:
    mark = fingerprint(INPUTS, SETTINGS, "code")
    output = manifest.output / "segmentations" / "c1.nii.gz"
    output.write_bytes(b"LABELS")
    assert manifest.fresh("fuse", "c1", mark) is None
    output.write_bytes(b"labels")
    assert manifest.fresh("fuse", "c1", mark) is not None
    output.unlink()
    assert manifest.fresh("fuse", "c1", mark) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', '{"format": 1, "stage": "fuse", "x": 0}'])
def test_a_damaged_record_is_as_none(manifest: Manifest, content: str) -> None:
    manifest.path("fuse", "c1").write_text(content)
    assert manifest.read("fuse", "c1") is None


def test_the_folder_may_move(manifest: Manifest, tmp_path: Path) -> None:
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert Manifest(moved).fresh("fuse", "c1", fingerprint(INPUTS, SETTINGS, "code")) is not None
    assert str(tmp_path) not in json.dumps(Manifest(moved).path("fuse", "c1").read_text())


def test_code_is_known_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_code_of_ours"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_sha256("some_code_of_ours")
    (package / "a.py").write_text("x = 2\n")
    code_sha256.cache_clear()
    changed = code_sha256("some_code_of_ours")
    (package / "a.py").rename(package / "b.py")
    code_sha256.cache_clear()
    assert len({before, changed, code_sha256("some_code_of_ours")}) == 3
    with pytest.raises(ValueError, match="no_such_module_of_ours"):
        code_sha256("no_such_module_of_ours")


HOLD = """
import sys, time
from pathlib import Path
from covoxel.manifest import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(FolderLockedError, match=f"in use by another run .process {holder.pid}"),
            FolderLock(tmp_path),
        ):
            pass
        assert FolderLock(tmp_path).holder() == str(holder.pid)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with FolderLock(tmp_path):
        assert FolderLock(tmp_path).holder() == str(os.getpid())
    assert FolderLock(tmp_path).holder() is None


def test_within_a_process_the_lock_nests(tmp_path: Path) -> None:
    with FolderLock(tmp_path):
        with FolderLock(tmp_path):
            pass
        assert FolderLock(tmp_path).holder() is not None
    assert FolderLock(tmp_path).holder() is None
