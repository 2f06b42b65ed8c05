"""The engine as the server sees it: how many requests may be in flight, and what became of each.

Owns the bounded queue, drain, and the life of a request between its arrival and its last token. Knows no HTTP and no
JSON: routes read `Flight`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from foveate.engine import AsyncEngine, EngineConfig, SamplingParameters, StepOutput, VisualBudget
from foveate.serve.errors import ApiError

if TYPE_CHECKING:
    from foveate.engine import Event, RequestStatistics
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt
    from foveate.reduce.keep_map import KeepMap

_log = logging.getLogger(__name__)
_numbers = itertools.count(1)
RECENT = 64  # requests whose durations tell how long a busy server stays busy


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the engine is to do for one request.

    Attributes:
        prompt: messages for `model.prepare`, pictures as bytes; or a prompt that is prepared.
        tenant: requests of different tenants never share cached prefixes.
    """

    prompt: Sequence[dict[str, Any]] | Prompt
    parameters: SamplingParameters
    visual: VisualBudget | None = None
    priority: int = 0
    tenant: str = ""


@dataclass(kw_only=True)
class Refusals:
    """Requests turned away, by reason."""

    counts: dict[str, int] = field(default_factory=dict)

    def count(self, reason: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1


class Flight:
    """One request from arrival to end; `async with front.enter() as flight`, or `close` it.

    Attributes:
        prompt: as prepared, before any visual token is dropped; None until then.
        began: when it arrived, on `time.perf_counter`.
        first, ended: when its first and its last output came, seconds after `began`; None until then.
        outcome: how it ended: a finish reason of its last answer, "error", or "abort" where its reader left.
    """

    def __init__(self, front: EngineFront) -> None:
        self._front = front
        self.id = f"flight-{next(_numbers)}"
        self.began = time.perf_counter()
        self.first: float | None = None
        self.ended: float | None = None
        self.prompt: Prompt | None = None
        self.outcome = "abort"
        self._cleanups: list[Callable[[Flight], None]] = []
        self._outputs: AsyncIterator[StepOutput] | None = None
        self._held: StepOutput | None = None
        self._closed = False

    async def start(self, job: Job) -> None:
        """Hands the job to the engine and waits for the first output, so that a refusal comes before any reply.

        Raises:
            FoveateError: the engine refuses it.
            ApiError: it failed, or the server is stopping.
        """
        self._outputs = self._front.outputs(job, self)
        self._held = await anext(self._outputs)
        self.first = time.perf_counter() - self.began

    async def outputs(self) -> AsyncIterator[StepOutput]:
        """Every output, the first included.

        Raises:
            ApiError: the engine failed on the way.
        """
        assert self._outputs is not None and self._held is not None, "start comes first"
        held, self._held = self._held, None
        self._note(held)
        yield held
        async for output in self._outputs:
            self._note(output)
            yield output

    def _note(self, output: StepOutput) -> None:
        if output.finished and output.finish_reason is not None:
            self.ended = time.perf_counter() - self.began
            self.outcome = output.finish_reason

    @property
    def statistics(self) -> RequestStatistics:
        """Where its time and tokens went; from the first output on."""
        found = self.known_statistics
        assert found is not None, "the engine remembers what has just run"
        return found

    @property
    def known_statistics(self) -> RequestStatistics | None:
        """The same; None before the engine has taken it."""
        return self._front.statistics(self.id)

    @property
    def keep_maps(self) -> tuple[KeepMap | None, ...]:
        """Of each picture; None where all was kept."""
        return self._front.keep_maps(self.id)

    def on_close(self, cleanup: Callable[[Flight], None]) -> None:
        """Called once when it has left, whatever became of it."""
        self._cleanups.append(cleanup)

    def note_prepared(self, prompt: Prompt) -> None:
        """The prompt before reduction."""
        self.prompt = prompt

    async def close(self) -> None:
        """Aborts it if it has not ended, and gives its place back; again is harmless."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._outputs is not None:
                await self._outputs.aclose()  # type: ignore[attr-defined]
        finally:
            self._front.leave(self)
            for cleanup in self._cleanups:
                cleanup(self)

    async def __aenter__(self) -> Flight:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


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
        self.engine = self._make_engine()

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
        """Runs the engine's loop."""
        await self.engine.__aenter__()

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
        await self.engine.close()

    @property
    def not_ready(self) -> str:
        """Why it takes no requests now; empty if it does."""
        return "the server is stopping" if self._draining else ""

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
        """What the engine gives for a job; closing it early aborts.

        Raises:
            FoveateError: the engine refuses it.
            ApiError: its step failed, or the server is stopping.
        """
        stream = self.engine.stream(
            job.prompt,
            job.parameters,
            on_prepared=flight.note_prepared,
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
        return self.engine.engine.request_statistics(request_id)

    def keep_maps(self, request_id: str) -> tuple[KeepMap | None, ...]:
        """What was kept of each of its pictures."""
        return self.engine.engine.keep_maps(request_id)
