"""The gate before Prefect's server: nothing but the page's own files is answered without the secret.

Prefect itself asks for the secret too. Beyond that, the gate refuses what Prefect answers: its health check, its
documents, any `Host` and any `Origin`; and sockets are let in after they have shown the secret, not before.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.secret import PROOF_PATH, basic_header, proof

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HOSTS = ("127.0.0.1", "localhost", "[::1]")
_CLOSED = ("/api", "/docs", "/redoc", "/openapi")
"""What paths begin with that are not the page's."""
_NONCE = 64
_SECONDS = 10.0
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
}


class Guard:
    """An ASGI application that passes on what may come in.

    Parameters
    ----------
    app
        Prefect's application.
    secret
        What requests show by `Authorization: Basic`, and sockets in their first message.
    """

    def __init__(self, app: App, secret: str) -> None:
        self._app, self._secret = app, secret
        self._header = basic_header(secret).encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in reversed(scope["headers"])}
        if not _is_from_here(headers):
            await _refuse(scope, send, 403)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        elif scope["path"].startswith(PROOF_PATH):
            await self._prove(scope, send)
        elif _is_page(scope) or hmac.compare_digest(headers.get(b"authorization", b""), self._header):
            await self._app(scope, receive, _with_headers(send))
        else:
            await _refuse(scope, send, 401)

    async def _prove(self, scope: Message, send: Send) -> None:
        nonce = scope["path"].removeprefix(PROOF_PATH)
        if not 0 < len(nonce) <= _NONCE:
            await _refuse(scope, send, 404)
            return
        await _answer(send, 200, proof(self._secret, scope["server"][1], nonce))

    async def _socket(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let Prefect see a socket only after its first message has shown the secret."""
        if "prefect" not in scope.get("subprotocols", []):
            await _refuse(scope, send, 403)
            return
        opening = await receive()
        await send({"type": "websocket.accept", "subprotocol": "prefect"})
        try:
            first = await asyncio.wait_for(receive(), _SECONDS)
        except TimeoutError:
            first = {}
        if not self._shows(first):
            await send({"type": "websocket.close", "code": 1008, "reason": "authentication failed"})
            return
        early = [first, opening]

        async def replayed() -> Message:
            return early.pop() if early else await receive()

        async def once_accepted(message: Message) -> None:
            if message["type"] != "websocket.accept":
                await send(message)

        await self._app(scope, replayed, once_accepted)

    def _shows(self, message: Message) -> bool:
        """Whether a socket's first message holds the secret."""
        try:
            known = json.loads(message.get("text") or message.get("bytes") or "")
            return hmac.compare_digest(str(known["token"]).encode(), self._secret.encode())
        except (ValueError, TypeError, KeyError, RecursionError):
            return False


def _is_from_here(headers: dict[bytes, bytes]) -> bool:
    """Whether a request names this machine as its host, and comes from a page of that host or from no page."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if (name or port) not in HOSTS:
        return False
    origin = headers.get(b"origin")
    return origin is None or origin.decode("latin-1").lower() == f"http://{host}"


def _is_page(scope: Message) -> bool:
    return scope["method"] in ("GET", "HEAD") and not scope["path"].startswith(_CLOSED)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if pair[0].lower() not in _HEADERS]
            message = {**message, "headers": [*kept, *_HEADERS.items()]}
        await send(message)

    return sending


async def _refuse(scope: Message, send: Send, status: int) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
    else:
        await _answer(send, status, {401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}[status])


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode()), *_HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
