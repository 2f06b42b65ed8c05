"""The asyncio front: streams, cancellation, refusals, failures, preprocessing beside the steps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.async_engine import AsyncEngine
from foveate.engine.config import EngineConfig
from foveate.engine.request import RequestError, SamplingParameters
from foveate.engine.statistics import Event
from foveate.models.records import Prompt

CONFIG = EngineConfig(
    block_size=4, kv_blocks=64, max_sequences=8, max_step_tokens=16, encoder_cache_bytes=4096, poison=True
)


def text(count: int, seed: int = 0) -> Prompt:
    return fake_prompt([(seed * 31 + 7 * index) % 95 + 1 for index in range(count)])


def greedy(count: int) -> SamplingParameters:
    return SamplingParameters(max_tokens=count, ignore_end=True)


def run(task: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(task, timeout=30))


def test_many_tasks_are_answered_together() -> None:
    async def main() -> None:
        model = FakeModel()
        prompts = [text(3 + index, seed=index) for index in range(6)]
        prompts.append(fake_prompt([1, fake_image(1, 5), 2]))
        async with AsyncEngine(model, CONFIG) as engine:  # type: ignore[arg-type]
            answers = await asyncio.gather(
                *(engine.generate(one, SamplingParameters(max_tokens=8)) for one in prompts)
            )
            assert engine.engine.statistics().largest_batch >= 4
        for prompt, [answer] in zip(prompts, answers, strict=True):
            assert answer.token_ids == model.foretell(prompt, 8)
        engine.engine.check_integrity()

    run(main())


class Hold:
    """Keeps the engine's thread at one request's first token until `go_on` is set."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, event: Event) -> None:
        if event.kind == "first_token" and event.request_id == self._request_id:
            self._reached.set()
            assert self.go_on.wait(timeout=20)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 20)


def test_closing_the_iterator_aborts_and_returns_the_blocks() -> None:
    async def main() -> None:
        hold = Hold("waiting")
        async with AsyncEngine(FakeModel(), CONFIG, on_event=hold) as engine:  # type: ignore[arg-type]
            stream = engine.stream(text(5), greedy(150))
            other = asyncio.create_task(engine.generate(text(4), greedy(30)))
            seen = [await anext(stream) for _ in range(3)]
            assert [len(output.token_ids) for output in seen] == [1, 1, 1]
            await stream.aclose()
            await other
            waiting = asyncio.create_task(engine.generate(text(6), greedy(150), request_id="waiting"))
            await hold.reached()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            hold.go_on.set()
            [after] = await engine.generate(text(3), greedy(2))
            assert len(after.token_ids) == 2
            assert engine.engine.statistics().aborted == 2
        assert engine.engine.store.pool.in_use == 0
        engine.engine.check_integrity()

    run(main())


def test_a_refused_request_tells_its_caller_alone() -> None:
    async def main() -> None:
        async with AsyncEngine(FakeModel(), CONFIG) as engine:  # type: ignore[arg-type]
            good = asyncio.create_task(engine.generate(text(5), greedy(6)))
            with pytest.raises(RequestError, match="The prompt has 250 tokens"):
                await engine.generate(text(250), greedy(2))
            assert len((await good)[0].token_ids) == 6
        with pytest.raises(RequestError, match="not running"):
            await engine.generate(text(3), greedy(2))

    run(main())


def test_an_unforeseen_mistake_in_one_request_does_not_end_the_engine() -> None:
    async def main() -> None:
        async with AsyncEngine(FakeModel(), CONFIG) as engine:  # type: ignore[arg-type]
            broken = Prompt(token_ids=[1, "two"], media=[], spans=[], text="")  # type: ignore[list-item]
            with pytest.raises(TypeError):
                await engine.generate(broken, greedy(2), priority="high")
            assert len((await engine.generate(text(3), greedy(2)))[0].token_ids) == 2

    run(main())


def test_close_ends_open_streams() -> None:
    async def main() -> None:
        hold = Hold("open")
        async with AsyncEngine(FakeModel(), CONFIG, on_event=hold) as engine:  # type: ignore[arg-type]
            task = asyncio.create_task(engine.generate(text(5), greedy(150), request_id="open"))
            await hold.reached()
            asyncio.get_running_loop().call_later(0.05, hold.go_on.set)  # while `close` waits for the thread
        [answer] = await task
        assert answer.finish_reason == "abort"

    run(main())


def test_preparing_a_prompt_holds_up_nobody() -> None:
    """A request is answered from start to end while another one's picture is still being prepared."""

    async def main() -> None:
        model, go_on, threads = FakeModel(), threading.Event(), []

        def prepare(messages: Any, *, images: Any = (), to_be_reduced: bool = False) -> Prompt:
            threads.append(threading.current_thread().name)
            assert go_on.wait(timeout=20)
            return text(4)

        model.prepare = prepare  # type: ignore[attr-defined]
        async with AsyncEngine(model, CONFIG) as engine:  # type: ignore[arg-type]
            slow = asyncio.create_task(
                engine.generate([{"role": "user", "content": "look"}], greedy(3), request_id="slow")
            )
            await engine.generate(text(5), greedy(6))
            assert not slow.done()
            go_on.set()
            assert len((await slow)[0].token_ids) == 3
            statistics = engine.engine.request_statistics("slow")
            assert statistics is not None and statistics.preprocess_seconds > 0
        assert threads and threads[0].startswith("foveate-prepare")

    run(main())
