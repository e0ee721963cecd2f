"""Which files of a folder tree are slices, and which look like slices and cannot be read."""

import os
import re
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from covoxel.io.dicom_header import NotDicomError, Slice, is_dicom, read_slice
from covoxel.io.formats import image_suffix
from covoxel.io.raw import ImageError
from covoxel.io.regular import open_regular

_SLICE_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_UNFINISHED = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".filepart", ".download", ".gz", ".bz2", ".xz")
_OTHERS = frozenset(
    (  # fmt: skip
        ".avi",
        ".bmp",
        ".bval",
        ".bvec",
        ".cfg",
        ".css",
        ".csv",
        ".doc",
        ".docx",
        ".exe",
        ".gif",
        ".htm",
        ".html",
        ".inf",
        ".ini",
        ".jpeg",
        ".jpg",
        ".js",
        ".json",
        ".log",
        ".md",
        ".md5",
        ".mp4",
        ".pdf",
        ".png",
        ".py",
        ".sh",
        ".sha1",
        ".sha256",
        ".tif",
        ".tiff",
        ".toml",
        ".tsv",
        ".txt",
        ".xls",
        ".xlsx",
        ".xml",
        ".yaml",
        ".yml",
    )
)
_TEXT_NAMES = re.compile(r"dicomdir|readme|licen[cs]e|version|changes|index|lockfile|notes|makefile|thumbs", re.I)
_CACHED = 200_000
_cache: dict[tuple[Path, int, int, int, int], Slice | None | ValueError] = {}


@dataclass(frozen=True)
class Content:
    """What lies directly in one folder.

    Parameters
    ----------
    folder
        The folder.
    slices
        Readable slices by name, of all series.
    broken
        Files that look like slices and cannot be read, each with a sentence.
    images
        Images of other formats.
    """

    folder: Path
    slices: tuple[Slice, ...]
    broken: tuple[tuple[Path, str], ...]
    images: tuple[Path, ...]


@dataclass(frozen=True)
class Tree:
    """A folder and all folders below, links to folders followed once; hidden names are left out.

    Parameters
    ----------
    contents
        One a folder, by path.
    closed
        Folders that cannot be opened and links to nowhere, each with a sentence.
    """

    contents: tuple[Content, ...]
    closed: tuple[tuple[Path, str], ...]


def read_tree(root: Path) -> Tree:
    """Read the headers of all DICOM files in a tree; each file is opened once, and again only after it changed.

    Raises
    ------
    ImageError
        If `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise ImageError(f"{root} is no folder; a DICOM series must be in one")
    closed: list[tuple[Path, str]] = []
    contents = [_content(folder, names) for folder, names in walk(root, closed)]
    readable = [content for content in contents if content.slices or content.broken or content.images]
    return Tree(tuple(sorted(readable, key=lambda content: content.folder)), tuple(closed))


def holds_dicom(root: Path) -> bool:
    """Whether a tree holds a DICOM file, or files with a suffix of DICOM and no other images; no header is read."""
    named, others = False, False
    for folder, names in walk(root, []):
        for name in names:
            suffix = _suffix(name)
            named = named or suffix in _SLICE_SUFFIXES
            others = others or image_suffix(name) not in ("", ".img")
            if suffix not in _OTHERS and name.upper() != "DICOMDIR" and is_dicom(folder / name):
                return True
    return named and not others


def walk(root: Path, closed: list[tuple[Path, str]]) -> Iterator[tuple[Path, list[str]]]:
    """Give the folders of a tree with the names of their files; what cannot be opened is added to `closed`."""
    seen: set[tuple[int, int]] = set()
    todo = deque([root])
    linked: deque[Path] = deque()  # after all others, so that a folder is met by its own name first
    while todo or linked:
        folder = todo.popleft() if todo else linked.popleft()
        try:
            known = folder.stat()
            if (known.st_dev, known.st_ino) in seen:
                continue
            seen.add((known.st_dev, known.st_ino))
            with os.scandir(folder) as entries:
                listed = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            closed.append((folder, f"{folder} cannot be opened: {error.strerror or error}"))
            continue
        todo.extend(folder / entry.name for entry in listed if entry.is_dir(follow_symlinks=False))
        linked.extend(folder / entry.name for entry in listed if entry.is_symlink() and _is_folder(entry))
        yield folder, [entry.name for entry in listed if not _is_folder(entry)]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _content(folder: Path, names: list[str]) -> Content:
    slices: list[Slice] = []
    broken: list[tuple[Path, str]] = []
    doubtful: list[tuple[Path, str]] = []
    images = {name: folder / name for name in names if image_suffix(name) not in ("", ".img")}
    for name in names:
        path = folder / name
        if name in images or _suffix(name) in _OTHERS or name.upper() == "DICOMDIR":
            continue
        try:
            item = _known(path)
        except ImageError as error:
            broken.append((path, str(error)))
        except NotDicomError as error:
            doubtful.append((path, f"{path} {error}"))
        except FileNotFoundError:
            doubtful.append((path, f"{path} is a link to a file that does not exist"))
        except OSError as error:
            doubtful.append((path, f"{path} cannot be read: {error.strerror or error}"))
        else:
            slices += [item] if item else []
    kinds = {_suffix(item.file.name) for item in slices}
    rule = "; it is named like a slice, and a slice must be a whole DICOM file"
    broken += [(path, reason + rule) for path, reason in doubtful if _looks_like_a_slice(path, kinds)]
    return Content(folder, tuple(slices), tuple(sorted(broken)), tuple(images.values()))


def _known(path: Path) -> Slice | None:
    """Header of a file, from memory while the file is the same."""
    stat = path.stat()
    key = (path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if key not in _cache:
        if len(_cache) >= _CACHED:
            _cache.clear()
        try:
            _cache[key] = read_slice(path)
        except ValueError as error:  # ImageError, NotDicomError
            _cache[key] = error.with_traceback(None)
    known = _cache[key]
    if isinstance(known, ValueError):
        raise known
    return known


def _suffix(name: str) -> str:
    """Suffix in lower case; "" for names such as `IM0001` and `MR.1.2.840.7`."""
    suffix = Path(name).suffix.lower()
    return "" if suffix[1:].isdigit() else suffix


def _looks_like_a_slice(path: Path, kinds: Collection[str]) -> bool:
    """Whether a file that is no DICOM file could be a damaged slice of this folder, by its name and its first bytes."""
    name, suffix = path.name, _suffix(path.name)
    if suffix in _UNFINISHED:
        inner = name[: -len(suffix)]
        return _suffix(inner) in _SLICE_SUFFIXES or (_suffix(inner) in kinds and _suffix(inner) != "")
    if suffix in _SLICE_SUFFIXES or (suffix and suffix in kinds):
        return True
    if suffix or _TEXT_NAMES.match(name):
        return False
    alone = not kinds and any(letter.isdigit() for letter in name)
    return ("" in kinds or alone) and not _is_text(path)


def _is_text(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            start = file.read(512)
    except OSError:
        return False
    return bool(start) and all(byte >= 32 or byte in b"\t\r\n\f" for byte in start)
