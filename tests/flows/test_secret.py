"""The secret's file, the proof that does not send it, and the gate before the server."""

import asyncio
import json
import os
import stat
import threading
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows.guard import Guard
from flows.secret import (
    PROOF_PATH,
    SecretError,
    close_folder,
    draw_secret,
    open_private,
    proof,
    proves,
    read_private,
    write_private,
)

SECRET = draw_secret()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_files_of_state_are_the_owners_alone_whatever_the_umask_is(tmp_path: Path, umask: int) -> None:
    folder = close_folder(tmp_path / "state")
    before = os.umask(umask)
    try:
        write_private(folder / "secret", "a\n")
        write_private(folder / "secret", f"{SECRET}\n")
        os.close(open_private(folder / "log"))
    finally:
        os.umask(before)
    assert read_private(folder / "secret") == SECRET
    assert {path.name: mode(path) for path in folder.iterdir()} == {"secret": 0o600, "log": 0o600}
    assert mode(folder) == 0o700


@pytest.mark.parametrize("wide", [0o777, 0o755, 0o750, 0o701])
def test_a_wide_folder_of_ours_is_narrowed_with_its_files(tmp_path: Path, wide: int) -> None:
    folder = tmp_path / "state"
    (folder / "storage").mkdir(parents=True)
    folder.chmod(wide)
    for name in ("prefect.db", "server.log"):
        (folder / name).touch(0o644)
    (folder / "link").symlink_to(tmp_path / "other")
    (tmp_path / "other").touch(0o644)
    assert mode(close_folder(folder)) == 0o700
    assert mode(folder / "prefect.db") == mode(folder / "server.log") == 0o600
    assert mode(tmp_path / "other") == 0o644, "what lies elsewhere is left alone"


def test_a_wide_log_is_narrowed_and_a_wide_secret_is_refused(tmp_path: Path) -> None:
    folder = tmp_path
    for name in ("log", "secret"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o644)
    os.close(open_private(folder / "log"))
    assert mode(folder / "log") == 0o600
    with pytest.raises(SecretError, match=r"other users can read .*secret"):
        read_private(folder / "secret")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    os.chown(folder, 65534, 65534)
    os.chown(folder / "secret", 65534, 65534)
    with pytest.raises(SecretError, match="belongs to user 65534"):
        close_folder(folder)
    with pytest.raises(SecretError, match="not a file of yours"):
        read_private(folder / "secret")
    with pytest.raises(SecretError, match="not a file of yours"):
        open_private(folder / "secret")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "secret"
    if kind == "link":
        (tmp_path / "victim").write_text("mine")
        path.symlink_to(tmp_path / "victim")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    for use in (read_private, open_private):
        with pytest.raises(SecretError):
            use(path)


@pytest.mark.parametrize("kind", ["file", "pipe", "link to nowhere"])
def test_a_folder_of_state_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state"
    if kind == "file":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere" / "deep")
    with pytest.raises((SecretError, FileNotFoundError)):
        close_folder(path)


def test_a_folder_of_state_may_be_a_link_to_a_folder_of_ours(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(0o755)
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    close_folder(tmp_path / "state")
    assert mode(tmp_path / "disk") == 0o700


def test_a_file_that_is_missing_holds_nothing(tmp_path: Path) -> None:
    assert read_private(tmp_path / "secret") == ""


class Stranger:
    """A program at some port that answers 200 to everything, and notes what it is sent."""

    def __init__(self, answer: str = "true") -> None:
        self.sent: list[str] = []
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stranger.sent.append(f"{self.path} {self.headers}")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


ANSWERS = {"true": "true", "empty": "", "zeros": "0" * 64, "another port": proof(SECRET, 1, "x")}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_stranger_proves_nothing_and_is_not_sent_the_secret(answer: str) -> None:
    stranger = Stranger(answer)
    assert not proves(stranger.url, SECRET)
    assert stranger.sent
    assert SECRET not in "".join(stranger.sent)
    assert b64encode(SECRET.encode()).decode() not in "".join(stranger.sent)


def test_a_proof_is_bound_to_secret_port_and_nonce() -> None:
    proofs = {proof(s, p, n) for s in (SECRET, "covoxel:x") for p in (4200, 4201) for n in ("a", "b")}
    assert len(proofs) == 8


def test_nobody_at_an_address_proves_nothing() -> None:
    assert not proves("http://127.0.0.1:1/api", SECRET)
    assert not proves("not an address", SECRET)


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """In place of Prefect: lets everybody in."""
    if scope["type"] == "websocket":
        opening, first = await receive(), await receive()
        await send({"type": "websocket.accept", "subprotocol": "prefect"})
        await send({"type": "websocket.send", "text": f"in: {opening['type']} {json.loads(first['text'])['type']}"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"ALLOW")]})
        await send({"type": "http.response.body", "body": b"in"})


def ask(path: str, method: str = "GET", kind: str = "http", first: object = None, **headers: str) -> list[Any]:
    sent: list[Any] = []
    messages = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": json.dumps(first)}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    named = {"host": "127.0.0.1:4200", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "server": ("127.0.0.1", 4200),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        "subprotocols": ["prefect"] if headers.get("protocol", "prefect") == "prefect" else [],
    }
    asyncio.run(Guard(inner, SECRET)(scope, receive, send))
    return sent


SHOWN = f"Basic {b64encode(SECRET.encode()).decode()}"
PAGE = "http://127.0.0.1:4200"


@pytest.mark.parametrize(
    ("expected", "path", "more"),
    [
        (200, "/", {}),
        (200, "/runs", {"origin": PAGE}),
        (200, "/", {"host": "localhost:8080", "origin": "http://localhost:8080"}),
        (200, "/", {"host": "[::1]"}),
        (403, "/", {"host": "evil.example"}),
        (403, "/", {"host": "127.0.0.1.evil.example:4200"}),
        (403, "/", {"host": ""}),
        (403, "/", {"origin": "null"}),
        (401, "/", {"method": "POST"}),
        (401, "/docs", {}),
        (401, "/openapi.json", {}),
        (401, "/api/health", {}),
        (401, "/api", {}),
        (401, "/api/flow_runs/filter", {"method": "POST", "authorization": "Basic Y292b3hlbDp4"}),
        (401, "/api/flow_runs/filter", {"method": "POST", "authorization": f"Bearer {SECRET}"}),
        (403, "/api/flow_runs/filter", {"method": "POST", "authorization": SHOWN, "origin": "http://evil.example"}),
        (403, "/api/flow_runs/filter", {"method": "POST", "authorization": SHOWN, "origin": "http://127.0.0.1:1"}),
        (403, "/api/flow_runs/filter", {"method": "POST", "authorization": SHOWN, "host": "evil.example"}),
        (200, "/api/flow_runs/filter", {"method": "POST", "authorization": SHOWN}),
        (200, "/api/flow_runs/filter", {"method": "POST", "authorization": SHOWN, "origin": PAGE}),
        (401, "/api/flow_runs/filter", {"method": "OPTIONS", "origin": PAGE}),
    ],
)
def test_the_gate(expected: int, path: str, more: dict[str, str]) -> None:
    start, *_ = ask(path, **more)
    assert start["status"] == expected
    headers = dict(start["headers"])
    assert headers[b"x-frame-options"] == b"DENY"
    assert headers[b"content-security-policy"].startswith(b"default-src 'self'")
    assert len(start["headers"]) == len(headers)


def test_the_gate_proves_that_it_has_the_secret() -> None:
    start, body = ask(f"{PROOF_PATH}abc")
    assert (start["status"], body["body"].decode()) == (200, proof(SECRET, 4200, "abc"))
    assert ask(PROOF_PATH)[0]["status"] == ask(PROOF_PATH + "0" * 65)[0]["status"] == 404


@pytest.mark.parametrize(
    ("first", "headers"),
    [
        ({"type": "auth", "token": "covoxel:x"}, {}),
        ({"type": "auth"}, {}),
        ([], {}),
        ({"type": "auth", "token": [SECRET]}, {}),
        ({"type": "auth", "token": SECRET}, {"origin": "http://evil.example"}),
        ({"type": "auth", "token": SECRET}, {"host": "evil.example"}),
        ({"type": "auth", "token": SECRET}, {"protocol": "none"}),
    ],
)
def test_a_socket_without_the_secret_never_reaches_prefect(first: object, headers: dict[str, str]) -> None:
    sent = ask("/api/events/in", kind="websocket", first=first, **headers)
    assert sent[-1]["type"] == "websocket.close"
    assert not any(message["type"] == "websocket.send" for message in sent)


def test_a_socket_with_the_secret_is_passed_on_with_all_its_messages() -> None:
    sent = ask("/api/events/in", kind="websocket", first={"type": "auth", "token": SECRET}, origin=PAGE)
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send"]
    assert sent[-1]["text"] == "in: websocket.connect auth"


def test_a_socket_that_keeps_silent_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.guard._SECONDS", 0.05)
    sent: list[Any] = []
    messages = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    scope = {"type": "websocket", "path": "/api/events/in", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(inner, SECRET)(scope | {"subprotocols": ["prefect"]}, receive, send))
    assert sent == ["websocket.accept", "websocket.close"]
