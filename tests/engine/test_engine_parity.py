"""The parity matrix: every family, every scenario, equal to plain `transformers.generate` alone, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import Completion, SamplingParameters
from foveate.errors import ModelError

ALL = [*tiny.FAMILIES, *tiny.TEXT_FAMILIES]
COUNT = 10
GREEDY = SamplingParameters(max_tokens=COUNT, top_logprobs=0)
TOLERANCE = 1e-4  # of log-probabilities, in float32
QUESTIONS = (
    "what colour is it",
    "is there a triangle behind the hexagon, and how many red squares are there in the picture",
    "describe the image",
)


def requests(family: Any) -> list[tuple[Any, list[Any], Any]]:
    """(prompt, images, (plain tokens, their log-probabilities)): text, one image, several, different lengths."""
    if not hasattr(family, "asked"):
        counts = (0, 1, 3, 1) if family.has_images else (0, 0, 0, 0)
        family.asked = []
        for index, count in enumerate(counts):
            images = family.pictures(count, seed=index) if count else []
            prompt, _ = family.ask(QUESTIONS[index % len(QUESTIONS)] + " (again)" * (index == 3), images)
            family.asked.append((prompt, images, family.plain(prompt, images, COUNT)))
    return family.asked


def engine_of(family: Any, **fields: Any) -> Engine:
    settings = {"kv_blocks": 800, "block_size": 8, "max_step_tokens": 4096, "poison": True}
    return Engine(family.model, EngineConfig(**{"encoder_cache_bytes": 2**22, **settings, **fields}))


def check(
    engine: Engine,
    asked: list[Any],
    *,
    interrupt: bool = False,
    parameters: SamplingParameters = GREEDY,
) -> None:
    """All run together; each answers, token by token, what plain transformers answers it alone.

    With `interrupt`, whoever runs last after three steps loses its blocks, and later comes back.
    """
    names = [engine.add_request(prompt, parameters) for prompt, _, _ in asked]
    answers = {name: Completion() for name in names}
    steps = 0
    while engine.has_work:
        steps += 1
        for output in engine.step():
            answers[output.request_id].add(output)
        if interrupt and steps == 3:
            engine.scheduler.requeue(engine.scheduler.running[-1])
    engine.check_integrity()
    if interrupt:
        assert any(engine.request_statistics(name).preemptions for name in names)  # type: ignore[union-attr]
    for name, (_, _, plain) in zip(names, asked, strict=True):
        compare(answers[name], plain)


def compare(answer: Any, plain: tuple[list[int], torch.Tensor]) -> None:
    assert answer.token_ids == plain[0]
    got = torch.tensor([one.logprob for one in answer.logprobs], dtype=torch.double)
    assert float((got - plain[1]).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("attention", ["reference", "cpu-batched"])
def test_mixed_batch(name: str, attention: str, family_of: Callable) -> None:
    asked = requests(family_of(name))
    assert max(len(ids) for _, _, (ids, _) in asked) >= 8, "every answer ended at once: nothing was compared"
    answers = [plain for _, _, plain in asked]
    for place, (ids, logprobs) in enumerate(answers):
        for other_ids, other_logprobs in answers[:place]:
            common = min(len(ids), len(other_ids))
            gap = float((logprobs[:common] - other_logprobs[:common]).abs().max())
            assert ids != other_ids or gap > 10 * TOLERANCE, "the requests are not different enough"
    check(engine_of(family_of(name), attention=attention), asked)


@pytest.mark.parametrize("name", ALL)
def test_chunks_of_a_few_tokens(name: str, family_of: Callable) -> None:
    """Boundaries inside images wherever the family allows them, beside answers that run."""
    family = family_of(name)
    engine = engine_of(family, max_step_tokens=7, max_sequences=4)
    cut_inside: list[int] = []
    schedule = engine.scheduler.schedule

    def watched(only: frozenset[str] | None) -> Any:
        plan = schedule(only)
        for work in plan.works:
            spans = work.sequence.request.prompt.spans
            cut_inside.extend(1 for first, last in spans if first < work.stop < last)
        return plan

    engine.scheduler.schedule = watched  # type: ignore[method-assign]
    asked = requests(family)
    check(engine, asked)
    if family.has_images:
        bidirectional = family.model.attention_groups(asked[1][0]) is not None
        crops = name == "gemma3_crops"  # a span of several crops may be cut between two
        assert crops or bool(cut_inside) != bidirectional


@pytest.mark.parametrize("name", ALL)
def test_preempted_and_resumed(name: str, family_of: Callable) -> None:
    """A pool that holds the longest request and little more."""
    family = family_of(name)
    asked = requests(family)
    longest = max(len(prompt.token_ids) for prompt, _, _ in asked) + COUNT
    engine = engine_of(family, block_size=2, kv_blocks=-(-longest // 2), prefix_caching=False)
    short = [one for one in asked if len(one[0].token_ids) + COUNT < longest]
    together = [*asked, *short, *short]
    check(engine, together, interrupt=True)


@pytest.mark.parametrize("name", ALL)
def test_prefix_and_encoder_cache_hits(name: str, family_of: Callable) -> None:
    """The same again, then without the prefixes but with the features, then other questions on the images."""
    family = family_of(name)
    asked = requests(family)
    engine = engine_of(family, block_size=4)
    check(engine, asked)
    encoded = engine.statistics().encoded_images
    check(engine, asked)
    whole_prefix = family.model.attention_groups(asked[0][0]) is not None  # PaliGemma: nothing to share
    assert (engine.prefixes.hit_tokens > 0) != whole_prefix
    engine.store.pool.forget_idle()
    before = engine.prefixes.hit_tokens
    check(engine, asked[:2])
    assert engine.prefixes.hit_tokens == before
    assert engine.statistics().encoded_images == encoded, "an image was encoded although it was cached"
    if family.has_images:
        prompt, images = family.ask("how many", asked[1][1])
        check(engine, [(prompt, images, family.plain(prompt, images, COUNT))])
        assert engine.statistics().encoded_images == encoded
        assert engine.encoder.hits > 0


@pytest.mark.parametrize("scenario", ["together", "chunks", "preempted", "again"])
def test_fovea_nano(scenario: str, nano: Any) -> None:
    """The model that ships. It answers in a word or two, so both sides go on past the end."""
    endless = SamplingParameters(max_tokens=COUNT, top_logprobs=0, ignore_end=True)
    if not hasattr(nano, "asked"):
        nano.asked = []
        for index, count in enumerate((0, 1, 2, 1)):
            images = [tiny.picture(168, 168, 20 + index + i) for i in range(count)]
            prompt, _ = nano.ask(QUESTIONS[index % 3] + "?" * (index == 3), images)
            nano.asked.append((prompt, images, nano.plain(prompt, images, COUNT)))
    fields: dict[str, Any] = {
        "together": {},
        "chunks": {"max_step_tokens": 50, "max_sequences": 4},
        "preempted": {"block_size": 4, "kv_blocks": 100, "prefix_caching": False},
        "again": {},
    }[scenario]
    engine = engine_of(nano, **fields)
    check(engine, nano.asked, interrupt=scenario == "preempted", parameters=endless)
    if scenario == "again":
        check(engine, nano.asked, parameters=endless)
        assert engine.prefixes.hit_tokens > 0


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_engine_draws_what_the_reference_draws(name: str, family_of: Callable) -> None:
    """Sampling with a seed equals our reference decoding of the request alone."""
    family = family_of(name)
    parameters = SamplingParameters(max_tokens=COUNT, temperature=0.8, top_p=0.9, seed=5)
    engine = engine_of(family)
    asked = requests(family)
    names = [engine.add_request(prompt, parameters) for prompt, _, _ in asked]
    answers = engine.run_to_completion()
    for one, (prompt, _, _) in zip(names, asked, strict=True):
        alone = list(family.model.generate(prompt, max_new_tokens=COUNT, temperature=0.8, top_p=0.9, seed=5))
        assert answers[one][0].token_ids == [token.id for token in alone]
        assert answers[one][0].text == "".join(token.text for token in alone)
        assert answers[one][0].finish_reason == alone[-1].finish_reason


def test_taps_see_the_layers_of_the_packed_batch(family_of: Callable) -> None:
    family = family_of("llava")
    seen: list[tuple[Any, dict]] = []
    engine = Engine(
        family.model,
        EngineConfig(kv_blocks=100, tap_layers=(0, 2), encoder_cache_bytes=2**20),
        on_hidden=lambda plan, states: seen.append((plan, dict(states))),
    )
    prompt, images, _ = requests(family)[1]
    engine.generate(prompt, SamplingParameters(max_tokens=2))
    assert [plan.phase for plan, _ in seen] == ["prefill", "decode"]
    theirs = family.hidden_states(prompt, images)
    for plan, states in seen:
        assert set(states) == {0, 2} and all(state.shape[1] == plan.tokens for state in states.values())
    assert float((seen[0][1][0] - theirs[1]).abs().max()) < TOLERANCE
    with pytest.raises(ModelError, match=r"no layer 3 to tap: .* has layers 0 to 2"):
        Engine(family.model, EngineConfig(tap_layers=(3,)))
