"""What another user of the machine tries; run as that user by Python alone: `hostile.py PORT STATE PID…`.

Prints a JSON object: each attempt, and what came of it. `refused` is what it should be.
"""

import base64
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

IS_PROGRAM = __name__ == "__main__"  # pytest collects this module too
PORT = int(sys.argv[1]) if IS_PROGRAM else 0
STATE = Path(sys.argv[2]) if IS_PROGRAM else Path()
PIDS = [int(pid) for pid in sys.argv[3:]] if IS_PROGRAM else []
PAGE, NOWHERE = f"http://127.0.0.1:{PORT}", "00000000-0000-0000-0000-000000000000"
ANYTHING = json.dumps({"job_variables": {"command": "id"}, "state": {"type": "SCHEDULED"}})
ATTEMPTS = {
    "read parameters": ("POST", "/api/flow_runs/filter", "{}"),
    "read deployments": ("POST", "/api/deployments/filter", "{}"),
    "create a run": ("POST", f"/api/deployments/{NOWHERE}/create_flow_run", ANYTHING),
    "create a run from a body of no type": ("POST", "/api/flow_runs/", ANYTHING),
    "send an event": ("POST", "/api/events", "[]"),
    "read settings": ("GET", "/api/admin/settings", None),
    "clear the database": ("POST", "/api/admin/database/clear", '{"confirm": false}'),
    "health": ("GET", "/api/health", None),
    "ready": ("GET", "/api/ready", None),
    "version": ("GET", "/api/version", None),
    "documents": ("GET", "/docs", None),
    "schema": ("GET", "/openapi.json", None),
    "schema of the interface": ("GET", "/api/openapi.json", None),
    "two slashes": ("POST", "//api/flow_runs/filter", "{}"),
    "a dot": ("POST", "/./api/flow_runs/filter", "{}"),
    "two dots": ("GET", "/assets/../api/admin/version", None),
    "escaped letter": ("POST", "/%61pi/flow_runs/filter", "{}"),
    "escaped slash": ("POST", "/api%2Fflow_runs/filter", "{}"),
    "whole address": ("POST", f"{PAGE}/api/flow_runs/filter", "{}"),
    "override of the method": ("GET", "/api/flow_runs/filter?_method=POST", "{}"),
    "no such proof": ("GET", "/covoxel-proof/" + "0" * 65, None),
}
HEADERS = {
    "": {},
    "page": {"Origin": PAGE},
    "stranger": {"Origin": "http://evil.example"},
    "null": {"Origin": "null"},
    "other port": {"Origin": "http://127.0.0.1:1"},
    "other host": {"Host": "evil.example"},
    "host and health": {"Host": "evil.example/api/health?"},
    "no secret": {"Authorization": "Basic "},
    "empty secret": {"Authorization": "Basic " + base64.b64encode(b"").decode()},
    "wrong secret": {"Authorization": "Basic " + base64.b64encode(b"covoxel:x").decode()},
    "not text": {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()},
    "another scheme": {"Authorization": "Bearer covoxel:x"},
    "from here": {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "127.0.0.1", "Forwarded": "for=127.0.0.1"},
    "method": {"X-HTTP-Method-Override": "POST", "Sec-Fetch-Site": "same-origin"},
}
SOCKETS = (
    "/api/events/in",
    "/api/events/out",
    "/api/logs/out",
    "/api/task_runs/subscriptions/scheduled",
    "/api/work_pools/cpu/workers/connect",
)
TOKENS: tuple[object, ...] = (None, "", "covoxel:x", 1, [], {}, True)


def ask(method: str, path: str, body: str | None, headers: dict[str, str]) -> str:
    """Status of an answer, `refused` if it is one that refuses; a readable origin is named."""
    line = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    try:
        line.request(method, path, body, headers)
        answer = line.getresponse()
        answer.read()
        allowed = answer.getheader("Access-Control-Allow-Origin", PAGE)
    finally:
        line.close()
    refused = answer.status in (400, 401, 403, 404, 405)
    readable = f", readable by {allowed}" if allowed != PAGE else ""
    return ("refused" if refused else f"answered {answer.status}") + readable


def knock(path: str, origin: str | None, subprotocol: bool, messages: list[object]) -> str:
    """What a socket answers to messages: `refused` if it is closed without any word."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as line:
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{PORT}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + base64.b64encode(b"0" * 16).decode()]
        lines += [f"Origin: {origin}"] if origin else []
        lines += ["Sec-WebSocket-Protocol: prefect"] if subprotocol else []
        line.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = line.recv(4096)
        if b" 101 " not in head.splitlines()[0]:
            return "refused"
        for message in messages:
            text = json.dumps(message).encode()
            with contextlib.suppress(OSError):
                line.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        answer = head.partition(b"\r\n\r\n")[2] or line.recv(4096)
        return "refused" if not answer or answer[0] == 0x88 else f"answered {answer!r}"


def forbidden(act: Callable[[], object]) -> str:
    """`refused` if the system forbids an act."""
    try:
        return f"done: {act()!r}"
    except OSError:
        return "refused"


def bind(host: str) -> None:
    """Listen where the server does."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        line.bind((host, PORT))
        line.listen()


def requests() -> dict[str, str]:
    """What comes of requests, with headers of many kinds."""
    results = {}
    for name, attempt in ATTEMPTS.items():
        for variant, headers in HEADERS.items():
            results[f"{name} ({variant})"] = ask(*attempt, headers)
    for variant in ("page", "stranger"):
        more = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        results[f"preflight ({variant})"] = ask("OPTIONS", "/api/flow_runs/filter", None, HEADERS[variant] | more)
    return results


def sockets() -> dict[str, str]:
    """What comes of sockets, with first messages of many kinds."""
    results = {}
    for path, origin in itertools.product(SOCKETS, (None, PAGE, "http://evil.example")):
        for token in TOKENS:
            messages = [{"type": "auth", "token": token}, {"type": "filter", "filter": {}}]
            results[f"socket {path} {origin} {token!r}"] = knock(path, origin, True, messages)
        results[f"socket {path} {origin} no protocol"] = knock(path, origin, False, [{"type": "filter"}])
        results[f"socket {path} {origin} no auth"] = knock(path, origin, True, [{"type": "filter"}])
        results[f"socket {path} {origin} no object"] = knock(path, origin, True, [[]])
    return results


def files() -> dict[str, str]:
    """What comes of reaching for files of state, processes and the port."""
    results = {"list the state": forbidden(lambda: list(STATE.iterdir()))}
    for name in ("secret", "prefect.db", "prefect.db-wal", "server.log", "worker.log", "server.json", "deploy.lock"):
        results[f"read {name}"] = forbidden((STATE / name).read_bytes)
        results[f"replace {name}"] = forbidden(partial((STATE / name).write_text, "x"))
    for pid, name in itertools.product(PIDS, ("environ", "mem", "maps", "fd/4", "cwd/secret")):
        results[f"/proc/{pid}/{name}"] = forbidden(Path(f"/proc/{pid}/{name}").read_bytes)
    for pid in PIDS:
        results[f"kill {pid}"] = forbidden(partial(os.kill, pid, signal.SIGTERM))
    for host in ("127.0.0.1", "0.0.0.0", ""):
        results[f"listen at {host or 'all'}"] = forbidden(partial(bind, host))
    return results


if IS_PROGRAM:
    sys.stdout.write(json.dumps(requests() | sockets() | files()))
