"""A load generator that costs little: it shares the processor with the server that it measures.

Owns one streamed request over a plain socket, and many of them in a closed loop. Bytes are kept with the times at which
they came and read when the clock has stopped: parsing a chunk a token would be work that no user's machine does beside
the server. Knows no server but by its address.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine_parts.workload import Item
from foveate.errors import FoveateError

FIRST_WORDS = re.compile(rb'"content":\s*"[^"]')
SECONDS = 1800  # for one request; a server that serves one at a time lets the last wait long


class LoadError(FoveateError):
    """A server that answers with an error, or not as it was asked to."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back.

    Attributes:
        first: seconds from sending to the first words.
        seconds: to the end.
        tokens: of the answer, as the server counts them.
    """

    text: str
    tokens: int
    first: float
    seconds: float


def request_body(item: Item, png: bytes, more: Mapping[str, Any]) -> bytes:
    """The request as bytes: the picture first, its length given, no end before it.

    Args:
        more: fields that servers take differently.
    """
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": item.question}]
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_completion_tokens": item.output_tokens,
        "temperature": 0,
        "stream": True,
        **more,
    }
    return json.dumps(body).encode()


async def ask(port: int, body: bytes) -> Reply:
    """One streamed request on a connection of its own.

    Raises:
        LoadError: the reply is an error, or no stream of an answer.
    """
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    arrivals = _Arrivals(loop.create_future())
    began = time.perf_counter()
    transport, _ = await loop.create_connection(lambda: arrivals, "127.0.0.1", port)
    try:
        transport.write(head.encode() + body)
        async with asyncio.timeout(SECONDS):
            await arrivals.ended
    finally:
        transport.close()
    return read_reply([(when - began, piece) for when, piece in arrivals.pieces])


class _Arrivals(asyncio.Protocol):
    """The bytes of one reply; no task is woken for them before the last."""

    def __init__(self, ended: asyncio.Future[None]) -> None:
        self.ended = ended
        self.pieces: list[tuple[float, bytes]] = []

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.perf_counter(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


def read_reply(pieces: Sequence[tuple[float, bytes]]) -> Reply:
    """A reply from its bytes, each piece with the time at which it came.

    Raises:
        LoadError: it is an error, or no stream of an answer.
    """
    raw = b"".join(piece for _, piece in pieces)
    status = raw.split(b"\r\n", 1)[0].decode("latin-1")
    found = FIRST_WORDS.search(raw)
    if " 200 " not in status + " " or found is None:
        raise LoadError(
            f"A server answered {status or 'nothing'}",
            why=raw.partition(b"\r\n\r\n")[2][:600].decode("utf-8", "replace") or "its reply has no words",
            fix="See its log.",
        )
    # Each event lies within one chunk of the transfer, so its line is whole where it begins.
    events = [
        json.loads(line[5:])
        for line in raw.splitlines()
        if line.startswith(b"data:") and b"[DONE]" not in line
    ]
    words, tokens = [], 0
    for one in events:
        if "error" in one:
            raise LoadError(f"A stream ended with an error: {one['error']}", fix="See the server's log.")
        words += [choice["delta"].get("content") or "" for choice in one["choices"]]
        tokens = (one.get("usage") or {}).get("completion_tokens", tokens)
    return Reply(
        text="".join(words), tokens=tokens, first=_time_of(found.end() - 1, pieces), seconds=pieces[-1][0]
    )


def _time_of(position: int, pieces: Sequence[tuple[float, bytes]]) -> float:
    """When the piece came that this byte is in."""
    for when, piece in pieces:
        position -= len(piece)
        if position < 0:
            return when
    raise AssertionError("the byte is in none of the pieces")


async def closed_loop(port: int, bodies: Sequence[bytes], concurrency: int) -> list[Reply]:
    """Every request once, `concurrency` of them in flight at any time, in order of arrival."""
    waiting = deque(enumerate(bodies))
    replies: dict[int, Reply] = {}

    async def client() -> None:
        while waiting:
            place, body = waiting.popleft()
            replies[place] = await ask(port, body)

    await asyncio.gather(*(client() for _ in range(concurrency)))  # the first error ends the run
    return [replies[place] for place in range(len(bodies))]
