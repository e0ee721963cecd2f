"""`deploy` and strangers: another program's port is not used, and another program is never taken for our server."""

import socket
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from flows import deploy, own_server
from flows.own_server import daemon, secret_file
from flows.secret import CLIENT, proves, read_private
from flows.server import ServerError

SERVING = """
import os, socket, sys
from flows.secret import PROOF_PATH, SERVER, proof
listener = socket.socket(fileno=int(sys.argv[2]))
port = listener.getsockname()[1]
while True:
    line, _ = listener.accept()
    nonce = line.recv(4096).split()[1].decode().removeprefix(PROOF_PATH)
    line.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + proof(os.environ[SERVER], port, nonce).encode())
    line.close()
"""
DYING = "import sys; print('first'); sys.exit('no room on the disk')"


class Stranger:
    """A Prefect server of somebody else: healthy, and glad of what it is sent."""

    def __init__(self, port: int = 0) -> None:
        self.sent: list[str] = []
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger.sent.append(f"{self.path} {self.headers}")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"true")

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/api"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder, quick servers, and no server named; all is stopped afterwards."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv(CLIENT, raising=False)
    (tmp_path / "state").mkdir()
    program(monkeypatch, SERVING)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setattr(own_server, "PORT", probe.getsockname()[1])
    yield tmp_path / "state"
    for name in ("worker", "server"):
        daemon(name).stop()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """Somebody else's server."""
    stranger = Stranger()
    yield stranger
    stranger.close()


def program(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(own_server, "_PROGRAM", (sys.executable, "-c", text))


def own(port: int | None = None) -> tuple[own_server.OwnServer, list[str]]:
    lines: list[str] = []
    return own_server.own_server(lines.append, port), lines


def test_a_port_that_a_stranger_holds_is_passed_over(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_server, "PORT", stranger.port)
    server, lines = own()
    assert server.started
    assert server.url != stranger.url
    assert f"port {stranger.port}: taken by another program" in lines
    assert proves(server.url, server.secret)
    assert not stranger.sent


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_was_asked_for_and_is_taken_is_an_error(host: str) -> None:
    with socket.socket() as taken:
        taken.bind((host, 0))
        taken.listen()
        with pytest.raises(ServerError, match=f"port {taken.getsockname()[1]} is taken by another program"):
            own(taken.getsockname()[1])
    assert not daemon("server").facts()


def test_a_server_of_ours_is_used_again_and_moves_only_when_stopped() -> None:
    first, _ = own()
    again, lines = own()
    assert (again.url, again.secret, again.started) == (first.url, first.secret, False)
    assert lines == [f"server: runs, log {daemon('server').log}"]
    with pytest.raises(ServerError, match="deploy --stop"):
        own(1)


def test_who_takes_the_port_of_our_dead_server_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = own()
    daemon("worker").start([sys.executable, "-c", "import time; time.sleep(60)"], {}, url=first.url)
    kill_server()
    squatter = Stranger(int(first.url.split(":")[2].split("/")[0]))
    try:
        monkeypatch.setenv("PREFECT_API_URL", squatter.url)  # as the operator's shell has it
        server = deploy._server(lambda _: None, None)
        assert server is not None
        assert server.url != first.url
        assert server.secret != first.secret, "the squatter may have been sent the old one"
        assert not daemon("worker").facts(), "the worker would ask the squatter what to run"
        assert not squatter.sent
    finally:
        squatter.close()


def kill_server() -> None:
    import os
    import signal

    facts = daemon("server").facts()
    os.kill(int(facts["pid"]), signal.SIGKILL)
    end = time.monotonic() + 10
    while daemon("server").facts():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("lost", ["secret deleted", "secret changed", "made by an older version"])
def test_a_server_that_cannot_show_the_secret_is_replaced(lost: str) -> None:
    first, _ = own()
    if lost == "secret deleted":
        secret_file().unlink()
    elif lost == "secret changed":
        secret_file().write_text("covoxel:x")
    else:
        old = [sys.executable, "-c", "import time; time.sleep(60)"]
        daemon("server").stop()
        daemon("server").start(old, {}, url=first.url)
    pid = daemon("server").facts()["pid"]
    server, _ = own()
    assert server.started
    assert daemon("server").facts()["pid"] != pid
    assert not Path(f"/proc/{pid}/exe").exists()
    assert read_private(secret_file()) == server.secret != first.secret


@pytest.mark.parametrize(("text", "reason"), [(DYING, "no room on the disk"), ("raise SystemExit", "it wrote nothing")])
def test_a_server_that_dies_is_an_error_with_its_last_line(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(monkeypatch, text)
    begin = time.monotonic()
    with pytest.raises(ServerError, match=rf"ended while it started: {reason}; see .*server.log"):
        own()
    assert time.monotonic() - begin < 20


def test_a_server_that_never_answers_is_an_error_and_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(own_server, "STARTUP_SECONDS", 1.0)
    monkeypatch.setattr(own_server, "_SAY_SECONDS", 0.1)
    monkeypatch.setattr("flows.secret._SECONDS", 0.2)
    lines: list[str] = []
    with pytest.raises(ServerError, match="did not answer within 1 s"):
        own_server.own_server(lines.append)
    assert any("still starts" in line for line in lines)
    assert not daemon("server").facts()


def test_our_secret_is_not_sent_to_a_server_that_the_user_names(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = own()
    monkeypatch.setenv("PREFECT_API_URL", stranger.url)
    lines: list[str] = []
    assert deploy._server(lines.append, None) is None
    assert lines == [f"server: the one of PREFECT_API_URL={stranger.url}"]
    assert stranger.sent
    assert "Authorization" not in "".join(stranger.sent)
    monkeypatch.setenv(CLIENT, "user:password")
    deploy._server(lines.append, None)
    assert "Authorization: Basic dXNlcjpwYXNzd29yZA==" in "".join(stranger.sent)
    assert ours.secret not in "".join(stranger.sent)


def test_files_of_a_server_are_the_owners_alone(state: Path) -> None:
    own()
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in state.iterdir()} == {
        "secret": "0o600",
        "server.json": "0o600",
        "server.log": "0o600",
    }


def test_neither_command_line_nor_log_holds_the_secret(state: Path) -> None:
    server, lines = own()
    pid = daemon("server").facts()["pid"]
    shown = Path(f"/proc/{pid}/cmdline").read_text() + (state / "server.log").read_text() + "".join(lines)
    assert server.secret.partition(":")[2] not in shown


def test_two_calls_at_once_are_one_too_many() -> None:
    with deploy._alone(), pytest.raises(ServerError, match="another `python -m flows deploy` is at work"):
        deploy.stop_all(lambda _: None)
