"""Requests with a visual budget of their own: answers equal the reference path's, blocks are for kept tokens alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

from foveate.engine import Engine, EngineConfig, RequestError, SamplingParameters, VisualBudget
from foveate.engine.request import RequestTooLongError
from foveate.errors import ReductionError
from foveate.models.generation import SamplingOptions
from foveate.reduce import generate_reduced, get_reducer, reduce_prompt
from foveate.reduce.language.rows import LANGUAGE_METHODS
from foveate.reduce.registry import METHODS

COUNT = 6
GREEDY = SamplingParameters(max_tokens=COUNT)


def expected(model: Any, prompt: Any, budget: str, method: Any) -> tuple[list[int], list[Any]]:
    """(greedy tokens, keep-maps) of the reference path."""
    reduced = reduce_prompt(model, prompt, None, method, budget)
    tokens = generate_reduced(model, reduced, SamplingOptions(max_new_tokens=COUNT))
    return [token.id for token in tokens], reduced.keep_maps


def engine_of(model: Any, **changes: Any) -> Engine:
    return Engine(model, EngineConfig(**{"kv_blocks": 400, "block_size": 4, "max_sequences": 6, **changes}))


def servable(model: Any, name: str) -> Any:
    """The method as the engine can serve it on this model; None where the tower cannot give what it needs."""
    for settings in ({}, {"tiles": "uniform"}):
        method = get_reducer(name, **settings)
        try:
            method.check(model)
        except ReductionError:
            return None
        if method.stage == "input" or method.tile_rule == "uniform":
            return method
    return method


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_method_in_one_mixed_batch_equals_the_reference(
    family: str, family_of: Callable[[str], Any]
) -> None:
    """Methods, budgets and full requests side by side, in chunks that end inside images; then again from the
    caches; then with hardly any room, so that requests are preempted."""
    made = family_of(family)
    model, cases = made.model, []
    for number, info in enumerate(METHODS):
        method = servable(model, info.name)
        if method is None:
            continue
        prompt, _ = made.ask(f"what is it {number}", made.pictures(1 + number % 2, number % 4))
        budget = ("50%", "30%", "70%")[number % 3]
        cases.append((prompt, budget, method, *expected(model, prompt, budget, method)))
    assert len(cases) >= 5
    full, images = made.ask("and all of it", made.pictures(1, 1))
    untouched = made.plain(full, images, COUNT)[0]
    for changes in ({}, {"max_step_tokens": 11}, {"kv_blocks": 60, "prefix_caching": False}):
        engine = engine_of(model, **changes)
        for _ in range(2):  # the second time images, and with them prefixes, are known
            ids = [
                engine.add_request(prompt, GREEDY, visual=VisualBudget(budget=budget, reducer=method))
                for prompt, budget, method, _, _ in cases
            ]
            whole = engine.add_request(full, GREEDY)
            answers = engine.run_to_completion()
            for name, (_, _, method, tokens, maps) in zip(ids, cases, strict=True):
                assert answers[name][0].token_ids == tokens, method.name
                for got, want in zip(engine.keep_maps(name), maps, strict=True):
                    assert got is not None and torch.equal(got.kept, want.kept), method.name
                statistics = engine.request_statistics(name)
                assert statistics is not None
                assert statistics.image_tokens_kept == sum(keep.count for keep in maps)
                assert statistics.image_tokens == sum(keep.total for keep in maps)
            assert answers[whole][0].token_ids[: len(untouched)] == untouched
            engine.check_integrity()


def test_blocks_are_for_kept_tokens_alone(nano: Any) -> None:
    prompt, _ = nano.ask("is there a star?", [tiny.picture(80, 80, 1)])
    used = {}
    for budget in ("full", "25%", "1"):
        engine = engine_of(nano.model, block_size=1)
        engine.generate(prompt, GREEDY, visual=VisualBudget(budget=budget))
        used[budget] = engine.statistics().most_blocks_in_use
    assert used["full"] - used["25%"] == 144 - 36
    assert used["25%"] - used["1"] == 36 - 1


def test_other_budgets_methods_and_none_never_share_a_prefix(nano: Any) -> None:
    """Same picture and words: only the same plan may reuse what was computed."""
    prompt, _ = nano.ask("is there a star?", [tiny.picture(80, 80, 1)])
    engine = engine_of(nano.model)
    visuals = [
        VisualBudget(budget="50%"),
        VisualBudget(budget="25%"),
        VisualBudget(budget="50%", reducer="strided"),
        VisualBudget(budget="50%", reducer=get_reducer("fastervlm", positions="keep")),
        None,
    ]
    for visual in visuals:
        engine.generate(prompt, GREEDY, visual=visual)
    cached = [engine.request_statistics(f"request-{i}").cached_tokens for i in range(len(visuals))]  # type: ignore[union-attr]
    image_starts = prompt.spans[0][0]
    assert all(count <= image_starts for count in cached), cached
    engine.generate(prompt, GREEDY, visual=VisualBudget(budget="72"))  # the same plan by another name
    again = engine.request_statistics(f"request-{len(visuals)}")
    assert again is not None and again.cached_tokens > image_starts + 60 and again.encoded_images == 0


def test_full_is_no_reducer_at_all(nano: Any) -> None:
    prompt, _ = nano.ask("is there a star?", [tiny.picture(80, 80, 1)])
    engine = engine_of(nano.model)
    first = engine.generate(prompt, GREEDY)
    assert engine.generate(prompt, GREEDY, visual=VisualBudget(budget="full")) == first
    statistics = engine.request_statistics("request-1")
    assert statistics is not None and statistics.cached_tokens > 140, "it found what the plain request left"
    assert engine.keep_maps("request-1") == (None,)


def test_a_conversation_keeps_its_pictures_budget(nano: Any) -> None:
    """Two pictures over two turns, one budget: the second turn equals the reference and reuses the first."""
    pictures = [tiny.picture(80, 80, 1), tiny.picture(90, 70, 2)]
    first = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a star?"}]}]
    second = [
        *first,
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "and here?"}]},
    ]
    engine, method = engine_of(nano.model), get_reducer("fastervlm")
    visual = VisualBudget(budget="25%", reducer=method)
    for messages, images in ((first, pictures[:1]), (second, pictures)):
        prompt = nano.model.prepare(messages, images=images)
        [answer] = engine.generate(prompt, GREEDY, visual=visual)
        assert answer.token_ids == expected(nano.model, prompt, "25%", method)[0]
    statistics = engine.request_statistics("request-1")
    assert statistics is not None and statistics.cached_tokens >= 36 and statistics.encoded_images == 1


def test_a_bad_budget_is_refused_and_the_others_go_on(nano: Any, family_of: Callable[[str], Any]) -> None:
    prompt, _ = nano.ask("is there a star?", [tiny.picture(80, 80, 1)])
    engine = engine_of(nano.model)
    running = engine.add_request(prompt, GREEDY)
    engine.step()
    for budget, words in (
        ("0", "keeps no token"),
        ("101%", "more than all"),
        ("145", "144"),
        ("many", "cannot be read"),
    ):
        with pytest.raises(ReductionError, match=words):
            engine.add_request(prompt, GREEDY, visual=VisualBudget(budget=budget))
    with pytest.raises(ReductionError, match="fastervlm"):
        engine.add_request(prompt, GREEDY, visual=VisualBudget(budget="50%", reducer="fastvlm"))
    assert engine.run_to_completion()[running][0].finish_reason is not None
    engine.check_integrity()


def test_kept_places_beyond_the_context_are_refused_and_closed_gaps_fit(nano: Any) -> None:
    """What is dropped takes no room, but its places count where they are kept."""
    model, images = nano.model, [tiny.picture(80, 80, seed) for seed in range(8)]
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": "is there a star?"}]
    messages = [{"role": "user", "content": content}]
    prompt = model.prepare(messages, images=images, to_be_reduced=True)
    assert len(prompt.token_ids) > model.context_length
    engine = engine_of(model)
    keeping = VisualBudget(budget="10%", reducer=get_reducer("fastervlm", positions="keep"))
    with pytest.raises(
        RequestTooLongError, match=f"reach {len(prompt.token_ids)}.*{model.context_length} tokens"
    ):
        engine.add_request(prompt, GREEDY, visual=keeping)
    visual = VisualBudget(budget="10%", reducer=get_reducer("fastervlm", positions="repack"))
    [answer] = engine.generate(messages, GREEDY, images=images, visual=visual)
    assert 0 < len(answer.token_ids) <= COUNT
    engine.check_integrity()


def test_shares_that_depend_on_the_picture_are_refused_where_text_parts_tiles(
    family_of: Callable[[str], Any],
) -> None:
    made = family_of("idefics3")
    method = get_reducer("fastervlm", tiles="salience")
    prompt = next(
        prompt
        for seed in range(4)
        for prompt, _ in [made.ask("what", made.pictures(1, seed))]
        if len(prompt.media[0].grid.tiles) > 1
    )
    with pytest.raises(RequestError, match="writes text between tiles"):
        engine_of(made.model).add_request(prompt, GREEDY, visual=VisualBudget(budget="50%", reducer=method))


def test_a_method_over_frames_is_refused_by_name(nano: Any) -> None:
    """It would choose among all images of a request, and the engine plans and caches each on its own."""
    prompt, _ = nano.ask("is there a star?", [tiny.picture(80, 80, 1)])
    engine = engine_of(nano.model)
    with pytest.raises(RequestError, match="evs chooses among the frames of a video"):
        engine.add_request(prompt, GREEDY, visual=VisualBudget(budget="50%", reducer="evs"))
    full = engine.generate(prompt, GREEDY, visual=VisualBudget(reducer="evs"))
    assert [one.token_ids for one in full] == [one.token_ids for one in engine.generate(prompt, GREEDY)]


def test_methods_inside_the_language_model_are_refused_with_the_nearest_that_works(nano: Any) -> None:
    prompt, _ = nano.ask("is there a star?", [tiny.picture(80, 80, 1)])
    engine = engine_of(nano.model)
    running = engine.add_request(prompt, GREEDY)
    for info in LANGUAGE_METHODS:
        words = rf"{info.name} drops tokens between the layers.*Use {info.instead[0]} here"
        with pytest.raises(RequestError, match=words):
            engine.add_request(prompt, GREEDY, visual=VisualBudget(budget="50%", reducer=info.name))
        engine.add_request(prompt, GREEDY, visual=VisualBudget(budget="full", reducer=info.name))
    answers = engine.run_to_completion()
    assert len(answers) == 1 + len(LANGUAGE_METHODS)
    assert {tuple(answer[0].token_ids) for answer in answers.values()} == {
        tuple(answers[running][0].token_ids)
    }
