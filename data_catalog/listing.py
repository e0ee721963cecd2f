"""List the folders of a cohort: every entry is an image, a folder, ignored on purpose, or excluded with a reason."""

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from covoxel.io.formats import READ_SUFFIXES, image_stem, image_suffix
from data_catalog.schema import Rejected

SHOWN = 3
"""Names of files that a sentence about a folder gives at most."""


@dataclass(frozen=True)
class Listing:
    """Entries of one folder; those that no cohort is made of (texts, pictures …) are left out.

    Parameters
    ----------
    images
        Files that can be read by their names, and are neither empty nor links to nowhere; by name.
    folders
        Subfolders, links to folders among them; by name.
    unusable
        Entries named like an image, and why they cannot be one.
    lost
        Entries without a suffix that are neither file nor folder, and why: links to folders that are not there.
    hidden
        Number of images whose name begins with a dot.
    error
        Why the folder cannot be listed; "" if it can, or if there is none.
    """

    images: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    unusable: tuple[tuple[Path, str], ...] = ()
    lost: tuple[tuple[Path, str], ...] = ()
    hidden: int = 0
    error: str = ""

    @property
    def candidates(self) -> list[Path]:
        """All entries named like an image, sound or not, by name."""
        return sorted([*self.images, *(path for path, _ in self.unusable)])


def list_folder(folder: Path) -> Listing:
    """What lies directly in `folder`; never raises, and reads no more than the folder and the state of its images."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        return Listing(error=_closed(folder, error))
    names = {entry.name.lower() for entry in found}
    images: list[Path] = []
    folders: list[Path] = []
    unusable: list[tuple[Path, str]] = []
    lost: list[tuple[Path, str]] = []
    for entry in (entry for entry in found if not entry.name.startswith(".")):
        path, suffix = folder / entry.name, image_suffix(entry.name)
        reason = _reason(entry, suffix, names)
        if reason is None:
            folders.append(path)
        elif not suffix:
            lost += [(path, reason)] if reason and not path.suffix else []
        elif not reason:
            images.append(path)
        elif reason != _SECOND_HALF:
            unusable.append((path, reason))
    hidden = sum(1 for entry in found if entry.name.startswith(".") and image_suffix(entry.name))
    return Listing(tuple(images), tuple(folders), tuple(unusable), tuple(lost), hidden)


def _listed(names: Collection[str], name: str, suffix: str) -> bool:
    """Whether a file of the same name with another suffix is among `names`, which are in lower case."""
    return f"{image_stem(name)}{suffix}".lower() in names


def holds_images(folder: Path) -> bool:
    """Whether an entry named like an image, not hidden, lies directly in `folder`; stops at the first; never raises."""
    try:
        with os.scandir(folder) as entries:
            return any(image_suffix(entry.name) and not entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file; False if that cannot be found out."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False if that cannot be found out."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def unusable(path: Path, *, folder: bool = False) -> str:
    """Why the file `path` (or, if `folder`, the file or folder) cannot be an image, or "" if nothing speaks against it.

    The file is not opened.
    """
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        return _broken(path, error)
    if stat.S_ISDIR(state.st_mode):
        return "" if folder else "it is a folder, not a file"
    reason = _state_reason(state)
    if reason:
        return reason
    suffix = image_suffix(path.name)
    return _format_reason(path.name, suffix, partial(_has, path)) if suffix else ""


def _has(path: Path, suffix: str) -> bool:
    """Whether a file of the same name with another suffix lies beside one."""
    return any((path.parent / (image_stem(path) + each)).exists() for each in (suffix, suffix.upper()))


_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SECOND_HALF = "the second half of a pair"


def _closed(folder: Path, error: OSError) -> str:
    """Why a folder cannot be listed; "" for one that is not there."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _broken(folder, error) if folder.is_symlink() else ""
    return f"the folder cannot be read: {_why(error)}"


def _reason(entry: os.DirEntry[str], suffix: str, names: Collection[str]) -> str | None:
    """None for a folder, "" for a file that may be used, otherwise why not; only what may matter is looked at."""
    try:
        if not suffix and not entry.is_symlink():
            return None if entry.is_dir() else ""
        state = entry.stat()
    except OSError as error:
        return _broken(Path(entry.path), error)
    if not stat.S_ISDIR(state.st_mode):
        has = partial(_listed, names, entry.name)
        return _state_reason(state) or (_format_reason(entry.name, suffix, has) if suffix else "")
    return "it is a folder, not a file; the image must lie beside the others" if suffix else None


def _state_reason(state: os.stat_result) -> str:
    if not stat.S_ISREG(state.st_mode):
        kind = _KINDS.get(stat.S_IFMT(state.st_mode), "no file")
        return f"it is {kind}; an image must be a regular file"
    return "" if state.st_size else "the file is empty (0 bytes)"


def _broken(path: Path, error: OSError | ValueError) -> str:
    """Why the state of an entry cannot be read."""
    if not isinstance(error, OSError):
        return "the name cannot be that of a file"
    if error.errno == errno.ELOOP:
        return "the link leads back to itself"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        try:
            target = path.readlink()
        except OSError:
            return "the file does not exist"
        return f"the link leads to {target}, which does not exist; fetch its content or remove the link"
    return f"it cannot be read: {_why(error)}"


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _format_reason(name: str, suffix: str, has: Callable[[str], bool]) -> str:
    """Why a file of this format cannot be read; `has` answers whether it lies there with another suffix too."""
    if suffix == ".img" and has(".hdr"):
        return _SECOND_HALF
    other = {".hdr": ".img", ".img": ".hdr"}.get(suffix)
    if other is not None:
        return "" if has(other) else f"the pair has no {image_stem(name)}{other} beside it"
    if suffix in READ_SUFFIXES:
        return ""
    return f"the format {suffix} is not read; convert the image to one of {', '.join(READ_SUFFIXES)}"


class Account:
    """What became of the entries of a cohort's folder while a reader goes through it.

    Parameters
    ----------
    root
        Folder of the cohort, or its table.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rejected: list[Rejected] = []
        self.ignored: Counter[str] = Counter()
        self._seen: dict[Path, Listing] = {}

    def shown(self, path: Path) -> str:
        """`path` as seen from the cohort's folder, for messages."""
        return relative(path, self.root)

    def exclude(self, name: str, path: Path, reason: str, *, of_case: str = "") -> None:
        """Note that an entry is no case; `of_case` is the case whose label map it would have been."""
        self.rejected.append(Rejected(name, path, f"{self.shown(path)}: {reason}", of_case))

    def ignore(self, kind: str, count: int = 1) -> None:
        """Note entries that are left out on purpose."""
        if count:
            self.ignored[kind] += count

    def listing(self, folder: Path) -> Listing:
        """What lies in a folder; what is wrong with the folder itself is noted the first time."""
        if folder not in self._seen:
            listing = self._seen[folder] = list_folder(folder)
            self.ignore("hidden files", listing.hidden)
            if listing.error:
                self.exclude(self.shown(folder), folder, listing.error)
        return self._seen[folder]

    def images(self, folder: Path, name_of: Callable[[Path], str] = image_stem) -> list[Path]:
        """Usable images of a folder; the others are excluded under the name that `name_of` gives them."""
        listing = self.listing(folder)
        for path, reason in listing.unusable:
            self.exclude(name_of(path), path, reason)
        return list(listing.images)

    def labels(self, folder: Path) -> list[Path]:
        """Usable label maps of a folder; the others are excluded, with the case that each would belong to."""
        listing = self.listing(folder)
        for path, reason in listing.unusable:
            self.exclude(without_suffix(self.shown(path)), path, reason, of_case=image_stem(path))
        return list(listing.images)

    def rest(self, rule: str, *, skip: Collection[Path] = (), ignored: Collection[Path] = ()) -> None:
        """Exclude, folder by folder, the images of the cohort's folder that no reader has listed.

        Parameters
        ----------
        rule
            End of the sentence: where images must lie.
        skip
            Folders that have been accounted for, with all in them.
        ignored
            Folders that are left out on purpose, with all in them.
        """
        stops = {*skip, *ignored}
        for folder, listing in walk(self.root, stops.__contains__, self._known, self._is_foreign):
            if folder not in self._seen:
                self.exclude_folder(folder, listing, rule)
        for folder in ignored:
            self.ignore(f"folder {self.shown(folder)}", int(is_folder(folder)))

    def _known(self, folder: Path) -> Listing:
        return self._seen.get(folder) or list_folder(folder)

    def _is_foreign(self, folder: Path) -> bool:
        """Whether a folder is a link that no reader has followed."""
        return folder not in self._seen and folder.is_symlink()

    def exclude_folder(self, folder: Path, listing: Listing, rule: str) -> None:
        """Exclude the images that lie directly in a folder, in one sentence that ends with `rule`."""
        shown = self.shown(folder)
        if listing.error:
            self.exclude(shown, folder, listing.error)
        files = listing.candidates
        if files:
            names = ", ".join(self.shown(file) for file in files[:SHOWN]) + (", …" if len(files) > SHOWN else "")
            count = "1 image that is" if len(files) == 1 else f"{len(files)} images that are"
            self.exclude(shown, folder, f"the folder holds {count} not read ({names}); {rule}")


def walk(
    root: Path,
    stop: Callable[[Path], bool] = lambda path: False,
    look: Callable[[Path], Listing] = list_folder,
    shallow: Callable[[Path], bool] = Path.is_symlink,
) -> Iterator[tuple[Path, Listing]]:
    """Folders below `root` and `root` itself, each once and with what lies in it, by name.

    Parameters
    ----------
    root
        Where to begin.
    stop
        Whether a folder is left out, with all in it. Hidden folders always are, and links to folders that hold `root`.
    look
        Lists a folder.
    shallow
        Whether the subfolders of a folder are left out: by default of links, which may lead to whole archives.
    """
    visited = _ancestors(root)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        listing = look(folder)
        yield folder, listing
        for subfolder in () if folder != root and shallow(folder) else reversed(listing.folders):
            identity = _identity(subfolder)
            if identity not in visited and not stop(subfolder):
                visited.add(identity)
                waiting.append(subfolder)


def _ancestors(root: Path) -> set[object]:
    """Identities of `root` and of all folders that hold it."""
    whole = Path(os.path.realpath(root))
    return {_identity(path) for path in (whole, *whole.parents)}


def _identity(folder: Path) -> object:
    try:
        state = folder.stat()
    except OSError:
        return folder
    return state.st_dev, state.st_ino


def relative(path: Path, root: Path) -> str:
    """`path` as seen from the cohort's folder (or its table's), for messages."""
    folder = root if is_folder(root) else root.parent
    shown = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
    return path.resolve().name if shown == "." else shown


def without_suffix(shown: str) -> str:
    """A path as shown in messages, without the suffix of an image."""
    return shown[: len(shown) - len(image_suffix(shown))] if image_suffix(shown) else shown


def several(names: Iterable[str]) -> str:
    """Names in a sentence: "a, b and c"."""
    listed = list(names)
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
