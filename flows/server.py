"""A private Prefect server for one run without a server: loopback, silent, and it dies with this process."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from covoxel import processes
from flows import interrupt
from flows.environment import NO_PAGE, server_settings
from flows.proxies import opener_for
from flows.secret import CLIENT, basic_header, close_folder, draw_secret, proves
from flows.state import state_folder

STARTUP_SECONDS = 180.0
NAMED_SECONDS = 10.0
_COMMAND = [sys.executable, "-m", "flows.serve"]


class ServerError(RuntimeError):
    """No Prefect server could be started or reached."""


@contextlib.contextmanager
def prefect_server() -> Iterator[Callable[[], None]]:
    """Use the server of `PREFECT_API_URL`, or else a private one that ends with the block.

    The server is started at once, so that other work goes on meanwhile; call what the block is given to wait until it
    answers, which raises `ServerError` if it does not. When the private server dies in the block, the process ends.
    """
    named = os.environ.get("PREFECT_API_URL")
    if named:
        yield lambda: wait_for_server(named, NAMED_SECONDS)
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    secret = draw_secret()
    slot = _free_slot()
    child = _start(port, slot, secret)
    over = threading.Event()
    ours = {"PREFECT_API_URL": url, CLIENT: secret, NO_PAGE: "1", "PREFECT_LOGGING_TO_API_ENABLED": "false"}
    before = {name: os.environ[name] for name in ours if name in os.environ}
    os.environ.update(ours)
    _read_settings_anew()

    def ready() -> None:
        wait_for_server(url, STARTUP_SECONDS, child, secret)
        threading.Thread(target=_leave_without, args=(child, over), daemon=True).start()

    try:
        yield ready
    finally:
        over.set()
        processes.end(child)
        slot.release()
        for name in ours:
            os.environ.pop(name, None)
        os.environ.update(before)
        _read_settings_anew()


def _read_settings_anew() -> None:
    """Let Prefect know what the environment says now: if it was imported before, its own threads would not see it."""
    context = sys.modules.get("prefect.context")
    if context is not None:
        context.refresh_global_settings_context()


def _leave_without(child: subprocess.Popen[bytes], over: threading.Event) -> None:
    """End this process when the server dies before its time: Prefect would ask it again for minutes."""
    status = child.wait()
    if not over.is_set() and interrupt.is_listening():
        ended = processes.how_it_ended(status)
        interrupt.leave(f"error: the private Prefect server {ended}; {interrupt.GO_ON}")


def wait_for_server(
    url: str, seconds: float, child: subprocess.Popen[bytes] | None = None, secret: str | None = None
) -> None:
    """Wait until a server answers at an API address.

    With a `secret`, the server has to prove that it was given it: another program at that port is not taken for it.

    Raises
    ------
    ServerError
        If it does not within `seconds`, or `child`, which should become it, has ended; or if it asks for a secret that
        `PREFECT_API_AUTH_STRING` does not hold.
    """
    end = time.monotonic() + seconds
    while not (is_healthy(url) if secret is None else proves(url, secret)):
        if child is not None and child.poll() is not None:
            ended = processes.how_it_ended(child.returncode)
            raise ServerError(f"the private Prefect server {ended}; its log is in {state_folder()}")
        if time.monotonic() > end:
            raise ServerError(f"no Prefect server answers at PREFECT_API_URL={url}; start it or unset the variable")
        time.sleep(0.1)


def is_healthy(api_url: str) -> bool:
    """Whether a Prefect server answers at an API address, and to us.

    Raises
    ------
    ServerError
        If it asks for a secret that `PREFECT_API_AUTH_STRING` does not hold.
    """
    if _status(api_url, "admin/version") in (401, 403):
        raise ServerError(
            f"the Prefect server at PREFECT_API_URL={api_url} refuses what PREFECT_API_AUTH_STRING holds; set it to "
            f"its secret, which for the one of `python -m flows deploy` is in {state_folder() / 'secret'}"
        )
    return _status(api_url, "health") == 200


def _status(api_url: str, path: str) -> int:
    """Status of an answer of an API; 0 without any. A secret is shown to this address, and not where it redirects."""
    try:
        question = urllib.request.Request(f"{api_url.rstrip('/')}/{path}")
        if secret := os.environ.get(CLIENT):
            question.add_unredirected_header("Authorization", basic_header(secret))
        with opener_for(api_url).open(question, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return 0


def free_port() -> int:
    """A port of the loopback address that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free_slot() -> FileLock:
    """The lock of the first database that no other run holds: two servers on one SQLite file block each other.

    A database stays for later runs, as it takes longer to make than to open. The lock of a run that was killed is free.
    """
    folder = close_folder(state_folder())
    return next(filter(_takes, (FileLock(folder / f"private-{number}.lock") for number in count(1))))


def _takes(lock: FileLock) -> bool:
    """Whether a lock was free; this process holds it now."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _start(port: int, slot: FileLock, secret: str) -> subprocess.Popen[bytes]:
    database = Path(slot.lock_file).with_suffix(".db")
    command = [*_COMMAND, "--port", str(port)]
    environment = {**os.environ, **server_settings(f"http://127.0.0.1:{port}/api", secret)}
    environment |= {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
    environment["PREFECT__SERVER_FINAL"] = "1"
    environment["PREFECT_API_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{database}"
    log = database.with_suffix(".log")
    log.unlink(missing_ok=True)
    return processes.start(command, log, environment)
