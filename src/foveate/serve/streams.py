"""Streams that clients push frames into: who owns them, how many there are, who listens.

Owns the store. All work on all streams is done by one thread beside the engine's, one piece after the other, so that a
session is never entered twice. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.engine.threads import use_one_thread
from foveate.serve.errors import ApiError

if TYPE_CHECKING:
    from foveate.decode.streaming import StreamingSession

T = TypeVar("T")
MOST_STREAMS = 4
IDLE_SECONDS = 300.0
MOST_WAITING = 8  # pieces of work of one stream; a burst beyond that is refused, so that memory stays bounded
_REMEMBERED = 256  # events that a slow listener may be behind


@dataclass(eq=False)
class Listener:
    """One reader of events; where it falls behind, the oldest are dropped and the next event says how many."""

    queue: asyncio.Queue[dict[str, Any] | None] = field(default_factory=lambda: asyncio.Queue(_REMEMBERED))
    lost: int = 0

    def put(self, told: dict[str, Any] | None) -> None:
        """None ends it."""
        if self.queue.full():
            self.queue.get_nowait()
            self.lost += 1
        self.queue.put_nowait(told)


@dataclass(eq=False, kw_only=True)
class Stream:
    """One open stream."""

    id: str
    owner: str
    session: StreamingSession
    used: float
    waiting: int = 0
    listeners: set[Listener] = field(default_factory=set)

    def tell(self, told: dict[str, Any]) -> None:
        """An event to all who listen."""
        for listener in self.listeners:
            listener.put(told)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """What is told from now on, until the stream is closed."""
        listener = Listener()
        self.listeners.add(listener)
        try:
            while (told := await listener.queue.get()) is not None:
                lost, listener.lost = listener.lost, 0
                yield {**told, "events_lost": lost} if lost else told
        finally:
            self.listeners.discard(listener)


class StreamStore:
    """The open streams of a server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._opening = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="foveate-streams", initializer=use_one_thread)

    def __len__(self) -> int:
        return len(self._streams)

    async def open(self, owner: str, make: Callable[[], StreamingSession]) -> Stream:
        """A new stream; those that nobody has used for a while make room.

        Raises:
            ApiError: 429, there are as many as may be.
            StreamError: it cannot be streamed so.
        """
        await self._close_idle()
        if len(self._streams) + self._opening >= MOST_STREAMS:
            raise ApiError(
                f"{len(self._streams)} streams are open",
                why=f"this server keeps {MOST_STREAMS} at once",
                fix=f"Close one; one that is idle for {IDLE_SECONDS:.0f} s is closed.",
                status=429,
                code="too_many_streams",
                retry_after=IDLE_SECONDS,
            )
        self._opening += 1
        try:
            return await asyncio.shield(self._opened(owner, make))
        finally:
            self._opening -= 1

    async def _opened(self, owner: str, make: Callable[[], StreamingSession]) -> Stream:
        """Also where its caller has gone meanwhile: idle, it is closed like any other."""
        session = await self._run(make)
        stream = Stream(
            id=f"stream-{secrets.token_hex(12)}", owner=owner, session=session, used=self._clock()
        )
        self._streams[stream.id] = stream
        return stream

    def get(self, name: str, owner: str) -> Stream:
        """A stream of this owner.

        Raises:
            ApiError: 404, there is none, or it is somebody else's.
        """
        stream = self._streams.get(name)
        if stream is None or stream.owner != owner:
            raise ApiError(
                f"There is no stream {name[:100]!r}",
                why=f"it was never opened here, or was closed; {IDLE_SECONDS:.0f} s without use close it",
                fix="Open one: POST /v1/streams.",
                status=404,
                param="stream_id",
                code="stream_not_found",
            )
        stream.used = self._clock()
        return stream

    async def work(self, stream: Stream, piece: Callable[[StreamingSession], T]) -> T:
        """Does a piece of work on a stream, behind those that wait. A caller who goes away changes nothing.

        Raises:
            ApiError: 429, too many pieces wait.
        """
        if stream.waiting >= MOST_WAITING:
            raise ApiError(
                f"{stream.waiting} pieces of work wait for this stream",
                why="frames come faster than they are watched",
                fix="Leave frames out, and send the next one when a reply has come.",
                status=429,
                code="stream_is_behind",
                retry_after=1.0,
            )
        stream.waiting += 1
        done = asyncio.ensure_future(self._run(lambda: piece(stream.session)))
        done.add_done_callback(lambda _: self._came_back(stream))
        return await asyncio.shield(done)

    def _came_back(self, stream: Stream) -> None:
        stream.waiting -= 1
        stream.used = self._clock()

    async def _run(self, piece: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, piece)

    async def remove(self, stream: Stream) -> None:
        """Closes a stream behind its last piece of work, and ends its events."""
        if self._streams.pop(stream.id, None) is None:
            return
        for listener in list(stream.listeners):
            listener.put(None)
        await asyncio.shield(self._run(stream.session.close))

    async def _close_idle(self) -> None:
        now = self._clock()
        for stream in list(self._streams.values()):
            if not stream.waiting and now - stream.used > IDLE_SECONDS:
                await self.remove(stream)

    async def close(self) -> None:
        """Closes all of them."""
        for stream in list(self._streams.values()):
            await self.remove(stream)
        self._thread.shutdown()
