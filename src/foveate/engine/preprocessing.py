"""Preparing prompts beside the steps: who is next, how many wait, how long each took.

Owns the worker threads and their queue; used from one event loop. Knows no engine and no model: it is handed
work. Threads and no processes: Pillow, NumPy and torch let go of the interpreter while they decode, resize and
convert, and pixels need no copying (`benchmarks/preprocessing.py` measures it).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from foveate.engine.config import EngineConfigError
from foveate.engine.request import RequestError
from foveate.engine.threads import use_one_thread

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Prepared(Generic[T]):
    """What the work gave, and seconds it waited for a worker and took."""

    value: T
    waited: float
    worked: float


class Preprocessor:
    """Work starts by priority, then in order of arrival; light work never waits for pictures.

    Args:
        workers: threads for pictures; one more is for light work.
        limit: pieces of work that may wait for a worker.

    Raises:
        EngineConfigError: less than one of either.
    """

    def __init__(self, *, workers: int, limit: int) -> None:
        for name, value in (("preprocess_workers", workers), ("preprocess_queue", limit)):
            if value < 1:
                raise EngineConfigError(f"{name} is {value}", why="it must be 1 or more")
        self._limit, self._free = limit, workers
        self._threads = ThreadPoolExecutor(workers, "foveate-prepare", initializer=use_one_thread)
        self._light = ThreadPoolExecutor(1, "foveate-prepare-light", initializer=use_one_thread)
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0

    @property
    def waiting(self) -> int:
        """Pieces of work without a worker; what was cancelled does not count."""
        return sum(not turn.done() for _, _, turn in self._queue)

    async def run(self, work: Callable[[], T], *, priority: int = 0, light: bool = False) -> Prepared[T]:
        """Does the work in a thread. A caller cancelled while it waits leaves the queue; work that has begun is
        finished unheard, its worker busy until then.

        Raises:
            RequestError: the queue is full, or closed meanwhile.
            Exception: what the work raised.
        """
        asked = time.perf_counter()

        def timed() -> Prepared[T]:
            began = time.perf_counter()
            value = work()
            return Prepared(value=value, waited=began - asked, worked=time.perf_counter() - began)

        if light:
            return await asyncio.wrap_future(self._light.submit(timed))
        await self._turn(priority)
        loop = asyncio.get_running_loop()
        future: Future[Prepared[T]] = self._threads.submit(timed)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))
        return await asyncio.wrap_future(future)

    async def _turn(self, priority: int) -> None:
        if self._free:
            self._free -= 1
            return
        if (waiting := self.waiting) >= self._limit:
            raise RequestError(
                f"{waiting} prompts wait to be prepared",
                why=f"the queue holds {self._limit} (preprocess_queue)",
                fix="Send the request again later.",
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (-priority, self._count, turn))
        self._count += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # its turn had come in that very moment
            raise

    def _release(self) -> None:
        """A worker is free: the next one's turn."""
        while self._queue:
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def close(self) -> None:
        """Refuses what waits and lets what has begun end."""
        while self._queue:
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                turn.set_exception(RequestError("The engine is closing"))
        for threads in (self._threads, self._light):
            await asyncio.to_thread(threads.shutdown)
