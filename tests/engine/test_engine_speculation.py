"""Speculation changes nothing but the number of passes: every family, every way a request may go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import tiny
import torch
from scripted_drafts import RecordingDraft, SpoiledDraft, knows
from test_engine_parity import COUNT, GREEDY, TOLERANCE, check, compare, requests

from foveate.decode.drafts.base import Draft, DraftRequest
from foveate.decode.drafts.model import ModelDraft
from foveate.decode.drafts.ngram import NgramDraft
from foveate.decode.settings import SpeculationSettings
from foveate.decode.tree import ROOT, DraftTree
from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import Completion, OutputConstraint, SamplingParameters
from foveate.engine.statistics import RequestStatistics

ALWAYS = SpeculationSettings(adaptive=False)
ENGINE = {
    "kv_blocks": 800,
    "block_size": 8,
    "max_step_tokens": 4096,
    "poison": True,
    "encoder_cache_bytes": 2**22,
}
FAMILIES = ["llava", "qwen2_vl", "gemma3", "paligemma2", "gemma2", "qwen3_vl"]


def engine_of(family: Any, draft: Draft | None, **fields: Any) -> Engine:
    return Engine(
        family.model,
        EngineConfig(**{**ENGINE, "speculation": ALWAYS if draft else None, **fields}),
        draft=draft,
    )


def knowing(
    family: Any, *, tree: bool = True, kind: type[SpoiledDraft] = SpoiledDraft, **keywords: Any
) -> Any:
    """A draft that knows what plain transformers answers to `requests(family)`."""
    answers = {tuple(prompt.token_ids): plain[0] for prompt, _, plain in requests(family)}
    return kind(knows(answers), int(family.model.text_config.vocab_size), tree=tree, **keywords)


def speculated(engine: Engine, least: float = 1.3) -> None:
    """That drafts were tried, some right and some wrong."""
    statistics = engine.statistics()
    assert 0 < statistics.accepted_tokens < statistics.draft_tokens
    assert 1 + statistics.accepted_tokens / statistics.decode_passes >= least
    assert 0 < statistics.plain_passes < statistics.decode_passes


@pytest.mark.parametrize("name", [*tiny.FAMILIES, *tiny.TEXT_FAMILIES])
def test_trees_in_a_mixed_batch(name: str, family_of: Callable) -> None:
    """Tokens and log-probabilities are plain transformers', whatever was guessed; some answers get no draft."""
    family = family_of(name)
    engine = engine_of(family, knowing(family))
    check(engine, requests(family))
    speculated(engine)


@pytest.mark.parametrize("attention", ["cpu-native", "cpu-batched", "reference", "flex"])
@pytest.mark.parametrize("tree", [True, False])
def test_every_backend(attention: str, tree: bool, family_of: Callable) -> None:
    """With windows (Gemma 3) and M-RoPE; flex, which computes over its whole cache on a CPU, on a small case."""
    for name in ("gemma3",) if attention == "flex" else ("gemma3", "qwen2_vl"):
        family = family_of(name)
        blocks, count = (16, 2) if attention == "flex" else (200, 3)
        draft = knowing(family, tree=tree)
        engine = engine_of(family, draft, attention=attention, block_size=16, kv_blocks=blocks)
        check(engine, requests(family)[:count])
        assert 0 < engine.statistics().accepted_tokens < engine.statistics().draft_tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_preempted_in_chunks_and_again(name: str, family_of: Callable) -> None:
    """A pool that holds the longest request and little more; then the caches of a larger one."""
    family = family_of(name)
    asked = requests(family)
    longest = max(len(prompt.token_ids) for prompt, _, _ in asked) + COUNT
    small = engine_of(
        family,
        knowing(family),
        block_size=2,
        kv_blocks=-(-longest // 2),
        prefix_caching=False,
        max_step_tokens=40,
    )
    check(small, [*asked, *(one for one in asked if len(one[0].token_ids) + COUNT < longest)], interrupt=True)
    speculated(small, least=1.1)
    large = engine_of(family, knowing(family), block_size=2)
    for _ in range(3):
        check(large, asked)
    assert (large.prefixes.hit_tokens > 0) != (family.model.attention_groups(asked[0][0]) is not None)


def test_generated_blocks_are_found_by_the_next_turn(family_of: Callable) -> None:
    """What was accepted, moved into place, is in the prefix cache as if it had been decoded token by token."""
    family = family_of("llava")
    prompt, images, (ids, _) = requests(family)[1]
    found = []
    for draft in (None, knowing(family, wrong=0.1, silent=0.0)):
        engine = engine_of(family, draft, block_size=2)
        [first] = engine.generate(prompt, GREEDY)
        following = family.ask("what colour is it", images)[0]
        following.token_ids = [*prompt.token_ids, *ids]
        following.spans = prompt.spans
        [second] = engine.generate(following, GREEDY)
        found.append((first.token_ids, second.token_ids, engine.prefixes.hit_tokens))
    assert found[0] == found[1]
    assert found[0][2] >= len(prompt.token_ids) + COUNT - 3


def both(
    family: Any, parameters: SamplingParameters, draft: Draft | None = None, **fields: Any
) -> tuple[list[list[Completion]], list[list[Completion]], Engine]:
    """The answers to all requests without and with drafts."""
    prompts = [prompt for prompt, _, _ in requests(family)]
    runs, engine = [], None
    for one in (None, draft or knowing(family, silent=0.1)):
        engine = engine_of(family, one, **fields)
        names = [engine.add_request(prompt, parameters) for prompt in prompts]
        answers = engine.run_to_completion()
        engine.check_integrity()
        assert engine.store.pool.in_use == 0
        runs.append([answers[name] for name in names])
    assert engine is not None
    return runs[0], runs[1], engine


def after_plain(family: Any, parameters: SamplingParameters) -> Draft:
    """A draft that knows what the engine alone answers under these parameters."""
    engine = engine_of(family, None)
    answers = {
        tuple(prompt.token_ids): engine.generate(prompt, parameters)[0].token_ids
        for prompt, _, _ in requests(family)
    }
    return SpoiledDraft(knows(answers), int(family.model.text_config.vocab_size), tree=True, silent=0.1)


PARAMETERS = {
    "sampled": {"temperature": 0.8, "seed": 5},
    "top-k, top-p, min-p": {"temperature": 1.2, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "seed": 6},
    "penalties": {"repetition_penalty": 1.4, "presence_penalty": 0.7, "frequency_penalty": 0.5},
    "sampled with penalties": {"temperature": 0.7, "frequency_penalty": 1.5, "seed": 7},
    "bias": {"logit_bias": {5: 30.0, 6: 29.9}, "frequency_penalty": 0.2},
    "least tokens": {"min_tokens": 12, "stop_token_ids": tuple(range(60))},
    "stop ids": {"stop_token_ids": tuple(range(0, 100, 7))},
    "log-probabilities": {"top_logprobs": 3, "temperature": 0.5, "seed": 8},
    "past the end": {"ignore_end": True, "max_tokens": 40},
}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_answers_under_all_parameters(kind: str, family_of: Callable) -> None:
    """Each token is the plain run's draw: same seed, same text, same reason to end."""
    family = family_of("qwen2_vl")
    parameters = SamplingParameters(**{"max_tokens": 24, **PARAMETERS[kind]})
    plain, tried, engine = both(family, parameters, after_plain(family, parameters))
    for one, other in zip(plain, tried, strict=True):
        for left, right in zip(one, other, strict=True):
            assert left.token_ids == right.token_ids and left.text == right.text
            assert left.finish_reason == right.finish_reason
            assert [entry.token_id for entry in left.logprobs] == [entry.token_id for entry in right.logprobs]
            for entry, twin in zip(left.logprobs, right.logprobs, strict=True):
                assert abs(entry.logprob - twin.logprob) < TOLERANCE
                assert [token for token, _ in entry.top] == [token for token, _ in twin.top]
    assert engine.statistics().accepted_tokens > 0


def test_several_answers_of_one_request(family_of: Callable) -> None:
    """They share their prompt's blocks, and each writes its drafts into its own."""
    family = family_of("llava")
    parameters = SamplingParameters(max_tokens=12, temperature=1.0, n=3, seed=3)
    plain, tried, engine = both(family, parameters, max_sequences=16)
    assert plain == tried
    assert engine.statistics().draft_tokens > 0


def test_stop_strings_that_drafts_run_past(family_of: Callable) -> None:
    """An answer ends at the same letter, though its draft went on behind it."""
    family = family_of("llava")
    engine = engine_of(family, None)
    prompt, _, _ = requests(family)[1]
    [whole] = engine.generate(prompt, SamplingParameters(max_tokens=COUNT))
    for length in (1, 3):
        stop = whole.text[length + 1 : length + 3]
        parameters = SamplingParameters(max_tokens=COUNT, stop=(stop,))
        plain, tried, _ = both(family, parameters)
        assert plain == tried
        assert any(answer.finish_reason == "stop" for [answer] in tried)


def test_constrained_answers(nano: Any) -> None:
    """A grammar advances with accepted tokens alone; a guess it forbids is never accepted."""
    prompt, _ = nano.ask("what colour is it", [])
    schema = {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "blue", "green"]},
            "count": {"type": "integer", "maximum": 30},
        },
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    parameters = SamplingParameters(max_tokens=60, constraint=OutputConstraint(json_schema=schema))
    size = int(nano.model.text_config.vocab_size)
    plain = engine_of(nano, None)
    [want] = plain.generate(prompt, parameters)
    assert want.finish_reason == "stop" and want.text.startswith("{")
    free = plain.generate(prompt, SamplingParameters(max_tokens=60, ignore_end=True))[0].token_ids
    for known in (want.token_ids, free):
        draft = SpoiledDraft(knows({tuple(prompt.token_ids): known}), size, tree=True, silent=0.0)
        engine = engine_of(nano, draft)
        assert engine.generate(prompt, parameters) == [want]
        engine.check_integrity()
        right = engine.statistics().accepted_tokens
        assert right > 5 if known is want.token_ids else right < len(free)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl"])
def test_a_draft_is_shown_what_was_decided_and_nothing_else(name: str, family_of: Callable) -> None:
    """Features, positions and taps of every decided token are those of one plain forward over the whole answer."""
    family = family_of(name)
    draft = knowing(family, kind=RecordingDraft, taps=(0, 2), silent=0.1)
    engine = engine_of(family, draft, prefix_caching=False)
    asked = requests(family)
    names = [engine.add_request(prompt, GREEDY) for prompt, _, _ in asked]
    keys = {one.request.id: one.key for one in engine.scheduler.waiting}
    steps = 0
    while engine.has_work:
        engine.step()
        steps += 1
        if steps == 3 and engine.scheduler.running:
            engine.scheduler.requeue(engine.scheduler.running[-1])
    speculated(engine)
    assert not draft.shown, "what ended was not forgotten"
    for request, (prompt, images, (ids, _)) in zip(names, asked, strict=True):
        rows = draft.ended[keys[request]]
        whole, _ = family.ask("", images)
        whole.token_ids, whole.spans = [*prompt.token_ids, *ids], prompt.spans
        theirs = family.hidden_states(whole, images)
        positions = family.model.positions(whole).flatten(0, -2)
        assert set(range(len(prompt.token_ids))) <= set(rows) and len(rows) >= len(whole.token_ids) - 4
        for place, (token, _, where, taps) in rows.items():
            assert token == whole.token_ids[place]
            assert where.tolist() == positions[:, place].tolist()
            for layer in (0, 2):
                if layer + 1 < len(theirs) - 1:  # transformers' last is after the norm
                    assert float((taps[layer] - theirs[layer + 1][0, place]).abs().max()) < TOLERANCE


def test_features_after_the_last_norm(family_of: Callable) -> None:
    """`hidden` is what the output head takes: the head makes the answer's next token of it."""
    family = family_of("llava")
    draft = knowing(family, kind=RecordingDraft, silent=0.0)
    engine = engine_of(family, draft)
    prompt, _, (ids, _) = requests(family)[1]
    engine.generate(prompt, GREEDY)
    [rows] = draft.ended.values()
    length, checked = len(prompt.token_ids), 0
    for place, (_, hidden, *_) in rows.items():
        if place >= length - 1:
            assert int(family.model.head(hidden).argmax()) == ids[place - length + 1]
            checked += 1
    assert checked >= COUNT - 5


def test_clones_for_answers_that_split_off(family_of: Callable) -> None:
    family = family_of("llava")
    draft = knowing(family, kind=RecordingDraft, silent=0.0)
    engine = engine_of(family, draft)
    prompt, _, _ = requests(family)[1]
    engine.generate(prompt, SamplingParameters(max_tokens=8, temperature=1.0, n=3, seed=1))
    assert len(draft.ended) == 3
    for rows in draft.ended.values():
        assert set(range(len(prompt.token_ids))) <= set(rows)


def test_requests_that_want_no_guesses(family_of: Callable) -> None:
    """In one batch with others they are plain: neither drafted for, nor counted, nor shown to the draft."""
    family = family_of("llava")
    draft = knowing(family, kind=RecordingDraft, silent=0.0)
    engine = engine_of(family, draft)
    asked = requests(family)
    wanted = [number % 2 == 0 for number in range(len(asked))]
    names = [
        engine.add_request(prompt, replace(GREEDY, speculate=one))
        for (prompt, _, _), one in zip(asked, wanted, strict=True)
    ]
    several = SamplingParameters(max_tokens=6, temperature=1.0, n=3, seed=1, speculate=False)
    engine.add_request(asked[1][0], several)
    guessed = {one.key for one in engine.scheduler.waiting if one.request.parameters.speculate}
    answers: dict[str, dict[int, Completion]] = {}
    while engine.has_work:
        for output in engine.step():
            of_request = answers.setdefault(output.request_id, {})
            of_request.setdefault(output.index, Completion(index=output.index)).add(output)
    engine.check_integrity()
    for name, (_, _, plain), one in zip(names, asked, wanted, strict=True):
        compare(answers[name][0], plain)
        found = engine.request_statistics(name)
        assert found is not None and (found.accepted_tokens > 0) == bool(found.draft) == one
        assert one or found.decode_passes == found.draft_tokens == 0
    assert set(draft.ended) == guessed and len(guessed) == sum(wanted)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "qwen3_vl", "gemma3", "paligemma", "llama"])
def test_a_model_that_drafts_for_itself(name: str, family_of: Callable) -> None:
    """Where draft and target are one model, every guess is right: positions, pictures and caches are the target's."""
    family = family_of(name)
    asked = requests(family)
    engine = engine_of(family, ModelDraft(family.model, family.model, depth=3))
    check(engine, asked)
    statistics = engine.statistics()
    assert statistics.accepted_tokens == statistics.draft_tokens > 0
    assert all(
        engine.request_statistics(f"request-{index}").accepted_length > 2.5  # type: ignore[union-attr,operator]
        for index, (_, _, (ids, _)) in enumerate(asked)
        if len(ids) == COUNT
    )


def test_ngrams_on_an_answer_that_repeats_itself(nano: Any) -> None:
    prompt, _ = nano.ask("what colour is it", [])
    parameters = SamplingParameters(max_tokens=80, ignore_end=True)
    [want] = engine_of(nano, None).generate(prompt, parameters)
    engine = engine_of(nano, NgramDraft(never=(nano.model.image_token_id,)))
    assert engine.generate(prompt, parameters) == [want]
    statistics = engine.request_statistics("request-0")
    assert statistics is not None and statistics.draft == "ngram"
    assert statistics.accepted_length is not None and statistics.accepted_length > 2
    assert statistics.decode_passes < 60 and statistics.decode_passes + statistics.accepted_tokens == 79


class Broken(Draft):
    """Raises when asked a third time."""

    name = "broken"
    asked = 0

    def propose(self, requests: Any) -> list[DraftTree]:
        self.asked += 1
        if self.asked == 3:
            raise RuntimeError("out of guesses")
        return [DraftTree((1, 2), (ROOT, ROOT))] * len(requests)


def test_a_draft_that_fails_costs_no_answer(family_of: Callable) -> None:
    family = family_of("llava")
    engine = engine_of(family, Broken())
    check(engine, requests(family))
    assert "off: the draft failed (RuntimeError: out of guesses)" in engine.describe()
    assert engine.statistics().failed_steps == 0
    assert engine.statistics().plain_passes > 0


def test_a_step_that_fails_takes_its_drafts_back(family_of: Callable) -> None:
    """The forward raises once in the middle: everybody still gets their answer, and no block is lost."""
    family = family_of("llava")
    engine = engine_of(family, knowing(family), block_size=2)
    forward, calls = engine._runner.forward, []

    def failing(plan: Any) -> torch.Tensor:
        calls.append(plan)
        if len(calls) == 3:
            assert any(work.draft for work in plan.works)
            raise RuntimeError("a bad step")
        return forward(plan)

    engine._runner.forward = failing  # type: ignore[method-assign]
    asked = requests(family)
    names = [engine.add_request(prompt, GREEDY) for prompt, _, _ in asked]
    answers = {name: Completion() for name in names}
    failures = 0
    while engine.has_work:
        try:
            outputs = engine.step()
        except RuntimeError:
            failures += 1
            outputs = []
        engine.check_integrity()
        for output in outputs:
            answers[output.request_id].add(output)
    assert failures == 1
    for name, (_, _, (ids, _)) in zip(names, asked, strict=True):
        assert answers[name].token_ids == ids


def test_cancelled_in_the_middle(family_of: Callable) -> None:
    family = family_of("llava")
    engine = engine_of(family, knowing(family), block_size=2)
    asked = requests(family)
    names = [engine.add_request(prompt, GREEDY) for prompt, _, _ in asked]
    for _ in range(2):
        engine.step()
    engine.abort(names[1])
    engine.check_integrity()
    answers = engine.run_to_completion()
    assert engine.store.pool.in_use == 0
    assert answers[names[1]][0].finish_reason == "abort"
    for name, (_, _, (ids, _)) in list(zip(names, asked, strict=True))[2:]:
        assert answers[name][0].token_ids[-1] == ids[-1]


def test_drafts_take_what_a_step_has_left(family_of: Callable) -> None:
    """Never more tokens than a step may have, nor more guesses than an answer may still get."""
    family = family_of("llava")
    seen: list[tuple[int, int, int]] = []

    class Watched(SpoiledDraft):
        def propose(self, requests: Any) -> list[DraftTree]:
            made = super().propose(requests)
            seen.extend(
                (request.depth, request.nodes, request.length - len(request.prompt.token_ids))
                for request in requests
            )
            return made

    draft = knowing(family, kind=Watched, silent=0.0)
    engine = engine_of(family, draft, max_step_tokens=11, max_sequences=5)
    forward = engine._runner.forward
    sizes: list[int] = []

    def watched(plan: Any) -> torch.Tensor:
        sizes.append(plan.tokens)
        return forward(plan)

    engine._runner.forward = watched  # type: ignore[method-assign]
    check(engine, requests(family))
    assert max(sizes) == 11
    assert seen and all(depth + made < COUNT and depth <= nodes for depth, nodes, made in seen)


def test_adaptive_depth_gives_up_on_guesses_that_are_wrong(family_of: Callable) -> None:
    """A clock that says every token costs the same: wrong guesses do not pay, and the statistics say so."""
    family = family_of("llava")
    prompt, _, _ = requests(family)[1]
    parameters = SamplingParameters(max_tokens=60, ignore_end=True)
    right = engine_of(family, None).generate(prompt, parameters)
    for share, pays in ((1.0, False), (0.0, True)):
        known = {tuple(prompt.token_ids): right[0].token_ids}
        draft = SpoiledDraft(knows(known), 300, tree=False, wrong=share, silent=0.0)
        now = [0.0]
        engine = Engine(
            family.model,
            EngineConfig(**{**ENGINE, "speculation": SpeculationSettings()}),
            draft=draft,
            clock=partial(now.__getitem__, 0),
        )
        engine._runner.forward = partial(costly, engine._runner.forward, now)  # type: ignore[method-assign]
        assert [one.token_ids for one in engine.generate(prompt, parameters)] == [right[0].token_ids]
        statistics: RequestStatistics | None = engine.request_statistics("request-0")
        assert statistics is not None and statistics.accepted_length is not None
        if pays:
            assert statistics.unpaid_passes == 0 and statistics.accepted_length > 3
        else:
            assert statistics.unpaid_passes > 30 and statistics.accepted_length < 1.1
            assert statistics.draft_tokens < 60


def costly(forward: Callable, now: list[float], plan: Any) -> torch.Tensor:
    """A forward whose time is known."""
    now[0] += 0.1 + 0.06 * plan.tokens
    return forward(plan)


def test_plain_decoding_is_untouched(family_of: Callable) -> None:
    """Without speculation nothing is counted, and `describe` does not speak of it."""
    family = family_of("llava")
    engine = engine_of(family, None)
    engine.generate(requests(family)[0][0], GREEDY)
    statistics = engine.request_statistics("request-0")
    assert statistics is not None and statistics.accepted_length is None and statistics.draft == ""
    assert "speculation" not in engine.describe()
    assert engine.statistics().decode_passes == 0


def test_requests_see_only_what_was_decided(family_of: Callable) -> None:
    family = family_of("llava")
    prompt, _, (ids, _) = requests(family)[0]

    class Reader(Draft):
        name = "reader"

        def propose(self, requests: list[DraftRequest]) -> list[DraftTree]:  # type: ignore[override]
            for one in requests:
                decided = list(one.read(0, one.length))
                assert decided == [*prompt.token_ids, *ids][: one.length]
                assert one.length > len(prompt.token_ids)
            return [DraftTree.chain([ids[-1]])] * len(requests)

    engine = engine_of(family, Reader())
    assert engine.generate(prompt, GREEDY)[0].token_ids == ids
    assert engine._speculation is not None and engine._speculation.failure is None
