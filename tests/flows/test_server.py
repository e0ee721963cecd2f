"""The private server: a database of its own for each run of the same moment."""

import os
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
