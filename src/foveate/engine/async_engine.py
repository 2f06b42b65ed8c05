"""The engine for asyncio: requests from many tasks, steps in a thread, preprocessing in others.

Owns the hand-over between the event loop and the engine: nothing touches the engine while a step runs; arrivals
and aborts wait for the step's end. Images are opened, resized and tokenised in worker threads, so that a large
picture delays nobody's next token. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any

from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.preprocessing import Preprocessor
from foveate.engine.request import Completion, RequestError, SamplingParameters, StepOutput
from foveate.engine.statistics import Listener
from foveate.errors import FoveateError
from foveate.models.records import Prompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

_log = logging.getLogger(__name__)
_Item = StepOutput | BaseException


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
        self._stepper = ThreadPoolExecutor(1, thread_name_prefix="foveate-step")
        self._streams: dict[str, asyncio.Queue[_Item]] = {}
        self._arrivals: list[Callable[[], Awaitable[None]]] = []
        self._outputs: list[StepOutput] = []
        self._aborts: list[str] = []
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False
        self._broke = False
        self._stopped = asyncio.Event()
        self._count = 0

    async def __aenter__(self) -> AsyncEngine:
        self._loop_task = asyncio.create_task(self._serve(), name="foveate engine")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every stream (finish reason "abort"), then the threads."""
        self._closing = True
        self._aborts += list(self._streams)
        self._wake.set()
        if self._loop_task is not None:
            await self._loop_task
        self._stepper.shutdown()
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
        if self._closing or self._loop_task is None:
            raise RequestError("The engine is not running", fix="Use it inside `async with`.")
        prompt = await self._prepare(prompt, images, parameters, keywords)
        if self._broke:
            raise EngineStoppedError
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
            if self._streams.get(request_id) is queue:
                self._aborts.append(request_id)
                self._wake.set()

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
        """Hands the request over between two steps; its refusal is raised here."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keywords["arrival"] = time.perf_counter()  # the wait for the end of a step counts

        async def arrive() -> None:
            if admitted.cancelled():
                return
            if self._closing:
                closed = RequestError("The engine is closing")
                admitted.set_exception(EngineStoppedError() if self._broke else closed)
                return
            error = await self._in_thread(lambda: self.engine.add_request(prompt, parameters, **keywords))
            if error is None:
                self._streams[request_id] = queue
            if admitted.cancelled():
                self._aborts.append(request_id)
            elif error is None:
                admitted.set_result(None)
            else:
                admitted.set_exception(error)

        self._arrivals.append(arrive)
        self._wake.set()
        try:
            await admitted
        except asyncio.CancelledError:  # perhaps in the moment it was let in
            if self._streams.get(request_id) is queue:
                self._aborts.append(request_id)
                self._wake.set()
            raise

    # -- the loop ----------------------------------------------------------------------------------------

    async def wait_stopped(self) -> None:
        """Returns when the loop has ended by an error of its own; every stream has raised `EngineStoppedError`."""
        await self._stopped.wait()

    async def _serve(self) -> None:
        """The loop, and the end of every stream should it break."""
        try:
            await self._run()
        except Exception:  # noqa: BLE001 - whatever it was, nobody may wait for this loop for ever
            _log.exception("the engine's loop broke with %d requests in it", len(self._streams))
            self._closing = self._broke = True
            streams, self._streams = self._streams, {}
            for queue in streams.values():
                queue.put_nowait(EngineStoppedError())
            arrivals, self._arrivals = self._arrivals, []
            for arrive in arrivals:
                await arrive()  # refused
            self._stopped.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._hand_over()
            if not self.engine.has_work:
                if self._closing:
                    return
                await self._wake.wait()
                continue
            error = await self._in_thread(lambda: self._outputs.extend(self.engine.step()))
            outputs, self._outputs = self._outputs, []
            self._deliver(outputs)
            if error is not None:
                self._fail(error)

    async def _in_thread(self, work: Callable[[], Any]) -> BaseException | None:
        """Does it in the engine's thread; what it raised, whatever that is: one request's mistake must not end
        the loop that serves the others."""
        done = asyncio.get_running_loop().run_in_executor(self._stepper, work)
        await asyncio.wait({done})
        return done.exception()

    async def _hand_over(self) -> None:
        for _ in range(len(self._arrivals)):  # one by one: none is lost should another break the loop
            await self._arrivals.pop(0)()
        aborts, self._aborts = self._aborts, []
        for request_id in aborts:
            self.engine.abort(request_id)

    def _deliver(self, outputs: Sequence[StepOutput]) -> None:
        for output in outputs:
            queue = self._streams.get(output.request_id)
            if queue is not None:
                queue.put_nowait(output)
                if output.finished:
                    del self._streams[output.request_id]

    def _fail(self, error: BaseException) -> None:
        """The request a step raised for gets the error; the others go on. While that one is looked for nobody
        does; all get it if none can be to blame."""
        nobody: tuple[str, ...] = () if self.engine.is_searching else tuple(self._streams)
        for request_id in self.engine.failed or nobody:
            queue = self._streams.pop(request_id, None)
            if queue is not None:
                queue.put_nowait(error)
            self.engine.abort(request_id)


def has_pictures(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message has a part that is not text."""
    return any(
        isinstance(part, Mapping) and part.get("type") != "text"
        for message in messages
        if isinstance(parts := message.get("content"), list)
        for part in parts
    )
