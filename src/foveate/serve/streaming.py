"""Server-sent events: the frame of a stream, its errors, and what happens when its reader leaves.

Owns the wire form of OpenAI's streams and the race between an answer and a client that goes away. Knows no engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from foveate.errors import FoveateError
from foveate.serve.errors import as_api_error, error_body

T = TypeVar("T")
_log = logging.getLogger(__name__)
DONE = b"data: [DONE]\n\n"
# For the schema: what a route that streams may answer beside its whole reply.
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The answer."}
}
HEADERS = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}  # a proxy that buffers would hold tokens back


class ClientGone(Exception):  # noqa: N818 - nothing went wrong: nobody listens any more
    """The client closed its connection before there was an answer."""


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    """One event; with a name where the API's streams have them."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return ((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode("utf-8", "replace")


class EventStream(StreamingResponse):
    """A reply in events. Whatever becomes of it - ended, failed, never begun, reader gone - `close` is called.

    Args:
        events: made while they are sent. An error in them becomes the last event: the status was sent long ago.
        close: gives back what the request holds.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(self._guarded(events), headers={**HEADERS, **(headers or {})})
        self._close = close

    @staticmethod
    async def _guarded(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for one in events:
                yield one
        except FoveateError as error:
            yield event(error_body(as_api_error(error)))
        except Exception as error:  # noqa: BLE001 - the reader must learn of it, and there is no status left
            _log.exception("a stream failed")
            yield event(error_body(as_api_error(error)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Shielded: a cancelled reply must still give back its blocks.
            await asyncio.shield(self._close())


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """What the work gives, cancelled as soon as the client has gone.

    Raises:
        ClientGone: it has.
        Exception: what the work raised.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
