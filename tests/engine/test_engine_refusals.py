"""Bad requests are refused when they come, with both numbers named, and the others in flight go on untouched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.async_engine import AsyncEngine
from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import RequestError, SamplingParameters
from foveate.errors import PromptError
from foveate.models.records import Prompt

CONFIG = EngineConfig(
    block_size=4, kv_blocks=16, max_sequences=8, max_step_tokens=16, encoder_cache_bytes=128, poison=True
)
EIGHT = SamplingParameters(max_tokens=8)


class TextOnly(FakeModel):
    """Takes no images."""

    accepts_images = False


def text(count: int, seed: int = 0) -> Prompt:
    return fake_prompt([(seed * 31 + 7 * index) % 95 + 1 for index in range(count)])


IN_FLIGHT = {"one": text(5), "two": text(9, seed=2), "three": text(3, seed=4)}
BAD: dict[str, tuple[type[FakeModel], Prompt, dict[str, Any], str]] = {
    "context": (
        FakeModel,
        text(250),
        {},
        r"The prompt has 250 tokens: the model's context of 200 leaves no room",
    ),
    "never fits": (
        FakeModel,
        text(30),
        {"max_tokens": 60},
        r"may take 89 tokens of keys and values: the whole cache holds 64",
    ),
    "large image": (
        FakeModel,
        fake_prompt([1, fake_image(0, 40)]),
        {"max_tokens": 2},
        r"Image 1 takes 160 bytes once encoded: the encoder cache holds 128",
    ),
    "image for a text-only model": (
        TextOnly,
        fake_prompt([1, fake_image(0, 4), fake_image(1, 4)]),
        {"max_tokens": 2},
        r"The prompt has 2 images: the model is text-only and takes 0",
    ),
    "negative temperature": (
        FakeModel,
        text(3),
        {"temperature": -0.5},
        r"temperature is -0\.5: it must be 0 \(greedy\) or more",
    ),
    "no number": (
        FakeModel,
        text(3),
        {"temperature": float("nan")},
        r"temperature is nan: it must be 0 \(greedy\) or more",
    ),
    "n too large": (
        FakeModel,
        text(3),
        {"n": 9, "temperature": 1.0, "max_tokens": 2},
        r"n is 9: at most 8 answers run at once",
    ),
    "n of one answer": (FakeModel, text(3), {"n": 2}, r"n is 2 at temperature 0"),
    "unknown token": (
        FakeModel,
        text(3),
        {"logit_bias": {97: 1.0}, "max_tokens": 2},
        r"token 97: the vocabulary has 97 tokens",
    ),
    "empty": (FakeModel, fake_prompt([]), {}, r"The prompt has 0 tokens"),
}


def expected(model: FakeModel) -> dict[str, list[int]]:
    return {name: model.foretell(prompt, 8) for name, prompt in IN_FLIGHT.items()}


@pytest.mark.parametrize("kind", BAD)
def test_refused_while_others_run(kind: str) -> None:
    make, prompt, fields, message = BAD[kind]
    model = make()
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, other in IN_FLIGHT.items():
        engine.add_request(other, EIGHT, request_id=name)
    outputs = engine.step()
    before = (engine.statistics(), engine.store.pool.in_use, list(engine.scheduler.waiting))
    with pytest.raises(RequestError, match=message) as refusal:
        engine.add_request(prompt, SamplingParameters(**fields), request_id="bad")
    assert kind == "empty" or refusal.value.fix, "it says what to do"
    assert before == (engine.statistics(), engine.store.pool.in_use, list(engine.scheduler.waiting))
    while engine.has_work:
        outputs += engine.step()
    got = {name: [o.token_ids[0] for o in outputs if o.request_id == name] for name in IN_FLIGHT}
    assert got == expected(model)
    assert engine.request_statistics("bad") is None
    engine.add_request(text(4), EIGHT, request_id="bad")  # its name is free, and so is its place
    assert engine.run_to_completion()["bad"][0].token_ids == model.foretell(text(4), 8)
    engine.check_integrity()


@pytest.mark.parametrize("kind", BAD)
def test_refused_to_its_own_task_alone(kind: str) -> None:
    make, prompt, fields, message = BAD[kind]

    async def main() -> None:
        model = make()
        async with AsyncEngine(model, CONFIG) as engine:  # type: ignore[arg-type]
            tasks = {
                name: asyncio.create_task(engine.generate(other, EIGHT)) for name, other in IN_FLIGHT.items()
            }
            while not engine.engine.statistics().steps:
                await asyncio.sleep(0)
            with pytest.raises(RequestError, match=message):
                await engine.generate(prompt, SamplingParameters(**fields))
            got = {name: (await task)[0].token_ids for name, task in tasks.items()}
            assert got == expected(model)
        engine.engine.check_integrity()

    asyncio.run(asyncio.wait_for(main(), timeout=30))


def test_a_name_in_use_is_refused() -> None:
    model = FakeModel()
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    engine.add_request(text(5), EIGHT, request_id="good")
    with pytest.raises(RequestError, match="'good' is in use"):
        engine.add_request(text(6), EIGHT, request_id="good")
    assert engine.run_to_completion()["good"][0].token_ids == model.foretell(text(5), 8)


def test_messages_with_an_image_or_too_many_words_are_refused_by_a_real_model(family_of: Callable) -> None:
    """What `prepare` refuses never reaches the engine, in line or in a worker."""
    family = family_of("llama")
    limit = family.model.context_length
    picture = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what is this"}]}
    words = {"role": "user", "content": "word " * (limit + 1)}
    cases = (([picture], [object()], "is a text-only model"), ([words], [], rf"tokens.*{limit}"))

    async def main() -> None:
        async with AsyncEngine(family.model, EngineConfig(kv_blocks=64)) as engine:
            good = asyncio.create_task(engine.generate([{"role": "user", "content": "hello"}], EIGHT))
            for messages, images, message in cases:
                with pytest.raises(PromptError, match=message):
                    await engine.generate(messages, EIGHT, images=images)
                with pytest.raises(PromptError, match=message):
                    Engine(family.model, EngineConfig(kv_blocks=64)).generate(messages, EIGHT, images=images)
            assert (await good)[0].token_ids
        engine.engine.check_integrity()

    asyncio.run(asyncio.wait_for(main(), timeout=60))
