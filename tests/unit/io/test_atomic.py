"""A file appears whole or not at all, whatever happens to its writer."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from covoxel.io import atomic, atomic_path, sha256_file, sha256_json, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_is_there_with_what_was_written_and_nothing_else_is(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "x.bin", b"\0\1")
    write_text(tmp_path / "a" / "b" / "y.txt", "grün\n")
    assert (tmp_path / "a/b/x.bin").read_bytes() == b"\0\1"
    assert (tmp_path / "a/b/y.txt").read_bytes() == "grün\n".encode()
    assert names(tmp_path / "a/b") == ["x.bin", "y.txt"]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("x.nii.gz", ".nii.gz"), ("sub-1.5_T1w.nii.gz", ".nii.gz"), ("a.b.h5", ".h5"), ("plain", "")],
)
def test_the_temporary_name_keeps_the_suffixes_and_the_folder(tmp_path: Path, name: str, suffix: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".tmp-")
        assert "".join(temporary.suffixes) == suffix
        temporary.write_bytes(b"1")
    assert names(tmp_path) == [name]


def test_the_longest_name_a_disk_allows_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 248 + ".nii.gz"), "1")
    assert len(names(tmp_path)[0]) == 255


def test_who_reads_the_old_file_meanwhile_reads_all_of_it(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "old")
    with (tmp_path / "x").open() as reader:
        write_text(tmp_path / "x", "new and longer")
        assert reader.read() == "old"
    assert (tmp_path / "x").read_text() == "new and longer"


@pytest.mark.parametrize("target", ["precious", "nowhere"])
def test_a_link_is_replaced_and_never_written_through(tmp_path: Path, target: str) -> None:
    (tmp_path / "precious").write_text("old")
    (tmp_path / "x").symlink_to(tmp_path / target)
    write_text(tmp_path / "x", "new")
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").read_text() == "new"
    assert (tmp_path / "precious").read_text() == "old"
    assert not (tmp_path / "nowhere").exists()


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "output").symlink_to(tmp_path / "disk")
    write_text(tmp_path / "output" / "sub" / "x", "new")
    assert (tmp_path / "disk" / "sub" / "x").read_text() == "new"


@pytest.mark.parametrize("failure", [RuntimeError("no"), KeyboardInterrupt()])
def test_a_failed_writer_leaves_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    write_text(tmp_path / "x", "old")
    with pytest.raises(type(failure)), atomic_path(tmp_path / "x") as temporary:  # noqa: PT012
        temporary.write_text("ne")
        raise failure
    assert (tmp_path / "x").read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write_text(tmp_path / "x.bin", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="x.bin") as caught:
            write_bytes(tmp_path / "x.bin", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_text() == "old"
    assert names(tmp_path) == ["x.bin"]


def test_no_room_keeps_its_kind(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_path(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "x"))


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OSError, match="out"):
        write_text(tmp_path / "out" / "x", "1")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError) as caught:
            write_text(tmp_path / "x.tsv", "1")
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.filename == str(tmp_path / "x.tsv")


def test_the_error_of_another_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_path(tmp_path / "x"):
        (tmp_path / "input").read_bytes()
    assert caught.value.filename == str(tmp_path / "input")


WRITER = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("atomic", sys.argv[2])  # alone: covoxel.io takes seconds to import
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
with atomic.atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.nii.gz"
    target.write_text("old")
    (tmp_path / ".tmp-elsewhere-1-0.nii.gz").write_text("of a writer on another machine")
    (tmp_path / ".tmp-elsewhere-2-0.nii.gz").write_text("the same, days ago")
    os.utime(tmp_path / ".tmp-elsewhere-2-0.nii.gz", (time.time() - 3e5,) * 2)
    command = [sys.executable, "-c", WRITER, str(target), str(atomic.__file__)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        write_text(tmp_path / "other", "1")
        during = names(tmp_path)
        writer.send_signal(signal.SIGKILL)
    assert len(during) == 4, "a living writer keeps its temporary file"
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 4
    monkeypatch.setattr(atomic, "_cleaned", set())  # as in a new process
    write_text(target, "new")
    assert target.read_text() == "new"
    assert names(tmp_path) == [".tmp-elsewhere-1-0.nii.gz", "other", "x.nii.gz"]


def test_equal_objects_give_equal_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": (1, Path("p")), "a": np.float64(0.5), "c": np.arange(2)})
    write_json(tmp_path / "b.json", {"c": [0, 1], "a": 0.5, "b": [1, "p"]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sha256_json({"b": 1, "a": [1, 2]}) == sha256_json({"a": (1, 2), "b": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
def test_what_json_cannot_say_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": value})
    assert not (tmp_path / "a.json").exists()


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json("abc") == "6cc43f858fbb763301637b5af970e2a46b46f461f27e5a0f41e009c59b827b25"


def test_a_temporary_folder_goes_with_its_block_and_that_of_a_killed_process_later(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom covoxel.io.atomic import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'x').write_text('1')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(names(tmp_path)) == 1
    with atomic.temporary_folder(tmp_path) as folder:
        (folder / "y").write_text("2")
        assert names(tmp_path) == [folder.name]
    assert names(tmp_path) == []


def test_what_is_being_written_can_be_discarded_and_what_is_written_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "done", "1")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "half") as temporary:  # noqa: PT012
        temporary.write_text("1")
        with atomic.temporary_folder(tmp_path) as folder:
            (folder / "x").write_text("1")
            atomic.discard_unfinished()
            assert names(tmp_path) == ["done"]
    assert names(tmp_path) == ["done"]
