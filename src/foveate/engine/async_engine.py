"""The engine for asyncio: requests from many tasks, steps in a thread, preprocessing in others.

Owns the hand-over between the event loop and the engine's thread: the thread alone touches the engine, one step after
the other; arrivals and aborts reach it between two steps, and each step's outputs reach the event loop at once, so that
no step waits for the loop. Images are opened, resized and tokenised in worker threads, so that a large picture delays
nobody's next token. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.preprocessing import Preprocessor
from foveate.engine.request import Completion, RequestError, SamplingParameters, StepOutput
from foveate.engine.statistics import Listener
from foveate.engine.threads import release_team
from foveate.errors import FoveateError
from foveate.models.records import Prompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

_log = logging.getLogger(__name__)
_Item = StepOutput | BaseException


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """A request on its way into the engine; `admitted` is a future of the event loop's."""

    request_id: str
    prompt: Prompt
    parameters: SamplingParameters | None
    keywords: dict[str, Any]
    queue: asyncio.Queue[_Item]
    admitted: asyncio.Future[None]


class EngineStoppedError(FoveateError):
    """The engine's loop ended by an error of its own; this engine serves nobody any more."""

    def __init__(self) -> None:
        super().__init__("The engine has stopped", why="an error in its loop, which the log describes")


class AsyncEngine:
    """`async with AsyncEngine(model) as engine: async for output in engine.stream(...)`.

    Args:
        preprocess_workers: threads that open and resize pictures and compile constraints. Text has a thread of
            its own and never waits for a picture.
        preprocess_queue: prompts that may wait for such a thread; the next one is refused.

    Raises:
        EngineConfigError: settings that cannot work.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        config: EngineConfig | None = None,
        *,
        on_event: Listener | None = None,
        preprocess_workers: int = 2,
        preprocess_queue: int = 1024,
    ) -> None:
        self._preprocessor = Preprocessor(workers=preprocess_workers, limit=preprocess_queue)
        self.engine = Engine(model, config, on_event=on_event)
        # Of the event loop alone: who reads which request.
        self._streams: dict[str, asyncio.Queue[_Item]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()
        self._count = 0
        # Of the thread alone.
        self._live: set[str] = set()
        # Of both, under the lock of `_mail`.
        self._mail = threading.Condition()
        self._arrivals: deque[_Arrival] = deque()
        self._aborts: list[str] = []
        self._closing = False
        self._broke = False
        self._thread = threading.Thread(target=self._run, name="foveate-step", daemon=True)

    async def __aenter__(self) -> AsyncEngine:
        self._loop = asyncio.get_running_loop()
        release_team()
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every stream (finish reason "abort"), then the threads."""
        with self._mail:
            self._closing = True
            self._mail.notify()
        if self._loop is not None:
            await asyncio.to_thread(self._thread.join)
        await self._preprocessor.close()

    # -- requests ----------------------------------------------------------------------------------------

    async def stream(
        self,
        prompt: Prompt | Sequence[Mapping[str, Any]],
        parameters: SamplingParameters | None = None,
        *,
        images: Sequence[Any] = (),
        on_prepared: Callable[[Prompt], None] | None = None,
        **keywords: Any,
    ) -> AsyncIterator[StepOutput]:
        """Outputs of one request as they come; closing the iterator early aborts the request.

        `on_prepared` is given the prompt before any of its visual tokens is dropped; `keywords` go to
        `Engine.add_request` (priority, tenant, request_id, visual).

        Raises:
            RequestError, PromptError, MediaError: the request cannot be served.
            Exception: what the model raised for this request.
        """
        if self._broke:
            raise EngineStoppedError
        if self._closing or self._loop is None:
            raise RequestError("The engine is not running", fix="Use it inside `async with`.")
        prompt = await self._prepare(prompt, images, parameters, keywords)
        if on_prepared is not None:
            on_prepared(prompt)
        request_id = keywords.setdefault("request_id", None) or f"stream-{self._count}"
        keywords["request_id"] = request_id
        self._count += 1
        queue: asyncio.Queue[_Item] = asyncio.Queue()
        await self._arrive(request_id, prompt, parameters, keywords, queue)
        try:
            while True:
                item = await queue.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if item.finished:
                    return
        finally:
            self._leave(request_id, queue)

    async def generate(
        self,
        prompt: Prompt | Sequence[Mapping[str, Any]],
        parameters: SamplingParameters | None = None,
        **keywords: Any,
    ) -> list[Completion]:
        """The n whole answers."""
        answers: dict[int, Completion] = {}
        async for output in self.stream(prompt, parameters, **keywords):
            answers.setdefault(output.index, Completion(index=output.index)).add(output)
        return [answers[index] for index in sorted(answers)]

    async def _prepare(
        self,
        prompt: Prompt | Sequence[Mapping[str, Any]],
        images: Sequence[Any],
        parameters: SamplingParameters | None,
        keywords: dict[str, Any],
    ) -> Prompt:
        """The prompt, made beside the steps; adds to `keywords` how long that took."""
        constraint = None if parameters is None else parameters.constraint
        if isinstance(prompt, Prompt):
            if constraint is None:
                return prompt
            light = False
        else:
            light = constraint is None and not images and not has_pictures(prompt)

        reduced = keywords.get("visual") is not None

        def work() -> Prompt:
            made = (
                prompt
                if isinstance(prompt, Prompt)
                else self.engine.model.prepare(prompt, images=images, to_be_reduced=reduced)
            )
            if constraint is not None:  # a large grammar takes a while; now the engine finds it compiled
                self.engine.constraints.compile(constraint)
            return made

        done = await self._preprocessor.run(work, priority=keywords.get("priority", 0), light=light)
        keywords["preprocess_wait_seconds"], keywords["preprocess_seconds"] = done.waited, done.worked
        return done.value

    async def _arrive(
        self,
        request_id: str,
        prompt: Prompt,
        parameters: SamplingParameters | None,
        keywords: dict[str, Any],
        queue: asyncio.Queue[_Item],
    ) -> None:
        """Hands the request to the thread; its refusal is raised here."""
        loop = asyncio.get_running_loop()
        keywords["arrival"] = time.perf_counter()  # the wait for the end of a step counts
        arrival = _Arrival(
            request_id=request_id,
            prompt=prompt,
            parameters=parameters,
            keywords=keywords,
            queue=queue,
            admitted=loop.create_future(),
        )
        with self._mail:
            if self._closing:
                raise EngineStoppedError if self._broke else RequestError("The engine is closing")
            self._arrivals.append(arrival)
            self._mail.notify()
        try:
            await arrival.admitted
        except asyncio.CancelledError:  # perhaps in the moment it was let in
            self._leave(request_id, queue)
            raise

    # -- in the event loop -------------------------------------------------------------------------------

    async def wait_stopped(self) -> None:
        """Returns when the loop of steps has ended by an error of its own; every stream has raised
        `EngineStoppedError`."""
        await self._stopped.wait()

    def _leave(self, request_id: str, queue: asyncio.Queue[_Item]) -> None:
        """Nobody reads this request any more; harmless if it has ended."""
        if self._streams.get(request_id) is queue:
            with self._mail:
                self._aborts.append(request_id)
                self._mail.notify()

    def _admitted(self, arrival: _Arrival, error: BaseException | None) -> None:
        if error is None:
            self._streams[arrival.request_id] = arrival.queue
        if arrival.admitted.cancelled():
            self._leave(arrival.request_id, arrival.queue)
        elif error is None:
            arrival.admitted.set_result(None)
        else:
            arrival.admitted.set_exception(error)

    def _hand_out(self, outputs: Sequence[StepOutput]) -> None:
        for output in outputs:
            queue = self._streams.get(output.request_id)
            if queue is not None:
                queue.put_nowait(output)
                if output.finished:
                    del self._streams[output.request_id]

    def _raise_in(self, requests: Sequence[str], error: BaseException) -> None:
        for request_id in requests:
            queue = self._streams.pop(request_id, None)
            if queue is not None:
                queue.put_nowait(error)

    def _end_broken(self) -> None:
        """The thread has ended by an error: nobody may wait for it for ever."""
        streams, self._streams = self._streams, {}
        for queue in streams.values():
            queue.put_nowait(EngineStoppedError())
        while self._arrivals:
            arrival = self._arrivals.popleft()
            if not arrival.admitted.done():
                arrival.admitted.set_exception(EngineStoppedError())
        self._stopped.set()

    # -- in the thread -----------------------------------------------------------------------------------

    def _tell_loop(self, call: Callable[..., None], *arguments: Any) -> None:
        """Calls are made in the order in which they are told."""
        assert self._loop is not None, "the thread starts when there is a loop"
        self._loop.call_soon_threadsafe(call, *arguments)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException:  # noqa: BLE001 - whatever it was, the streams must learn of it
            _log.exception("the engine's loop broke with %d requests in it", len(self._live))
            with self._mail:
                self._closing = self._broke = True
            self._tell_loop(self._end_broken)

    def _turn(self) -> bool:
        """Takes the mail and makes a step; False when all is done and nothing more will come."""
        with self._mail:
            while not (self._arrivals or self._aborts or self._closing or self.engine.has_work):
                self._mail.wait()
            count, closing = len(self._arrivals), self._closing
            aborts, self._aborts = self._aborts, []
        for _ in range(count):  # one by one: none is lost should another break the loop
            self._admit(closing)
        for request_id in self._live if closing else aborts:
            self.engine.abort(request_id)
        if not self.engine.has_work:
            return not closing
        try:
            outputs = self.engine.step()
        except BaseException as error:  # noqa: BLE001 - one request's mistake must not end the others
            self._fail(error)
        else:
            self._deliver(outputs)
        return True

    def _admit(self, closing: bool) -> None:
        with self._mail:
            arrival = self._arrivals[0]
        error: BaseException | None = None
        if closing:
            error = RequestError("The engine is closing")
        elif not arrival.admitted.cancelled():
            try:
                self.engine.add_request(arrival.prompt, arrival.parameters, **arrival.keywords)
                self._live.add(arrival.request_id)
            except BaseException as refusal:  # noqa: BLE001 - its caller is told, whatever it is
                error = refusal
        with self._mail:
            self._arrivals.popleft()
        self._tell_loop(self._admitted, arrival, error)

    def _deliver(self, outputs: Sequence[StepOutput]) -> None:
        self._live.difference_update(output.request_id for output in outputs if output.finished)
        self._tell_loop(self._hand_out, outputs)

    def _fail(self, error: BaseException) -> None:
        """The request a step raised for gets the error; the others go on. While that one is looked for nobody
        does; all get it if none can be to blame."""
        nobody: tuple[str, ...] = () if self.engine.is_searching else tuple(self._live)
        to_blame = self.engine.failed or nobody
        self._tell_loop(self._raise_in, to_blame, error)
        for request_id in to_blame:
            self.engine.abort(request_id)
            self._live.discard(request_id)


def has_pictures(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message has a part that is not text."""
    return any(
        isinstance(part, Mapping) and part.get("type") != "text"
        for message in messages
        if isinstance(parts := message.get("content"), list)
        for part in parts
    )
