"""Every entry of a folder is an image, a folder, ignored on purpose, or excluded with a reason."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from data_catalog.listing import Account, list_folder, unusable, walk

Scan = Callable[..., Path]


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _content(path: Path) -> None:
    path.write_bytes(b"x")


WRONG: list[tuple[str, Callable[[Path], None], str]] = [
    ("a.nii.gz", _link("../.git/annex/objects/x"), "the link leads to ../.git/annex/objects/x, which does not exist"),
    ("a.NII", _link("gone"), "the link leads to gone, which does not exist; fetch its content or remove the link"),
    ("a.mgz", _loop, "the link leads back to itself"),
    ("a.nii", _pipe, "it is a named pipe; an image must be a regular file"),
    ("a.nrrd", _socket, "it is a socket; an image must be a regular file"),
    ("a.mha", _link("/dev/zero"), "it is a device; an image must be a regular file"),
    ("a.nii.gz", Path.touch, "the file is empty (0 bytes)"),
    ("a.nii.gz", Path.mkdir, "it is a folder, not a file"),
    ("a.img", _content, "the pair has no a.hdr beside it"),
    ("a.HDR", _content, "the pair has no a.img beside it"),
    ("a.nhdr", _content, "the format .nhdr is not read; convert the image to one of .nii.gz, .nii"),
    ("a.MNC", _content, "the format .mnc is not read"),
]


@pytest.mark.parametrize(("name", "make", "reason"), WRONG)
def test_an_entry_that_cannot_be_an_image_has_a_reason(
    tmp_path: Path, name: str, make: Callable[[Path], None], reason: str
) -> None:
    make(tmp_path / name)
    listing = list_folder(tmp_path)
    ((path, found),) = listing.unusable
    assert path == tmp_path / name
    assert found.startswith(reason)
    assert not listing.images
    assert listing.candidates == [path]
    assert unusable(tmp_path / name).startswith(reason.split(";")[0])


def test_images_in_all_formats_and_letter_cases_are_listed_by_name(tmp_path: Path) -> None:
    names = ["B.NII.GZ", "a.nii", "c.Nii.Gz", "d.mgz", "e.MHA", "f.nrrd", "g.hdr", "h.HDR"]
    for name in (*names, "g.img", "h.IMG", "notes.txt", "._a.nii", ".hidden.nii.gz", "image", "a.nii.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "link").symlink_to("sub")
    (tmp_path / "elsewhere").symlink_to("nowhere")
    listing = list_folder(tmp_path)
    assert [path.name for path in listing.images] == names
    assert [path.name for path in listing.folders] == ["link", "sub"]
    assert [path.name for path, _ in listing.lost] == ["elsewhere"]
    assert (listing.unusable, listing.hidden, listing.error) == ((), 2, "")


def test_a_folder_that_is_closed_or_lost_is_an_error_and_an_absent_one_is_not(
    tmp_path: Path, close: Callable[[Path], None]
) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "lost").symlink_to("nowhere")
    close(tmp_path / "closed")
    assert list_folder(tmp_path / "closed").error == "the folder cannot be read: Permission denied"
    assert list_folder(tmp_path / "lost").error.startswith("the link leads to nowhere, which does not exist")
    assert list_folder(tmp_path / "absent").error == ""


def test_a_walk_lists_each_folder_once_whatever_the_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "up").symlink_to("../..")
    (tmp_path / "a" / "again").symlink_to("b")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "root").symlink_to("/")
    found = [folder.relative_to(tmp_path).as_posix() for folder, _ in walk(tmp_path, shallow=lambda path: False)]
    assert found == [".", "a", "a/b"]


def test_links_are_not_followed_beyond_what_lies_directly_behind_them(tmp_path: Path, scan: Scan) -> None:
    scan(tmp_path / "archive" / "a.nii")
    scan(tmp_path / "archive" / "deep" / "b.nii")
    (tmp_path / "cohort").mkdir()
    (tmp_path / "cohort" / "link").symlink_to(tmp_path / "archive")
    assert [folder.name for folder, _ in walk(tmp_path / "cohort")] == ["cohort", "link"]


def test_what_no_reader_has_listed_is_excluded_folder_by_folder(tmp_path: Path, scan: Scan) -> None:
    for name in ("images/a", "images/sub/b", "more/c", "more/d", "more/e", "more/f", "truth/a", "known/z"):
        scan(tmp_path / f"{name}.nii.gz")
    (tmp_path / "more" / "g.nii").symlink_to("nowhere")
    account = Account(tmp_path)
    assert [path.name for path in account.images(tmp_path / "images")] == ["a.nii.gz"]
    account.rest("they must lie in images/", skip=[tmp_path / "known"], ignored=[tmp_path / "truth", tmp_path / "raw"])
    assert {item.id: item.reason for item in account.rejected} == {
        "images/sub": "images/sub: the folder holds 1 image that is not read (images/sub/b.nii.gz); "
        "they must lie in images/",
        "more": "more: the folder holds 5 images that are not read (more/c.nii.gz, more/d.nii.gz, more/e.nii.gz, …); "
        "they must lie in images/",
    }
    assert dict(account.ignored) == {"folder truth": 1}
