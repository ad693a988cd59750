"""The guard: what stands between a socket and the routes, whatever the route.

1. *Name*: a server on this machine answers only to this machine's names. A page of a stranger that has its own name point
   here (DNS rebinding) sends that name, and is refused.
2. *Body*: it is read whole before any route sees it, up to a size and within a time.
3. *Headers*: answers load nothing but what comes from here, run no inline script, are never sniffed, framed or shared with
   other origins. There is no CORS: other sites may not read answers. A route may set stricter ones of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from colindex.serve.limits import Limits
from colindex.serve.problems import MEDIA_TYPE, RefusedError, problem

__all__ = ["HEADERS", "LOOPBACK_NAMES", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:]+)(?::\d+)?")
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """ASGI middleware around the routes."""

    def __init__(self, app: App, limits: Limits, names: frozenset[str] | None) -> None:
        """`names`: those that a request may use for this server; None allows every one."""
        self._app, self._limits, self._names = app, limits, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _with_headers(send)
        try:
            self._check_name(scope)
            body = await self._body(scope, receive)
        except RefusedError as refused:
            await _refuse(answer, refused)
            return
        await self._app(scope, _replayed(body, receive), answer)

    def _check_name(self, scope: Scope) -> None:
        named = _header(scope, b"host") or ""
        host = _HOST.fullmatch(named)
        name = "" if host is None else host[1].lower()
        if self._names is not None and name not in self._names:
            raise RefusedError(
                421,
                f"Host: expected one of {', '.join(sorted(self._names))}, got {named[:100]!r}; use the printed URL.",
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        declared = _header(scope, b"content-length") or "0"
        if declared.isdecimal() and len(declared) < 20 and int(declared) > self._limits.body_bytes:
            raise self._too_large(f"{int(declared):,}")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":  # the client has gone
                        raise RefusedError(400, "The connection was closed before the body had arrived.")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._limits.body_bytes:
                        raise self._too_large("more")
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise RefusedError(408, f"Expected the body within {self._limits.seconds:g} s.") from error

    def _too_large(self, got: str) -> RefusedError:
        return RefusedError(413, f"Body: expected at most {self._limits.body_bytes:,} bytes, got {got}.")


def _header(scope: Scope, name: bytes) -> str | None:
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then whatever comes: that the client has gone."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {key.lower() for key, _ in message["headers"]}
            missing = [(key.encode(), value.encode()) for key, value in HEADERS.items() if key.encode() not in present]
            message = {**message, "headers": [*message["headers"], *missing]}
        await send(message)

    return sent


async def _refuse(send: Send, refused: RefusedError) -> None:
    body = json.dumps(problem(refused.status, str(refused))).encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # the rest of the body, if there is one, is never read
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
