"""What Prefect reads from the environment: where its state lies without a home, and that no proxy is asked."""

import http.server
import os
import pwd
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import server
from flows.environment import prepare_environment
from flows.proxies import go_past_proxies
from flows.state import StateFolderError, state_folder

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Forget all variables that matter; the folder of temporary files is a new one."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    before = dict(os.environ)
    for name in ("PREFECT_HOME", "XDG_STATE_HOME", "PREFECT_API_URL", *PROXIES, *map(str.upper, PROXIES)):
        os.environ.pop(name, None)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def nobody_knows(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


def fallback(folder: Path) -> Path:
    return folder / "tmp" / f"covoxel-{os.getuid()}" / "prefect"


def test_at_home_it_is_the_owners_alone_also_where_an_older_version_made_it(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(bare))
    (bare / ".local/state/covoxel/prefect").mkdir(0o755, parents=True)
    assert state_folder() == bare / ".local/state/covoxel/prefect"
    assert mode(state_folder()) == mode(state_folder().parent) == 0o700
    assert mode(bare / ".local") == 0o755


@pytest.mark.parametrize("home", [None, "", "occupied", "/proc", "not/absolute", "/nowhere"])
def test_without_a_home_that_can_be_written_it_lies_among_temporary_files(
    bare: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    (bare / "occupied").write_text("x")
    monkeypatch.setattr(pwd, "getpwuid", nobody_knows)
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", str(bare / "occupied") if home == "occupied" else home)
    assert state_folder() == fallback(bare)
    assert mode(state_folder()) == mode(state_folder().parent) == 0o700


@pytest.mark.parametrize("what", ["file", "link", "others"])
def test_a_folder_that_somebody_else_made_first_is_not_used(
    bare: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("HOME", "/proc")
    place = fallback(bare).parent
    if what == "file":
        place.write_text("x")
    elif what == "link":
        (bare / "theirs").mkdir()
        place.symlink_to(bare / "theirs")
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(StateFolderError, match="PREFECT_HOME or XDG_STATE_HOME"):
        state_folder()


@pytest.mark.parametrize("name", ["PREFECT_HOME", "XDG_STATE_HOME"])
def test_a_variable_that_names_what_cannot_be_written_is_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (bare / "occupied").write_text("x")
    monkeypatch.setenv(name, str(bare / "occupied"))
    with pytest.raises(StateFolderError, match=rf"which comes of {name}: .+; set PREFECT_HOME or"):
        state_folder()


def test_variables_come_before_the_home_and_a_relative_one_of_xdg_is_none(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(bare))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == bare / ".local/state/covoxel/prefect"
    monkeypatch.setenv("XDG_STATE_HOME", str(bare / "xdg"))
    assert state_folder() == bare / "xdg/covoxel/prefect"
    monkeypatch.setenv("PREFECT_HOME", str(bare / "named"))
    assert state_folder() == bare / "named"
    assert mode(bare / "named") == 0o700


def test_libraries_keep_their_caches_there_where_there_is_no_home(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", nobody_knows)
    monkeypatch.delenv("HOME")
    prepare_environment()
    assert os.environ["HOME"] == os.environ["PREFECT_HOME"] == str(fallback(bare))
    assert os.environ["MPLCONFIGDIR"] == str(fallback(bare) / "cache" / "matplotlib")
    assert Path.home() == fallback(bare)


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("proxy", ["http://proxy:3128", "socks5://proxy:1080", "socks4://proxy:1080"])
@pytest.mark.parametrize(
    "url", [None, "http://127.0.0.1:4200/api", "http://localhost:4200/api", "http://[::1]:4200/api"]
)
def test_prefects_client_for_this_machine_knows_no_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, url: str | None
) -> None:
    import httpx

    monkeypatch.setenv(name, proxy)
    go_past_proxies(url)
    with httpx.Client() as client:
        assert not any(client._mounts.values())


@pytest.mark.parametrize(
    ("before", "after"), [("a.org, b", "a.org,b,"), ("*", "*,"), ("localhost", "localhost,127"), ("", "")]
)
def test_for_another_machine_proxies_stay_and_loopback_is_added_to_the_users_exceptions(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", before)
    go_past_proxies("https://prefect.lab.org/api")
    assert os.environ["HTTPS_PROXY"] == "http://proxy:3128"
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    assert os.environ["NO_PROXY"].startswith(after)
    assert {"127.0.0.1", "localhost", "::1"} <= set(os.environ["NO_PROXY"].split(","))


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
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert server.is_healthy(f"http://{host}:{healthy}/api")
