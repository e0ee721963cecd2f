"""The secret of a Prefect server that we start: a file for its owner alone, and a proof that never sends it."""

import hashlib
import hmac
import http.client
import os
import secrets
import stat
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

PROOF_PATH = "/covoxel-proof/"
CLIENT, SERVER = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
"""Variables by which Prefect's clients and its server read the secret."""
_USER = "covoxel"
_OWN_FOLDER, _OWN_FILE, _OF_OTHERS = 0o700, 0o600, 0o077
_SECONDS = 5.0


class SecretError(RuntimeError):
    """A folder or file that must be ours alone is somebody else's, or others may use it."""


def draw_secret() -> str:
    """A new secret of 256 random bits, as `user:password`, the form in which Prefect expects it."""
    return f"{_USER}:{secrets.token_urlsafe(32)}"


def basic_header(secret: str) -> str:
    """Value of the header `Authorization` that shows a secret.

    Examples
    --------
    >>> basic_header("covoxel:x")
    'Basic Y292b3hlbDp4'
    """
    return f"Basic {b64encode(secret.encode()).decode()}"


def close_folder(folder: Path) -> Path:
    """Make a folder if it is missing, and close it and the files in it to everybody but its owner; the folder.

    Raises
    ------
    SecretError
        If it is another user's, or no folder.
    """
    with suppress(FileExistsError):
        folder.mkdir(_OWN_FOLDER, parents=True)
    with _Descriptor(folder.resolve(), os.O_RDONLY | os.O_DIRECTORY) as handle:
        facts = os.fstat(handle.number)
        if facts.st_uid != os.geteuid():
            raise SecretError(f"{folder} belongs to user {facts.st_uid}; set PREFECT_HOME to a folder of your own")
        if stat.S_IMODE(facts.st_mode) != _OWN_FOLDER:
            os.fchmod(handle.number, _OWN_FOLDER)
    for path in folder.iterdir():
        facts = path.lstat()
        if stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid() and facts.st_mode & _OF_OTHERS:
            path.chmod(stat.S_IMODE(facts.st_mode) & ~_OF_OTHERS)
    return folder


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all, whatever the umask is."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with _Descriptor(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as handle:
            os.fchmod(handle.number, _OWN_FILE)
            os.write(handle.number, text.encode())
            os.fsync(handle.number)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_private(path: Path) -> int:
    """Descriptor of a file to append to that only its owner can read; one that others could read is narrowed.

    Raises
    ------
    SecretError
        If it is another user's, a link, or no regular file.
    """
    handle = _Descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK)
    try:
        _require_own(path, handle.number)
        os.fchmod(handle.number, _OWN_FILE)
    except BaseException:
        os.close(handle.number)
        raise
    return handle.number


def read_private(path: Path) -> str:
    """Text of a file that is ours; empty if there is none.

    Raises
    ------
    SecretError
        If it is another user's, a link, or no regular file, or if others can read it.
    """
    try:
        handle = _Descriptor(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    with handle:
        if _require_own(path, handle.number) & _OF_OTHERS:
            raise SecretError(f"other users can read {path}; delete it, and run `python -m flows deploy` again")
        with open(handle.number, encoding="utf-8", closefd=False) as file:  # noqa: PTH123 - a descriptor, no path
            return file.read().strip()


def proof(secret: str, port: int, nonce: str) -> str:
    """What the server on a port answers to show that it has the secret; a new one for each nonce."""
    return hmac.new(secret.encode(), f"covoxel server {port} {nonce}".encode(), hashlib.sha256).hexdigest()


def proves(url: str, secret: str) -> bool:
    """Whether the server at an API address is the one that was given this secret, which is not sent to it."""
    place, nonce = urlsplit(url), secrets.token_hex(16)
    if not place.hostname or not place.port:
        return False
    line = http.client.HTTPConnection(place.hostname, place.port, timeout=_SECONDS)  # never through a proxy
    with suppress(OSError, http.client.HTTPException):
        line.request("GET", PROOF_PATH + nonce)
        answer = line.getresponse()
        shown = answer.read(64)
        line.close()
        return answer.status == 200 and hmac.compare_digest(shown, proof(secret, place.port, nonce).encode())
    line.close()
    return False


class _Descriptor:
    """A descriptor of a path, which is not followed if it is a link; closed with the block."""

    def __init__(self, path: Path, flags: int) -> None:
        try:
            self.number = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _OWN_FILE)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SecretError(f"{path} cannot be used: {error.strerror}") from None

    def __enter__(self) -> "_Descriptor":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)


def _require_own(path: Path, number: int) -> int:
    """Mode of a file that must be regular and ours."""
    facts = os.fstat(number)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        raise SecretError(f"{path} is not a file of yours; delete it")
    return stat.S_IMODE(facts.st_mode)
