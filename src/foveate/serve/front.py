"""The engine as the server sees it: how many requests may be in flight, and what became of each.

Owns the bounded queue, drain, and the life of a request between its arrival and its last token. Knows no HTTP and no
JSON: routes read `Flight`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foveate.engine import AsyncEngine, EngineConfig, EngineStatistics, StepOutput
from foveate.engine.async_engine import EngineStoppedError
from foveate.serve.errors import ApiError
from foveate.serve.fingerprint import ModelDigest
from foveate.serve.flights import Flight
from foveate.serve.jobs import Job
from foveate.serve.recovery import TRIES, Continuation, can_go_on

if TYPE_CHECKING:
    from foveate.engine import Event, RequestStatistics
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.keep_map import KeepMap

_log = logging.getLogger(__name__)
RESTART_SECONDS = 120  # how long a request waits for a new engine
LONGEST_PAUSE = 30.0  # seconds between two starts of an engine that breaks again and again
RECENT = 64  # requests whose durations tell how long a busy server stays busy


@dataclass(kw_only=True)
class Refusals:
    """Requests turned away, by reason."""

    counts: dict[str, int] = field(default_factory=dict)

    def count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1


class EngineFront:
    """Lets requests in while there is room, and counts them until they have left.

    Args:
        max_queue: requests that may wait beside as many as the engine runs at once.
        on_event: told what the engine does; see `foveate.engine.Event`.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        config: EngineConfig | None = None,
        *,
        max_queue: int = 128,
        on_event: Callable[[Event], None] | None = None,
        preprocess_workers: int = 2,
    ) -> None:
        self.model, self.config = model, config or EngineConfig()
        self.digest = ModelDigest(model)
        self._on_event, self._workers = on_event, preprocess_workers
        self.capacity = self.config.max_sequences + max_queue
        self.refusals = Refusals()
        self.restarts = 0
        self._flights: set[Flight] = set()
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._observers: list[Callable[[Flight], None]] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._running = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._pause = 0.0
        self._engine: AsyncEngine | None = self._make_engine()

    def _make_engine(self) -> AsyncEngine:
        return AsyncEngine(
            self.model,
            self.config,
            on_event=self._on_event,
            preprocess_workers=self._workers,
            preprocess_queue=self.capacity + 1,  # the front refuses before that queue does
        )

    # -- life ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Runs the engine's loop, and a new one should it break."""
        await self.engine.__aenter__()
        self.digest.begin()  # so that the first request finds it there
        self._running.set()
        self._supervisor = asyncio.create_task(self._supervise(), name="foveate supervisor")

    async def _supervise(self) -> None:
        while True:
            began = time.monotonic()
            await self.engine.wait_stopped()
            self._running.clear()
            self.restarts += 1
            await self.engine.close()
            # At once the first time; an engine that breaks as soon as it runs is given longer and longer pauses.
            lived = time.monotonic() - began
            self._pause = 0.0 if lived > LONGEST_PAUSE else min(LONGEST_PAUSE, 2 * self._pause + 0.1)
            _log.error("the engine broke after %.0f s; a new one starts in %.1f s", lived, self._pause)
            await asyncio.sleep(self._pause)
            self._engine = None  # its caches are freed before those of the new one are planned
            self._engine = await asyncio.to_thread(self._make_engine)
            await self._engine.__aenter__()
            self._running.set()

    @property
    def engine(self) -> AsyncEngine:
        """The one that runs now.

        Raises:
            EngineStoppedError: it broke, and the next one is not there yet.
        """
        if self._engine is None:
            raise EngineStoppedError
        return self._engine

    async def drain(self, seconds: float) -> bool:
        """Lets nobody in any more, and waits for those inside; False if some are left after that time."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            _log.warning(
                "%d requests are still in flight after %g s of draining", len(self._flights), seconds
            )
            return False
        return True

    async def close(self) -> None:
        """Ends what is in flight and stops the engine."""
        self._draining = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._engine is not None:
            await self._engine.close()

    @property
    def not_ready(self) -> str:
        """Why it takes no requests now; empty if it does."""
        if self._draining:
            return "the server is stopping"
        return "" if self._running.is_set() else "the engine is starting"

    # -- requests ------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests that have arrived and not left."""
        return len(self._flights)

    def watch(self, observer: Callable[[Flight], None]) -> None:
        """`observer` is given every flight that has left."""
        self._observers.append(observer)

    def enter(self) -> Flight:
        """A place for one request.

        Raises:
            ApiError: 503 while the server is stopping, 429 when the queue is full; both say when to try again.
        """
        if reason := self.not_ready:
            self.refusals.count("not_ready")
            raise ApiError(
                "The server takes no requests now", why=reason, fix="Try again shortly.", status=503,
                code="not_ready", retry_after=self.patience,
            )  # fmt: skip
        if len(self._flights) >= self.capacity:
            self.refusals.count("queue_full")
            raise ApiError(
                f"{len(self._flights)} requests are in flight",
                why=f"the server runs {self.config.max_sequences} at once and lets "
                f"{self.capacity - self.config.max_sequences} wait",
                fix="Try again after the time in Retry-After.",
                status=429,
                code="queue_full",
                retry_after=self.patience,
            )
        flight = Flight(self)
        self._flights.add(flight)
        self._empty.clear()
        return flight

    @property
    def patience(self) -> float:
        """Seconds after which a place is likely to be free: as long as recent requests took, in turns."""
        if not self._durations:
            return 1.0
        mean = sum(self._durations) / len(self._durations)
        turns = max(1.0, len(self._flights) / self.config.max_sequences)
        return min(60.0, max(1.0, mean * turns / 2))

    def leave(self, flight: Flight) -> None:
        """A flight has ended, however it did."""
        self._flights.discard(flight)
        if flight.ended is not None:
            self._durations.append(flight.ended)
        if not self._flights:
            self._empty.set()
        for observer in self._observers:
            observer(flight)

    async def outputs(self, job: Job, flight: Flight) -> AsyncIterator[StepOutput]:
        """What the engine gives for a job, and a new engine should one break; closing it early aborts.

        Raises:
            FoveateError: the engine refuses it.
            ApiError: its step failed, the server is stopping, or an engine broke and the answer cannot go on.
        """
        written: list[int] = []
        read: Callable[[StepOutput], StepOutput] = _as_it_is
        current = job
        for attempt in range(TRIES + 1):
            engine = self._engine
            try:
                async for output in self._outputs_once(current, flight):
                    written += output.token_ids
                    yield read(output)
                return
            except EngineStoppedError as error:
                if self._engine is engine:
                    self._running.clear()  # the supervisor may learn of it only after this
                if attempt == TRIES or not can_go_on(job, written, flight.prompt):
                    raise self._lost() from error
            await self._restarted()
            if written:
                assert flight.prompt is not None
                rest = Continuation(self.model, job, flight.prompt, written)
                current, read = rest.job, rest.read
            flight.go_on(len(written))

    async def _outputs_once(self, job: Job, flight: Flight) -> AsyncIterator[StepOutput]:
        stream = self.engine.stream(
            job.prompt,
            job.parameters,
            on_prepared=None if flight.written_before else flight.note_prepared,
            request_id=flight.id,
            priority=job.priority,
            tenant=job.tenant,
            visual=job.visual,
        )
        try:
            async for output in stream:
                if output.finish_reason in ("abort", "error"):
                    flight.outcome = "error"
                    raise self._broken(output.finish_reason)
                yield output
        finally:
            await stream.aclose()  # type: ignore[attr-defined]

    async def _restarted(self) -> None:
        """Waits for a new engine."""
        try:
            async with asyncio.timeout(RESTART_SECONDS):
                await self._running.wait()
        except TimeoutError as error:
            raise self._lost() from error

    def _lost(self) -> ApiError:
        return ApiError(
            "The engine broke in the middle of the answer",
            why="it is being started anew, and this answer cannot go on where it was",
            fix="Send the request again.",
            status=500,
            code="engine_failed",
        )

    def _broken(self, reason: str) -> ApiError:
        if reason == "abort":
            return ApiError(
                "The answer was cut off", why="the server is stopping", fix="Send the request again.",
                status=503, code="server_stopping", retry_after=self.patience,
            )  # fmt: skip
        return ApiError(
            "The model failed on this request",
            why="its output cannot be held to the constraint any further, or a step of it raised an error",
            fix="Change the constraint or the input.",
            status=500,
            code="generation_failed",
        )

    # -- accounts ------------------------------------------------------------------------------------------

    def statistics(self, request_id: str) -> RequestStatistics | None:
        """Of a request that is here or ended not long ago."""
        return None if self._engine is None else self._engine.engine.request_statistics(request_id)

    def keep_maps(self, request_id: str) -> tuple[KeepMap | None, ...]:
        """What was kept of each of its pictures."""
        return self.engine.engine.keep_maps(request_id)

    def engine_statistics(self) -> EngineStatistics:
        """Of the engine that runs now; zeros while there is none."""
        return EngineStatistics() if self._engine is None else self._engine.engine.statistics()


def _as_it_is(output: StepOutput) -> StepOutput:
    return output
