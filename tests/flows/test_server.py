"""The private server: a database and a secret of its own for each run of the same moment."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from flows import server
from flows.secret import CLIENT, basic_header, draw_secret


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Servers are not started; the databases they would have had."""
    databases: list[str] = []

    def start(command: list[str], log: Path, environment: dict[str, str]) -> None:
        databases.append(Path(environment["PREFECT_API_DATABASE_CONNECTION_URL"]).name)

    monkeypatch.setattr("flows.server.processes.start", start)
    monkeypatch.setattr("flows.server.processes.end", lambda child: None)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return databases


@pytest.fixture(autouse=True)
def no_server_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No server is named; the state folder."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "state"))
    for name in ("PREFECT_API_URL", CLIENT):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state"


def test_two_runs_at_once_have_two_databases_and_a_later_one_takes_the_first(no_process: list[str]) -> None:
    with server.prefect_server():
        os.environ.pop("PREFECT_API_URL")  # as another process would have it
        with server.prefect_server():
            pass
    with server.prefect_server():
        pass
    assert no_process == ["private-1.db", "private-2.db", "private-1.db"]


@pytest.mark.parametrize("imported", ["before", "within"])
def test_every_thread_of_prefect_knows_the_private_server_and_its_secret(imported: str, tmp_path: Path) -> None:
    program = """
import os, sys, threading
from flows import server
from flows.secret import CLIENT

server.processes.start = server.processes.end = lambda *_: None
told = []

def tell():
    from prefect.settings import get_current_settings
    api = get_current_settings().api
    told.append((api.url, api.auth_string and api.auth_string.get_secret_value()))

def in_a_thread():
    thread = threading.Thread(target=tell)
    thread.start()
    thread.join()

if sys.argv[1] == "before":
    in_a_thread()
with server.prefect_server():
    in_a_thread()
    assert told[-1] == (os.environ["PREFECT_API_URL"], os.environ[CLIENT]), told
in_a_thread()
assert told[-1] == (None, None), told
"""
    subprocess.run([sys.executable, "-c", program, imported], check=True, timeout=120)


def test_each_run_has_a_secret_of_its_own_and_the_users_comes_back(
    no_process: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CLIENT, "user:password")  # of a server that is not named
    secrets = []
    for _ in range(2):
        with server.prefect_server():
            secrets.append(os.environ[CLIENT])
    assert len({*secrets, "user:password"}) == 3
    assert os.environ[CLIENT] == "user:password"


def status(url: str, body: object = None, **headers: str) -> int:
    """Status of an answer; no page of another origin may read it."""
    data = None if body is None else json.dumps(body).encode()
    try:
        answer = urlopen(Request(url, data, {"Content-Type": "application/json", **headers}), timeout=30)
    except HTTPError as error:
        answer = error
    with answer:
        assert answer.headers.get("Access-Control-Allow-Origin") is None
        return int(answer.status)


async def socket_answer(url: str, token: str | None, **headers: str) -> str:
    """First answer of a socket that is shown a token; `refused` if it is closed."""
    try:
        async with connect(url, subprotocols=["prefect"], additional_headers=headers, proxy=None) as line:
            await line.send(json.dumps({"type": "auth", "token": token}))
            return str(json.loads(await line.recv())["type"])
    except (ConnectionClosed, InvalidStatus):
        return "refused"


def test_a_private_server_answers_its_run_alone(no_server_named: Path) -> None:
    with server.prefect_server() as ready:
        ready()
        url, secret = os.environ["PREFECT_API_URL"], os.environ[CLIENT]
        shown = {"Authorization": basic_header(secret)}
        asked = f"{url}/flow_runs/filter"
        assert [status(asked, {}), status(asked, {}, **shown)] == [401, 200]
        assert status(f"{url}/health") == status(f"{url}/version") == 401
        assert status(asked, {}, **shown, Origin="http://evil.example") == 403
        assert status(asked, {}, **shown, Host="evil.example") == 403
        sockets = [f"{url.replace('http', 'ws', 1)}/{path}" for path in ("events/in", "events/out", "logs/out")]
        for socket in sockets:
            assert asyncio.run(socket_answer(socket, None)) == "refused"
            assert asyncio.run(socket_answer(socket, "covoxel:x")) == "refused"
            assert asyncio.run(socket_answer(socket, secret, Origin="http://evil.example")) == "refused"
            assert asyncio.run(socket_answer(socket, secret)) == "auth_success"
        client = "from prefect.client.orchestration import get_client\nwith get_client(sync_client=True) as client:\n"
        client += "    assert client.api_healthcheck() is None\n    client.read_flow_runs()"
        subprocess.run([sys.executable, "-c", client], check=True, timeout=120)
        assert secret not in "".join(file.read_text() for file in no_server_named.glob("*.log"))
    assert {oct(no_server_named.stat().st_mode & 0o777)} == {"0o700"}


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[str]]]:
    """Address of somebody else's server, which redirects elsewhere what is asked, and what it was sent."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(200 if self.path.startswith("/elsewhere") else 302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    answering = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=answering.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{answering.server_port}/api", sent
    answering.shutdown()
    answering.server_close()


def test_who_took_the_port_of_a_private_server_is_not_taken_for_it(stranger: tuple[str, list[str]]) -> None:
    url, sent = stranger
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(server.ServerError, match="3"):
        server.wait_for_server(url, 60, child, draw_secret())
    assert all(line.endswith(" None") for line in sent)


def test_a_secret_is_not_shown_where_a_server_redirects(
    stranger: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, sent = stranger
    monkeypatch.setenv(CLIENT, "user:password")
    assert server.is_healthy(url)
    assert {line.partition(" ")[0] for line in sent if not line.endswith("None")} == {
        "/api/admin/version",
        "/api/health",
    }
