"""One request while it is here: when it came, what it was given, how it ended.

Owns the account of a request; who lets it in and what runs it is `front.py`'s matter. Knows no HTTP.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from foveate.engine import StepOutput
from foveate.engine.async_engine import EngineStoppedError
from foveate.serve.jobs import Job
from foveate.serve.recovery import whole_account

if TYPE_CHECKING:
    from foveate.engine import RequestStatistics
    from foveate.models.records import Prompt
    from foveate.reduce.keep_map import KeepMap
    from foveate.serve.front import EngineFront
    from foveate.serve.watching import RequestWatch

_numbers = itertools.count(1)


class Flight:
    """One request from arrival to end; `async with front.enter() as flight`, or `close` it.

    Attributes:
        prompt: as prepared, before any visual token is dropped; None until then.
        began: when it arrived, on `time.perf_counter`.
        first, ended: when its first and its last output came, seconds after `began`; None until then.
        watch: reads its answers along, where there is one.
        written_before: tokens that engines before this one wrote.
        trace_headers: of its HTTP request, those that name the caller's span.
        outcome: how it ended: a finish reason of its last answer, "error", or "abort" where its reader left.
    """

    def __init__(self, front: EngineFront) -> None:
        self._front = front
        self.id = self._first_id = f"flight-{next(_numbers)}"
        self.began = time.perf_counter()
        self.first: float | None = None
        self.ended: float | None = None
        self.prompt: Prompt | None = None
        self.outcome = "abort"
        self.written_before = 0
        self.trace_headers: dict[str, str] = {}
        self.watch: RequestWatch | None = None
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
        if (read := self._read(held)) is not None:
            yield read
        while self.ended is None:  # the watch may end it before the engine does
            if (read := self._read(await anext(self._outputs))) is not None:
                yield read

    def _read(self, output: StepOutput) -> StepOutput | None:
        read = output if self.watch is None else self.watch.read(output)
        if read is not None:
            self._note(read)
        return read

    def _note(self, output: StepOutput) -> None:
        if output.finished and output.finish_reason is not None:
            self.ended = time.perf_counter() - self.began
            self.outcome = output.finish_reason

    @property
    def statistics(self) -> RequestStatistics:
        """Where its time and tokens went; from the first output on.

        Raises:
            EngineStoppedError: the engine that knew it broke.
        """
        found = self.known_statistics
        if found is None:  # the engine that knew broke in this very moment
            raise EngineStoppedError
        return found

    @property
    def known_statistics(self) -> RequestStatistics | None:
        """The same; None before the engine has taken it."""
        found = self._front.statistics(self.id)
        return (
            found if found is None or not self.written_before else whole_account(found, self.written_before)
        )

    def go_on(self, written: int) -> None:
        """A new engine takes it over, after so many tokens."""
        self.written_before = written
        self.id = f"{self._first_id}-{next(_numbers)}"

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
            if self.watch is not None:
                self.watch.close()
            self._front.leave(self)
            for cleanup in self._cleanups:
                cleanup(self)

    async def __aenter__(self) -> Flight:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
