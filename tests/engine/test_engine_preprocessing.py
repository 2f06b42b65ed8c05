"""Prompts prepared beside the steps: order, the bound, cancellation, and what it is recorded as."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.async_engine import AsyncEngine, has_pictures
from foveate.engine.config import EngineConfig, EngineConfigError
from foveate.engine.preprocessing import Preprocessor
from foveate.engine.request import RequestError, SamplingParameters
from foveate.models.records import Prompt

CONFIG = EngineConfig(block_size=4, kv_blocks=64, max_sequences=8, max_step_tokens=16, poison=True)
FOUR = SamplingParameters(max_tokens=4)


def run(task: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(task, timeout=30))


class Gate:
    """Work that notes its name and waits until the gate opens."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[str] = []

    def work(self, name: str) -> str:
        self.begun.append(name)
        assert self.open.wait(timeout=20)
        return name


async def start(preprocessor: Preprocessor, gate: Gate, *jobs: tuple[str, int]) -> list[asyncio.Task[Any]]:
    """One task a job (name, priority), in order, each in the queue or with a worker."""
    tasks = []
    for name, priority in jobs:
        work = lambda name=name: gate.work(name)  # noqa: E731
        tasks.append(asyncio.create_task(preprocessor.run(work, priority=priority)))
        await asyncio.sleep(0)
    return tasks


async def begins(gate: Gate, count: int) -> None:
    while len(gate.begun) < count:
        await asyncio.sleep(0.001)


def test_by_priority_then_in_order_of_arrival() -> None:
    async def main() -> None:
        preprocessor, gate = Preprocessor(workers=1, limit=8), Gate()
        tasks = await start(preprocessor, gate, ("a", 0), ("b", 0), ("c", 1), ("d", 0), ("e", 1))
        await begins(gate, 1)
        gate.open.set()
        assert [(await task).value for task in tasks] == ["a", "b", "c", "d", "e"]
        assert gate.begun == ["a", "c", "e", "b", "d"]
        await preprocessor.close()

    run(main())


def test_a_full_queue_refuses_with_both_numbers() -> None:
    async def main() -> None:
        preprocessor, gate = Preprocessor(workers=1, limit=2), Gate()
        tasks = await start(preprocessor, gate, ("runs", 0), ("waits", 0), ("too", 0))
        with pytest.raises(RequestError, match="2 prompts wait to be prepared: the queue holds 2"):
            await preprocessor.run(lambda: None)
        tasks[1].cancel()
        await asyncio.wait({tasks[1]})
        tasks += await start(preprocessor, gate, ("late", 0))  # the place of the cancelled one is free
        assert preprocessor.waiting == 2
        gate.open.set()
        await asyncio.wait(tasks)
        assert gate.begun == ["runs", "too", "late"]
        await preprocessor.close()

    run(main())


def test_no_worker_is_lost_to_cancellation() -> None:
    async def main() -> None:
        preprocessor, gate = Preprocessor(workers=2, limit=8), Gate()
        tasks = await start(preprocessor, gate, ("a", 0), ("b", 0), ("c", 0))
        await begins(gate, 2)
        tasks[0].cancel()  # at work: its worker is busy to the end, and nobody else gets its place
        await asyncio.sleep(0.02)
        assert gate.begun == ["a", "b"] and preprocessor.waiting == 1
        gate.open.set()
        assert (await tasks[2]).value == "c"
        for _ in range(5):  # a turn that comes in the moment of the cancellation goes on to the next
            gate.open.clear()
            held = await start(preprocessor, gate, ("x", 0), ("y", 0), ("z", 0), ("w", 0))
            gate.open.set()
            while not any(turn.done() for _, _, turn in preprocessor._queue) and not held[2].done():
                await asyncio.sleep(0)
            held[2].cancel()
            await asyncio.wait(held)
        while preprocessor._free < 2:
            await asyncio.sleep(0.001)
        assert preprocessor.waiting == 0
        await preprocessor.close()

    run(main())


def test_errors_reach_their_caller_and_leave_the_worker_free() -> None:
    async def main() -> None:
        preprocessor = Preprocessor(workers=1, limit=1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await preprocessor.run(lambda: 1 / 0)
        assert (await preprocessor.run(lambda: 7)).value == 7
        await preprocessor.close()

    run(main())


def test_closing_refuses_what_waits() -> None:
    async def main() -> None:
        preprocessor, gate = Preprocessor(workers=1, limit=4), Gate()
        tasks = await start(preprocessor, gate, ("a", 0), ("b", 0))
        await begins(gate, 1)
        gate.open.set()
        closing = asyncio.create_task(preprocessor.close())
        with pytest.raises(RequestError, match="closing"):
            await tasks[1]
        await closing
        assert (await tasks[0]).value == "a"

    run(main())


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(EngineConfigError, match="preprocess_workers is 0"):
        AsyncEngine(FakeModel(), CONFIG, preprocess_workers=0)  # type: ignore[arg-type]
    with pytest.raises(EngineConfigError, match="preprocess_queue is 0"):
        AsyncEngine(FakeModel(), CONFIG, preprocess_queue=0)  # type: ignore[arg-type]


def message(*kinds: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind} for kind in kinds]}]


def test_text_is_told_from_pictures() -> None:
    assert has_pictures(message("text", "image")) and has_pictures(message("image_url"))
    assert not has_pictures(message("text")) and not has_pictures([{"role": "user", "content": "image"}])


def test_text_does_not_wait_for_pictures_and_the_wait_is_recorded_apart() -> None:
    async def main() -> None:
        model, gate, threads = FakeModel(), Gate(), {}

        def prepare(messages: Any, *, images: Any = (), to_be_reduced: bool = False) -> Prompt:
            kind = messages[0]["content"][0]["type"]
            threads[kind] = threading.current_thread().name
            if kind == "image":
                gate.work(images[0])
                return fake_prompt([1, fake_image(len(images[0]), 3), 2])
            time.sleep(0.002)
            return fake_prompt([3, 4])

        model.prepare = prepare  # type: ignore[attr-defined]
        async with AsyncEngine(model, CONFIG, preprocess_workers=1) as engine:  # type: ignore[arg-type]
            pictures = [
                asyncio.create_task(engine.generate(message("image"), FOUR, images=[name], request_id=name))
                for name in ("first", "second")
            ]
            await begins(gate, 1)
            [answer] = await engine.generate(message("text"), FOUR, request_id="text")
            assert answer.token_ids == model.foretell(fake_prompt([3, 4]), 4)
            assert not any(task.done() for task in pictures)
            await asyncio.sleep(0.05)
            gate.open.set()
            await asyncio.gather(*pictures)
            first, second, words = (
                engine.engine.request_statistics(name) for name in ("first", "second", "text")
            )
        assert first and second and words
        assert first.preprocess_seconds >= 0.05 > first.preprocess_wait_seconds
        assert second.preprocess_wait_seconds >= 0.05 > second.preprocess_seconds
        assert words.preprocess_seconds >= 0.002 and words.preprocess_wait_seconds < 0.05
        assert second.time_to_first_token is not None and second.time_to_first_token >= 0.05
        assert threads["image"] == "foveate-prepare_0" and threads["text"].startswith("foveate-prepare-light")

    run(main())


def test_a_cancelled_request_is_not_prepared() -> None:
    async def main() -> None:
        model, gate = FakeModel(), Gate()

        def prepare(messages: Any, *, images: Any = (), to_be_reduced: bool = False) -> Prompt:
            gate.work(images[0])
            return fake_prompt([1, 2])

        model.prepare = prepare  # type: ignore[attr-defined]
        async with AsyncEngine(model, CONFIG, preprocess_workers=1) as engine:  # type: ignore[arg-type]
            tasks = [
                asyncio.create_task(engine.generate(message("image"), FOUR, images=[name]))
                for name in ("a", "b", "c")
            ]
            await begins(gate, 1)
            tasks[1].cancel()
            await asyncio.wait({tasks[1]})
            gate.open.set()
            await asyncio.gather(tasks[0], tasks[2])
        assert gate.begun == ["a", "c"]
        engine.engine.check_integrity()

    run(main())
