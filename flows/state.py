"""The folder of Prefect's state: the owner's alone, and one that can be written, whatever the home folder is."""

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

HINT = "set PREFECT_HOME or XDG_STATE_HOME to a folder that can be written"
_OWN = 0o700


class StateFolderError(RuntimeError):
    """No folder can be written for Prefect's state; the message names the variables that help."""


def state_folder() -> Path:
    """Folder of Prefect's state, made if missing, for its owner alone.

    It is `$PREFECT_HOME`, else `$XDG_STATE_HOME/covoxel/prefect`, else `~/.local/state/covoxel/prefect`; where there is
    no home folder that can be written, `covoxel-UID/prefect` in the folder of temporary files.

    Raises
    ------
    StateFolderError
        If a variable names a folder that cannot be written, or the one of temporary files is not ours.
    """
    named = os.environ.get("PREFECT_HOME")
    if named:
        folder = Path(named)
        with suppress(RuntimeError):  # nobody knows the home of a ~
            folder = folder.expanduser()
        return _written(folder.absolute(), "PREFECT_HOME", _make)
    base = os.environ.get("XDG_STATE_HOME")
    if base and Path(base).is_absolute():
        return _written(Path(base) / "covoxel" / "prefect", "XDG_STATE_HOME", _make_ours)
    home = home_folder()
    if home is not None:
        with suppress(OSError):
            return _make_ours(home / ".local" / "state" / "covoxel" / "prefect")
    temporary = Path(tempfile.gettempdir()).absolute() / f"covoxel-{os.getuid()}" / "prefect"
    return _written(temporary, "TMPDIR", _make_guarded)


def home_folder() -> Path | None:
    """The user's home, if the machine knows one and it is a folder."""
    try:
        home = Path.home()
    except (RuntimeError, KeyError):
        return None
    unnamed = os.environ.get("HOME") == ""  # Python takes the root folder for it
    return home if home.is_absolute() and home.is_dir() and not unnamed else None


def can_write(folder: Path) -> bool:
    """Whether a file can be made in a folder that is there; tried, since root may do what modes forbid."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _written(folder: Path, variable: str, make: Callable[[Path], Path]) -> Path:
    try:
        return make(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateFolderError(
            f"Prefect's state cannot be kept in {folder}, which comes of {variable}: {reason}; {HINT}"
        ) from None


def _make(folder: Path) -> Path:
    folder.mkdir(_OWN, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _make_ours(folder: Path) -> Path:
    """Make a folder within one that bears our name; both are closed to others, also if an older version made them."""
    for part in (folder.parent, folder):
        part.mkdir(_OWN, parents=True, exist_ok=True)
        if stat.S_IMODE(part.stat().st_mode) != _OWN and part.stat().st_uid == os.getuid():
            part.chmod(_OWN)
    return _make(folder)


def _make_guarded(folder: Path) -> Path:
    """The same where others may write: what they made before us is not used."""
    with suppress(FileExistsError):
        folder.parent.mkdir(_OWN)
    facts = folder.parent.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o022:
        raise PermissionError(13, f"{folder.parent} was made by somebody else")
    return _make_ours(folder)
