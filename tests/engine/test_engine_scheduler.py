"""Scheduling by example, on a model whose answers plain Python foretells: order, fairness, room, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.config import EngineConfig, EngineConfigError
from foveate.engine.engine import Engine
from foveate.engine.request import RequestError, SamplingParameters
from foveate.engine.statistics import Event


def make(model: FakeModel | None = None, **fields: Any) -> tuple[Engine, FakeModel, list[Any]]:
    """An engine, its model, and the plans it makes as they come."""
    model = model or FakeModel()
    settings = {"block_size": 4, "kv_blocks": 64, "max_sequences": 8, "max_step_tokens": 16, "poison": True}
    engine = Engine(model, EngineConfig(**{"encoder_cache_bytes": 4096, **settings, **fields}))
    plans: list[Any] = []
    schedule = engine.scheduler.schedule

    def recorded(only: Any = None) -> Any:
        plans.append(schedule(only))
        return plans[-1]

    engine.scheduler.schedule = recorded  # type: ignore[method-assign]
    return engine, model, plans


def text(count: int, seed: int = 0) -> Any:
    return fake_prompt([(seed * 31 + 7 * index) % 95 + 1 for index in range(count)])


def greedy(count: int) -> SamplingParameters:
    return SamplingParameters(max_tokens=count, ignore_end=True)


def test_a_mixed_batch_answers_as_foretold() -> None:
    engine, model, plans = make()
    prompts = {
        "text": text(9),
        "image": fake_prompt([5, fake_image(1, 7), 9, 8]),
        "two": fake_prompt([fake_image(2, 3), 4, fake_image(1, 7), 3, 2]),
        "long": text(60, seed=2),
        "one": text(1, seed=3),
    }
    for name, prompt in prompts.items():
        engine.add_request(prompt, SamplingParameters(max_tokens=9), request_id=name)
    answers = engine.run_to_completion()
    for name, prompt in prompts.items():
        assert answers[name][0].token_ids == model.foretell(prompt, 9), name
    assert any(plan.phase == "mixed" for plan in plans)
    assert sorted(model.encoded) == ["image 1", "image 2"]
    engine.check_integrity()


def test_answers_that_run_get_a_token_each_step_while_a_long_prompt_comes_in() -> None:
    engine, _, plans = make(kv_blocks=200)
    for index in range(5):
        engine.add_request(text(3, seed=index), greedy(40), request_id=f"short-{index}")
    engine.step()
    engine.add_request(text(110, seed=9), greedy(3), request_id="long")
    plans.clear()
    while not any(output.request_id == "long" for output in engine.step()):
        assert len([work for work in plans[-1].works if work.phase == "decode"]) == 5
        assert plans[-1].tokens == 16
    assert len(plans) == 10  # 110 tokens at 16 - 5 a step


def test_a_short_prompt_is_not_kept_from_coming_in_by_answers() -> None:
    engine, _, plans = make(max_sequences=15)
    for index in range(15):
        engine.add_request(text(1, seed=index), greedy(10), request_id=str(index))
    engine.step()
    assert len(plans[-1].works) == 15
    engine.abort("3")
    engine.add_request(text(2, seed=40), greedy(2), request_id="late")
    engine.step()
    assert [work.stop for work in plans[-1].works if work.sequence.request.id == "late"] == [2]


def test_first_come_first_served_within_a_priority() -> None:
    engine, _, plans = make(max_sequences=2)
    for name, priority in (("a", 0), ("b", 0), ("c", 0), ("urgent", 1)):
        engine.add_request(text(4, seed=ord(name[0])), greedy(3), request_id=name, priority=priority)
    engine.run_to_completion()
    order = [one.request.id for plan in plans for one in plan.admitted]
    assert order == ["urgent", "a", "b", "c"]


def test_a_higher_priority_takes_the_place_of_a_lower_one_that_loses_nothing() -> None:
    engine, model, plans = make(max_sequences=1, prefix_caching=False)
    engine.add_request(text(4), greedy(12), request_id="low")
    for _ in range(5):
        engine.step()
    engine.add_request(text(6, seed=1), greedy(4), request_id="high", priority=5)
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    high, low = ([o.token_ids[0] for o in outputs if o.request_id == name] for name in ("high", "low"))
    assert [o.request_id for o in outputs if o.finished] == ["high", "low"]
    assert high == model.foretell(text(6, seed=1), 4)
    assert low == model.foretell(text(4), 12)[5:]
    assert sum(len(plan.preempted) for plan in plans) == 1


def test_nobody_is_preempted_for_a_request_that_would_not_fit_all_the_same() -> None:
    engine, _, plans = make(kv_blocks=10, prefix_caching=False)
    engine.add_request(text(20), greedy(12), request_id="high", priority=2)
    engine.add_request(text(4, seed=1), greedy(6), request_id="low")
    for _ in range(3):
        engine.step()
    assert len(engine.scheduler.running) == 2
    engine.add_request(text(30, seed=2), greedy(2), request_id="large", priority=1)
    ends = [output.request_id for _ in range(30) for output in engine.step() if output.finished]
    assert ends == ["low", "high", "large"]
    assert not any(plan.preempted for plan in plans)


def test_names_given_by_callers_and_by_the_engine_do_not_clash() -> None:
    engine, _, _ = make()
    names = [engine.add_request(text(3), greedy(2), request_id=one) for one in ("request-1", None, None)]
    assert len(set(names)) == 3
    assert set(engine.run_to_completion()) == set(names)


def test_preempted_answers_lose_nothing() -> None:
    engine, model, _ = make(kv_blocks=7, prefix_caching=False)
    seeded = SamplingParameters(max_tokens=14, temperature=1.5, seed=4, ignore_end=True, stop=("\u4e05",))
    parameters = {"a": greedy(16), "b": seeded, "c": greedy(14), "d": seeded}
    for index, (name, one) in enumerate(parameters.items()):
        engine.add_request(text(5 + index, seed=index), one, request_id=name)
    answers = engine.run_to_completion()
    assert engine.statistics().preemptions >= 2
    for index, (name, one) in enumerate(parameters.items()):
        [alone] = make()[0].generate(text(5 + index, seed=index), one)
        assert answers[name][0] == alone, name
    foretold = model.foretell(text(5), 16)
    assert answers["a"][0].token_ids[: len(foretold)] == foretold
    engine.check_integrity()


def test_a_chunk_never_ends_inside_a_bidirectional_span() -> None:
    engine, model, plans = make(FakeModel(bidirectional=True), max_step_tokens=9)
    prompts = [
        fake_prompt([1, 2, 3, fake_image(1, 6), 4, fake_image(2, 12), 5, 6]),  # 12 exceed a step's 9
        fake_prompt([fake_image(3, 5), fake_image(4, 5), 7]),
    ]
    names = [engine.add_request(prompt, greedy(5)) for prompt in prompts]
    answers = engine.run_to_completion()
    for plan in plans:
        for work in plan.works:
            assert work.sequence.layout.cut(0, work.stop) == work.stop
            assert work.sequence.layout.cut(0, work.start) == work.start
    spans = [(work.start, work.stop) for plan in plans for work in plan.works if work.phase == "prefill"]
    assert (10, 22) in spans  # the large span runs whole, though it exceeds the step
    for name, prompt in zip(names, prompts, strict=True):
        assert answers[name][0].token_ids == model.foretell(prompt, 5)


def test_a_span_that_does_not_fit_beside_another_prompt_waits_for_the_next_step() -> None:
    engine, _, plans = make(FakeModel(bidirectional=True), max_step_tokens=9)
    engine.add_request(text(6), greedy(2))
    engine.add_request(fake_prompt([fake_image(1, 5), 1, 2]), greedy(2))
    engine.run_to_completion()
    assert [plan.tokens for plan in plans[:2]] == [6, 1 + 7]


def test_images_wait_for_room_in_the_encoder_cache() -> None:
    """Room for one image of 8 tokens at a time: every chunk ends where the next image begins."""
    engine, model, plans = make(encoder_cache_bytes=8 * 4, max_step_tokens=40)
    prompts = [fake_prompt([1, fake_image(2 * i, 8), 2, fake_image(2 * i + 1, 8), 3]) for i in range(3)]
    names = [engine.add_request(prompt, greedy(4)) for prompt in prompts]
    answers = engine.run_to_completion()
    for name, prompt in zip(names, prompts, strict=True):
        assert answers[name][0].token_ids == model.foretell(prompt, 4)
    assert all(len(plan.encodes) <= 1 for plan in plans)
    engine.check_integrity()


def test_answers_of_one_request_share_the_prompt() -> None:
    parameters = SamplingParameters(max_tokens=6, temperature=2.0, seed=8, n=4, ignore_end=True)
    engine, _, plans = make(prefix_caching=False)
    answers = engine.generate(text(10), parameters)
    assert [answer.index for answer in answers] == [0, 1, 2, 3]
    assert len({tuple(answer.token_ids) for answer in answers}) == 4
    assert sum(work.tokens for plan in plans for work in plan.works if work.phase == "prefill") == 10
    assert engine.statistics().most_blocks_in_use <= 2 + 4 * 2 + 4  # two whole blocks are shared
    [alone] = make()[0].generate(
        text(10), SamplingParameters(max_tokens=6, temperature=2.0, seed=8, ignore_end=True)
    )
    assert answers[0].token_ids == alone.token_ids
    engine.check_integrity()


def test_answers_still_to_split_off_have_their_places() -> None:
    engine, _, plans = make(max_sequences=4)
    parameters = SamplingParameters(max_tokens=5, temperature=1.0, n=3, ignore_end=True)
    names = [engine.add_request(text(20, seed=index), parameters) for index in range(3)]
    answers = engine.run_to_completion()
    assert [len(answers[name]) for name in names] == [3, 3, 3]
    assert (
        max(len(plan.works) for plan in plans) == 3
    )  # a second request of three does not fit beside the first


def test_abort_at_any_moment_returns_everything() -> None:
    for moment in range(9):
        engine, model, _ = make(max_step_tokens=9, prefix_caching=False)
        parameters = SamplingParameters(max_tokens=9, temperature=1.0, seed=1, n=3, ignore_end=True)
        prompt = fake_prompt([3, fake_image(1, 9), 4, 5, 6, 7, 8])
        engine.add_request(prompt, parameters, request_id="aborted")
        engine.add_request(text(7), greedy(5), request_id="stays")
        outputs = [output for _ in range(moment) for output in engine.step()]
        assert engine.abort("aborted") and not engine.abort("aborted") and not engine.abort("nobody")
        engine.check_integrity()
        while engine.has_work:
            outputs += engine.step()
        ends = [output for output in outputs if output.request_id == "aborted" and output.finish_reason]
        assert ends and {output.finish_reason for output in ends} == {"abort"}
        assert [output.finished for output in ends] == [False] * (len(ends) - 1) + [True]
        stays = [output.token_ids[0] for output in outputs if output.request_id == "stays"]
        assert stays == model.foretell(text(7), 5)
        engine.check_integrity()


def test_a_listener_may_abort_in_the_middle_of_a_step() -> None:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if event.kind == "first_token":
            engine.abort("x")

    engine = Engine(FakeModel(), EngineConfig(kv_blocks=9, encoder_cache_bytes=0), on_event=listen)
    engine.add_request(text(3), greedy(20), request_id="x")
    answers = engine.run_to_completion()
    assert len(answers["x"][0].token_ids) == 1 and answers["x"][0].finish_reason == "abort"
    assert [event.kind for event in events] == ["added", "admitted", "first_token", "step", "aborted"]
    engine.check_integrity()


def test_a_span_of_images_larger_than_the_encoder_cache_is_refused() -> None:
    class OneSpan(FakeModel):
        def attention_groups(self, prompt: Any) -> torch.Tensor:
            return torch.zeros(len(prompt.token_ids), dtype=torch.long)

    engine, _, _ = make(OneSpan(), encoder_cache_bytes=100)
    with pytest.raises(
        RequestError, match=r"2 images that must be read together take 160 bytes .* holds 100"
    ):
        engine.add_request(fake_prompt([fake_image(0, 20), 1, fake_image(1, 20)]), greedy(2))


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(EngineConfigError, match=r"max_step_tokens is 8: it must exceed max_sequences \(8\)"):
        EngineConfig(max_step_tokens=8, max_sequences=8)
    with pytest.raises(EngineConfigError, match="block_size is 0"):
        EngineConfig(block_size=0)
    with pytest.raises(EngineConfigError, match=r"takes 128 bytes .* 90 bytes are left"):
        Engine(FakeModel(), EngineConfig(memory_bytes=100))


def test_every_reason_to_end() -> None:
    engine, model, _ = make()
    foretold = model.foretell(text(195), 5)
    assert 0 not in foretold
    cases = {
        "context": (SamplingParameters(max_tokens=20), foretold),
        "length": (SamplingParameters(max_tokens=3), foretold[:3]),
        "token": (SamplingParameters(max_tokens=20, stop_token_ids=(foretold[2],)), foretold[:3]),
        "text": (SamplingParameters(max_tokens=20, stop=(letters(foretold[1:3]),)), foretold[:3]),
        "late": (SamplingParameters(max_tokens=5, min_tokens=5, stop=(letters(foretold[:1]),)), foretold),
    }
    for name, (parameters, _) in cases.items():
        engine.add_request(text(195), parameters, request_id=name)
    answers = engine.run_to_completion()
    assert {name: one.token_ids for name, [one] in answers.items()} == {
        n: ids for n, (_, ids) in cases.items()
    }
    reasons = {name: one.finish_reason for name, [one] in answers.items()}
    assert reasons == {
        "context": "context",
        "length": "length",
        "token": "stop",
        "text": "stop",
        "late": "length",
    }
    texts = {name: one.text for name, [one] in answers.items()}
    assert texts["context"] == texts["late"] == letters(foretold)
    assert texts["token"] == letters(foretold[:2]) and texts["text"] == letters(foretold[:1])


def letters(ids: list[int]) -> str:
    return FakeModel().tokenizer.decode(ids)


def test_an_answer_whose_choice_raises_ends_alone() -> None:
    def choose(*_: Any) -> Any:
        raise ValueError("impossible grammar")

    engine, model, _ = make()
    engine.add_request(text(5), greedy(8), request_id="good")
    engine.add_request(text(6), greedy(8), request_id="bad")
    engine.add_request(text(4, seed=3), greedy(8), request_id="later")
    [bad] = (one for one in engine.scheduler.waiting if one.request.id == "bad")
    bad.sampler.choose = choose  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="impossible grammar"):
        engine.step()
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert [o.finish_reason for o in outputs if o.request_id == "bad"] == ["error"]
    for name, prompt in (("good", text(5)), ("later", text(4, seed=3))):
        assert [o.token_ids[0] for o in outputs if o.request_id == name] == model.foretell(prompt, 8)
    engine.check_integrity()
