"""Only regular files are opened: whatever waits or never ends is refused before a byte is read."""

import os
import socket
from pathlib import Path

import pytest

from covoxel.io import open_regular, sha256_file


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _socket(folder: Path) -> Path:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.close()
    return folder / "socket"


def _link_to_device(folder: Path) -> Path:
    (folder / "zero").symlink_to("/dev/zero")
    return folder / "zero"


def _link_to_pipe(folder: Path) -> Path:
    (folder / "link").symlink_to(_pipe(folder))
    return folder / "link"


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (_pipe, "a pipe, a device or a socket"),
        (_link_to_pipe, "a pipe, a device or a socket"),
        (_socket, "a pipe, a device or a socket"),
        (_link_to_device, "a pipe, a device or a socket"),
        (lambda folder: folder, "a folder"),
    ],
)
def test_what_is_no_regular_file_is_neither_opened_nor_hashed(tmp_path: Path, make: object, kind: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    for call in (open_regular, sha256_file):
        with pytest.raises(OSError, match=f"it is {kind}"):
            call(path)


def test_a_file_and_a_link_to_it_have_one_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    assert sha256_file(tmp_path / "b") == sha256_file(tmp_path / "a")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf")
    with open_regular(tmp_path / "b") as file:
        assert file.read() == b"abc"
