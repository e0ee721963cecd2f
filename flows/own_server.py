"""The server of `deploy`: started with a secret of its own, recognised by it, and never mistaken for another's."""

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.daemons import Daemon
from flows.environment import child_environment, server_settings
from flows.secret import CLIENT, draw_secret, proves, read_private, write_private
from flows.serve import listen
from flows.server import STARTUP_SECONDS, ServerError
from flows.state import state_folder

PORT = 4200
_PORTS_TRIED = 50
_PROGRAM = (sys.executable, "-m", "flows.serve")
_SAY_SECONDS = 10.0


@dataclass(frozen=True)
class OwnServer:
    """A server of ours that runs.

    Attributes
    ----------
    url
        Address of its API.
    secret
        What it asks of every request.
    started
        Whether this call started it.
    """

    url: str
    secret: str
    started: bool


def daemon(name: str) -> Daemon:
    """The program of `deploy` with a name: `server` or `worker`."""
    return Daemon(name, state_folder())


def secret_file() -> Path:
    """File with the secret of the server that runs now."""
    return state_folder() / "secret"


def own_server(say: Callable[[str], None], port: int | None = None) -> OwnServer:
    """The server of ours, started if it does not run or cannot show that it is ours.

    Parameters
    ----------
    say
        Is given lines for the terminal.
    port
        Where it listens; without it at 4200, or the next port that is free.

    Raises
    ------
    ServerError
        If the port is taken, or the server does not start.
    """
    server = daemon("server")
    known, secret = server.facts(), read_private(secret_file())
    url = known.get("url", "")
    if url and secret and _answers(url, secret, server):
        if port is not None and f":{port}/" not in url:
            raise ServerError(f"the server runs at {url}; run `python -m flows deploy --stop` to move it")
        say(f"server: runs, log {server.log}")
        return OwnServer(url, secret, started=False)
    for name in ("worker", "server"):  # a worker must not ask an address where we do not listen
        daemon(name).stop()
    secret = draw_secret()
    write_private(secret_file(), f"{secret}\n")
    with _listener(port, say) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        server.start(
            [*_PROGRAM, "--fd", str(listener.fileno())],
            child_environment(PREFECT_API_URL=url, **server_settings(url, secret)),
            descriptors=[listener.fileno()],
            private=True,
            url=url,
        )
    say(f"server: starts, which takes a while; log {server.log}")
    _wait(server, url, secret, say)
    say(f"server: answers at {url}")
    return OwnServer(url, secret, started=True)


def is_own(url: str) -> bool:
    """Whether an API address is that of our server, which runs or ran last: who listens there now may be a stranger."""
    shown = os.environ.get(CLIENT, "")
    return url.rstrip("/") == daemon("server").remembered().get("url") or shown == read_private(secret_file()) != ""


def _listener(port: int | None, say: Callable[[str], None]) -> socket.socket:
    """A socket at the port that was asked for, or at the first free one; nobody can take it from now on."""
    for candidate in [port] if port is not None else [*range(PORT, PORT + _PORTS_TRIED), 0]:
        try:
            return listen(candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ServerError(f"nothing can listen at port {candidate}: {error.strerror}") from None
            say(f"port {candidate}: taken by another program")
    raise ServerError(f"port {port} is taken by another program; name another one, or leave out `--port`")


def _answers(url: str, secret: str, server: Daemon) -> bool:
    """Whether our server shows its secret, within some seconds if it is busy."""
    return any(proves(url, secret) for _ in range(3) if server.facts())


def _wait(server: Daemon, url: str, secret: str, say: Callable[[str], None]) -> None:
    begin = said = time.monotonic()
    while not proves(url, secret):
        now = time.monotonic()
        if not server.facts():
            raise ServerError(f"the Prefect server ended while it started: {server.last_line()}; see {server.log}")
        if now - begin > STARTUP_SECONDS:
            server.stop()
            raise ServerError(f"the Prefect server did not answer within {STARTUP_SECONDS:.0f} s; see {server.log}")
        if now - said > _SAY_SECONDS:
            said = now
            say(f"server: still starts, {now - begin:.0f} s")
        time.sleep(0.2)


def use(server: OwnServer) -> None:
    """Let Prefect's client in this process, and all that it starts, ask this server."""
    os.environ.update({"PREFECT_API_URL": server.url, CLIENT: server.secret})
