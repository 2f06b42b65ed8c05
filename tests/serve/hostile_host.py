"""A web server that says exactly what a test tells it to, byte by byte, and a resolver that lies."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Callable

LOOPBACK = "127.0.0.1"
Route = bytes | Callable[[asyncio.StreamWriter], object]


def reply(
    body: bytes = b"", *, status: str = "200 OK", headers: tuple[str, ...] = (), length: int | None = None
) -> bytes:
    """One whole response; `length` may lie."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers)
    return "\r\n".join((*lines, "Connection: close", "", "")).encode() + body


def redirect(target: str, status: str = "302 Found") -> bytes:
    return reply(status=status, headers=(f"Location: {target}",))


class HostileHost:
    """`async with HostileHost({path: response or function of the writer}) as host`.

    Attributes:
        requests: the head of each request that came in, as text.
    """

    def __init__(
        self, routes: dict[str, Route], *, address: str = LOOPBACK, tls: ssl.SSLContext | None = None
    ) -> None:
        self.routes, self.address, self._tls = routes, address, tls
        self.requests: list[str] = []
        self.sent = 0

    async def __aenter__(self) -> HostileHost:
        self._server = await asyncio.start_server(self._answer, self.address, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.requests.append(head)
            route = self.routes[head.split()[1].partition("?")[0]]
            if callable(route):
                await route(writer)
            else:
                writer.write(route)
                await writer.drain()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            writer.close()


class FakeResolver:
    """Names to addresses; a list of lists is answered in turn, the last for ever: a rebinding name server."""

    def __init__(self, names: dict[str, list]) -> None:
        self.names, self.asked = names, []

    async def __call__(self, host: str, port: int):
        self.asked.append(host)
        answers = self.names.get(host, [])
        if answers and isinstance(answers[0], list):
            answers = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ipaddress.ip_address(answer) for answer in answers]
