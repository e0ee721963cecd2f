"""The private server: a database of its own for each run of the same moment, asked past all proxies."""

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import server


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


def test_two_runs_at_once_have_two_databases_and_a_later_one_takes_the_first(no_process: list[str]) -> None:
    with server.prefect_server():
        os.environ.pop("PREFECT_API_URL")  # as another process would have it
        with server.prefect_server():
            pass
    with server.prefect_server():
        pass
    assert no_process == ["private-1.db", "private-2.db", "private-1.db"]


@pytest.fixture
def healthy() -> Iterator[int]:
    """Port of a server that answers."""

    class Answer(http.server.BaseHTTPRequestHandler):
        """Always well."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield here.server_port
        here.shutdown()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_of_this_machine_is_asked_past_proxies(
    healthy: int, monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert server.is_healthy(f"http://{host}:{healthy}/api")
