"""A step that raises costs the request it fails for, and no other: by example on a model that can be foretold."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.async_engine import AsyncEngine
from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import SamplingParameters
from foveate.engine.suspects import Suspects
from foveate.models.records import Prompt

CONFIG = EngineConfig(
    block_size=4, kv_blocks=64, max_sequences=8, max_step_tokens=64, encoder_cache_bytes=4096, poison=True
)
EIGHT = SamplingParameters(max_tokens=8)
CURSED = 95  # a token no other prompt holds


class Fragile(FakeModel):
    """Raises where told: on a token, on an image, or on a step of more than so many tokens."""

    def __init__(self, *, image: str = "", token: int = -1, most_tokens: int = 1000) -> None:
        super().__init__()
        self.image, self.token, self.most_tokens = image, token, most_tokens
        self.raised = 0

    def encode(self, media: Any) -> Any:
        self._refuse(any(one.digest == self.image for one in media), "a torn picture")
        return super().encode(media)

    def run_language_model(self, embeds: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        self._refuse(bool((embeds[0, :, 0] == self.token).any()), "a cursed token")
        self._refuse(embeds.shape[1] > self.most_tokens, "out of memory")
        return super().run_language_model(embeds, *arguments, **keywords)

    def _refuse(self, wrong: bool, why: str) -> None:
        if wrong:
            self.raised += 1
            raise RuntimeError(why)


def text(count: int, seed: int = 0) -> Prompt:
    return fake_prompt([(seed * 31 + 7 * index) % 94 + 1 for index in range(count)])


def innocents() -> dict[str, Prompt]:
    prompts = {f"text {seed}": text(3 + seed, seed=seed) for seed in range(4)}
    return {**prompts, "image": fake_prompt([5, fake_image(1, 6), 9])}


def drain(engine: Engine) -> tuple[dict[str, list[int]], dict[str, str], list[str]]:
    """(tokens by request, finish reasons, messages of the steps that raised)."""
    tokens: dict[str, list[int]] = {}
    reasons: dict[str, str] = {}
    errors = []
    while engine.has_work:
        try:
            outputs = engine.step()
        except RuntimeError as error:
            errors.append(str(error))
            continue
        for output in outputs:
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
            if output.finish_reason:
                reasons[output.request_id] = output.finish_reason
    return tokens, reasons, errors


GUILTY = {
    "a prompt": (Fragile(token=CURSED), fake_prompt([1, 2, CURSED, 4])),
    "an image": (Fragile(image="image 7"), fake_prompt([1, fake_image(7, 4), 2])),
    "a prompt beside an image": (Fragile(token=CURSED), fake_prompt([1, fake_image(7, 4), CURSED])),
}


@pytest.mark.parametrize("where", GUILTY)
def test_only_the_guilty_request_ends(where: str) -> None:
    model, guilty = GUILTY[where]
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, prompt in innocents().items():
        engine.add_request(prompt, EIGHT, request_id=name)
    for _ in range(2):
        engine.step()  # some decode when the guilty one comes in
    begun = {one.request.id: list(one.output) for one in engine.scheduler.running}
    engine.add_request(guilty, EIGHT, request_id="guilty")
    tokens, reasons, errors = drain(engine)
    assert reasons.pop("guilty") == "error" and tokens.pop("guilty") == []
    for name, prompt in innocents().items():
        assert begun[name] + tokens[name] == model.foretell(prompt, 8), name
    assert set(reasons.values()) <= {"length", "stop"}
    assert 1 < len(errors) <= 6 and engine.statistics().failed_steps == len(errors)  # six requests: 2 log2 6
    engine.check_integrity()


def test_a_token_of_the_answer_may_be_the_reason() -> None:
    prompt = text(6, seed=2)
    answer = FakeModel().foretell(prompt, 8)
    model = Fragile(token=answer[3])
    others = {
        name: one
        for name, one in innocents().items()
        if answer[3] not in [*one.token_ids, *model.foretell(one, 8)]
    }
    assert len(others) >= 2
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, one in {**others, "guilty": prompt}.items():
        engine.add_request(one, EIGHT, request_id=name)
    tokens, reasons, _ = drain(engine)
    assert tokens.pop("guilty") == answer[:4] and reasons["guilty"] == "error"
    assert tokens == {name: model.foretell(one, 8) for name, one in others.items()}
    engine.check_integrity()


def test_a_step_too_large_for_the_memory_goes_through_in_parts() -> None:
    model = Fragile(most_tokens=12)
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, prompt in innocents().items():
        engine.add_request(prompt, EIGHT, request_id=name)
    tokens, reasons, errors = drain(engine)
    assert tokens == {name: model.foretell(prompt, 8) for name, prompt in innocents().items()}
    assert errors and "error" not in reasons.values()
    engine.check_integrity()


def test_a_failure_that_does_not_come_again_costs_nobody_anything() -> None:
    model = Fragile()
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, prompt in innocents().items():
        engine.add_request(prompt, EIGHT, request_id=name)
    project, engine._head.project = engine._head.project, None  # type: ignore[assignment, method-assign]
    with pytest.raises(TypeError):
        engine.step()  # after the forward: its logits are lost
    assert engine.is_searching and engine.failed == ()
    engine.check_integrity()
    engine._head.project = project  # type: ignore[method-assign]
    tokens, reasons, errors = drain(engine)
    assert tokens == {name: model.foretell(prompt, 8) for name, prompt in innocents().items()}
    assert not errors and "error" not in reasons.values()
    engine.check_integrity()


def test_a_prompt_half_way_in_keeps_its_room() -> None:
    """Else others take it, and the rest of the prompt finds no block."""
    model = Fragile()
    config = EngineConfig(block_size=4, kv_blocks=10, max_sequences=4, max_step_tokens=8, poison=True)
    engine = Engine(model, config)  # type: ignore[arg-type]
    engine.add_request(text(2, seed=1), EIGHT, request_id="short")
    engine.add_request(text(24), EIGHT, request_id="long")
    engine.step()
    model.most_tokens = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.step()
    model.most_tokens = 1000
    [long] = [one for one in engine.scheduler.running if one.request.id == "long"]
    assert 0 < long.computed < 24 and len(engine.store.blocks(long.key)) == 6
    engine.add_request(text(6, seed=4), EIGHT, request_id="urgent", priority=1)
    tokens, reasons, _ = drain(engine)
    assert tokens["long"] == model.foretell(text(24), 8) and "error" not in reasons.values()
    assert tokens["urgent"] == model.foretell(text(6, seed=4), 8)
    engine.check_integrity()


def test_when_nothing_works_every_request_ends() -> None:
    model = Fragile(most_tokens=0)
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, prompt in innocents().items():
        engine.add_request(prompt, EIGHT, request_id=name)
    _, reasons, _ = drain(engine)
    assert reasons == dict.fromkeys(innocents(), "error")
    assert engine.statistics().aborted == len(innocents()) and engine.store.pool.in_use == 0
    engine.check_integrity()


def test_suspects_may_be_aborted_and_others_arrive_during_the_search() -> None:
    model = Fragile(token=CURSED)
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    for name, prompt in innocents().items():
        engine.add_request(prompt, EIGHT, request_id=name)
    engine.add_request(fake_prompt([CURSED]), EIGHT, request_id="guilty")
    with pytest.raises(RuntimeError, match="cursed"):
        engine.step()
    assert engine.abort("guilty") and engine.abort("text 0")
    engine.add_request(text(9, seed=8), EIGHT, request_id="urgent", priority=3)
    tokens, _, errors = drain(engine)
    assert errors == [] and tokens["urgent"] == model.foretell(text(9, seed=8), 8)
    assert tokens["image"] == model.foretell(innocents()["image"], 8)
    engine.check_integrity()


def test_ctrl_c_in_a_step_is_nobody_s_fault() -> None:
    model = Fragile()
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    engine.add_request(text(5), EIGHT, request_id="one")
    forward = model.run_language_model

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    model.run_language_model = interrupted  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    model.run_language_model = forward  # type: ignore[method-assign]
    tokens, _, _ = drain(engine)
    assert tokens["one"] == model.foretell(text(5), 8)
    assert engine.statistics().failed_steps == 0
    engine.check_integrity()


def test_generate_raises_for_its_own_request_only() -> None:
    model = Fragile(token=CURSED)
    engine = Engine(model, CONFIG)  # type: ignore[arg-type]
    engine.add_request(fake_prompt([3, CURSED]), EIGHT, request_id="guilty")
    [answer] = engine.generate(text(6), EIGHT)
    assert answer.token_ids == model.foretell(text(6), 8)
    assert engine.run_to_completion()["guilty"][0].finish_reason == "error"
    engine.add_request(text(5, seed=1), EIGHT, request_id="other")
    with pytest.raises(RuntimeError, match="a cursed token"):
        engine.generate(fake_prompt([CURSED]), EIGHT)
    assert engine.run_to_completion()["other"][0].token_ids == model.foretell(text(5, seed=1), 8)
    engine.check_integrity()


def test_of_many_streams_the_guilty_one_gets_the_error() -> None:
    async def main() -> None:
        model = Fragile(token=CURSED)
        async with AsyncEngine(model, CONFIG) as engine:  # type: ignore[arg-type]
            prompts = [*innocents().values(), fake_prompt([1, CURSED]), text(11, seed=6)]
            answers = await asyncio.gather(
                *(engine.generate(one, EIGHT) for one in prompts), return_exceptions=True
            )
            for prompt, answer in zip(prompts, answers, strict=True):
                if CURSED in prompt.token_ids:
                    assert isinstance(answer, RuntimeError) and str(answer) == "a cursed token"
                else:
                    assert not isinstance(answer, BaseException)
                    assert answer[0].token_ids == model.foretell(prompt, 8)
            [after] = await engine.generate(text(3), EIGHT)
            assert after.token_ids == model.foretell(text(3), 8)
        engine.engine.check_integrity()

    asyncio.run(asyncio.wait_for(main(), timeout=30))


def test_a_failure_that_no_request_can_be_blamed_for_reaches_every_stream() -> None:
    async def main() -> None:
        async with AsyncEngine(FakeModel(), CONFIG) as engine:  # type: ignore[arg-type]

            def schedule(_: Any) -> None:
                raise RuntimeError("the plan is wrong")

            engine.engine.scheduler.schedule = schedule  # type: ignore[assignment, method-assign]
            answers = await asyncio.gather(
                *(engine.generate(text(4, seed=seed), EIGHT) for seed in range(3)), return_exceptions=True
            )
            assert [str(answer) for answer in answers] == ["the plan is wrong"] * 3

    asyncio.run(asyncio.wait_for(main(), timeout=30))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 32])
def test_the_search_ends_with_the_guilty_one_after_few_steps(size: int) -> None:
    names = tuple(f"r{index}" for index in range(size))
    for guilty in names:
        suspects, failures, found = Suspects(), 0, None
        group: Any = names
        while group is not None and found is None:
            if guilty in group:
                failures += 1
                found = suspects.split([name for name in names if name in group])
            group = suspects.draw(lambda _: True)
        assert found == guilty and failures <= size.bit_length() + 1
