"""What every request passes on its way in: the host it was sent to, an id for it, headers that protect its reply.

Owns plain ASGI middleware; Starlette's class for them hides the client's leaving from streams. Knows no routes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foveate.serve.errors import ApiError, error_response
from foveate.serve.settings import LOOPBACK, ServeSettings

REQUEST_ID = "x-request-id"
LONGEST_ID = 128


class RequestIds:
    """Every reply carries `x-request-id`: the client's own, or a new one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get(REQUEST_ID, "")
        name = (
            given
            if given.isascii() and given.isprintable() and 0 < len(given) <= LONGEST_ID
            else uuid.uuid4().hex
        )

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = name
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        return await self._app(scope, receive, named)


class HostGuard:
    """Refuses requests under names that are not the server's own.

    A web page can have its own name resolve to 127.0.0.1 and then talk to a server on the reader's machine as if it
    were the page's (DNS rebinding); the Host header gives it away.

    Args:
        names: hosts under which the server may be called.
    """

    def __init__(self, app: ASGIApp, *, names: Sequence[str]) -> None:
        self._app, self._names = app, frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        host = Headers(scope=scope).get("host", "")
        if _name_of(host) in self._names:
            return await self._app(scope, receive, send)
        error = ApiError(
            "The request was sent to a name that is not this server's",
            why="its Host header is neither the server's address nor an allowed host",
            fix="Call it by its address, or start it with --allowed-hosts NAME.",
            status=403,
            code="unknown_host",
        )
        return await error_response(error)(scope, receive, send)


class BodyLimit:
    """Refuses bodies above a size: by their header before anything is read, else as soon as they pass it.

    Args:
        size: bytes.
    """

    def __init__(self, app: ASGIApp, *, size: int) -> None:
        self._app, self._size = app, size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        claimed = Headers(scope=scope).get("content-length", "0")
        if claimed.isdecimal() and int(claimed) > self._size:
            return await error_response(self._error())(scope, receive, send)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._size:
                raise self._error()
            return message

        return await self._app(scope, counted, send)

    def _error(self) -> ApiError:
        return ApiError(
            "The request is too large",
            why=f"this server takes {self._size} bytes at most",
            fix="Send smaller or fewer pictures.",
            status=413,
            code="request_too_large",
        )


def _name_of(host: str) -> str:
    """The name in a Host header, without its port; empty where there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def own_names(settings: ServeSettings) -> tuple[str, ...]:
    """Names under which a server may be called; empty where any may be: others than loopback without a list."""
    if settings.is_local:
        return (*LOOPBACK, settings.host, *settings.allowed_hosts)
    return (*LOOPBACK, settings.host, *settings.allowed_hosts) if settings.allowed_hosts else ()
