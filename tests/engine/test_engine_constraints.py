"""Constrained output: what is refused, how it meets the other parameters, and the engine against a plain loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import torch
from fake_vision_model import FakeModel, fake_prompt
from random_writer import END, setting, write
from reference import plain_inputs

from foveate.engine import vocabulary
from foveate.engine.async_engine import AsyncEngine
from foveate.engine.config import EngineConfig
from foveate.engine.constraints import ConstraintCompiler
from foveate.engine.engine import Engine
from foveate.engine.request import Completion, OutputConstraint, RequestError, SamplingParameters
from foveate.models.generation import end_token_ids

IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, r"minimum \(5\).*maximum \(3\)"),
    ({"json_schema": {"type": "string", "minLength": 5, "maxLength": 2}}, r"minLength \(5\)"),
    ({"json_schema": {"enum": []}}, "empty"),
    ({"json_schema": {"type": "integer", "enum": ["a"]}}, "incompatible types"),
    ({"json_schema": {"type": "object", "required": ["a"], "additionalProperties": False}}, "'a'"),
    ({"json_schema": {"not": {"type": "string"}}}, 'Unimplemented keys: ."not"'),
    ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
    ({"json_schema": {"not": {}, "x-guidance": {"lenient": True}}}, "Unimplemented keys"),
    (
        {"json_schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}},
        "oneOf .* not supported. Correct",
    ),
    ({"json_schema": {"type": "strin"}}, "Invalid type: strin"),
    ({"json_schema": {"type": "string", "pattern": "("}}, "unclosed group"),
    ({"json_schema": {"$ref": "http://example.com/x"}}, "not present"),
    ({"json_schema": {"$ref": "#"}}, "requires itself without end|satisfies it"),
    ({"json_schema": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}}, "itself"),
    ({"json_schema": {"type": "array", "items": {"$ref": "#"}, "minItems": 1}}, "itself"),
    ({"regex": "("}, "unclosed group"),
    ({"regex": "(?=a)b"}, "look-around"),
    ({"regex": r"(a)\1"}, "backreferences"),
    ({"regex": "a{3,1}"}, "invalid repetition"),
    ({"regex": r"[^\s\S]"}, "nothing that this model can write"),
    ({"regex": ""}, "only the empty answer"),
    ({"choice": ("",)}, "only the empty answer"),
]


@pytest.mark.parametrize(("fields", "why"), IMPOSSIBLE)
def test_what_cannot_be_enforced_is_refused_with_the_reason(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(RequestError, match=why) as caught:
        setting("byte level")[2].prepare(OutputConstraint(**fields), (END,))
    assert next(iter(fields)).removeprefix("json_") in str(caught.value)
    assert "\n" not in str(caught.value)


# -- the record --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "gives nothing: it must give exactly one"),
        ({"regex": "a", "choice": ("b",)}, "gives regex and choice"),
        ({"regex": "a", "json_object": True}, "gives regex and json_object"),
        ({"choice": ()}, "one or more strings"),
        ({"choice": "yes"}, "one or more strings"),
        ({"choice": ("a", 3)}, "one or more strings"),
        ({"choice": ("\ud800",)}, "whole characters"),
        ({"regex": "\ud800"}, "whole characters"),
        ({"regex": "a\\"}, "ends in a backslash"),
        ({"regex": 3}, "must be a string"),
        ({"json_schema": True}, "must be an object"),
        ({"json_schema": {"const": float("nan")}}, "plain JSON"),
        ({"json_schema": {"const": {1, 2}}}, "plain JSON"),
    ],
)
def test_a_constraint_that_says_nothing_clear_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(RequestError, match=why):
        OutputConstraint(**fields)


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    with pytest.raises(RequestError, match="plain JSON"):
        OutputConstraint(json_schema=schema)
    for _ in range(300):
        less = {"type": "array", "items": schema} if _ else {"type": "null"}
        schema = less
    with pytest.raises(RequestError, match="recursion limit"):
        setting("byte level")[2].compile(OutputConstraint(json_schema=schema))


# -- with the other parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"temperature": 5.0, "top_k": 1},
        {"top_k": 3, "top_p": 0.2, "min_p": 0.9},
        {"top_p": 1e-9},
        {"repetition_penalty": 50.0, "presence_penalty": 2.0, "frequency_penalty": 2.0},
        {"min_tokens": 250},
        {"logit_bias": dict.fromkeys(range(200), -100.0)},
        {"ignore_end": True},
        {"top_logprobs": 5},
    ],
)
def test_other_parameters_never_break_a_constraint(fields: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"maxLength": 3, "type": "string"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    for seed in range(5):
        text, reason = write("byte level", OutputConstraint(json_schema=schema), seed, **fields)
        assert reason == "stop"
        jsonschema.validate(json.loads(text), schema)


def test_min_tokens_holds_back_the_end_where_more_may_follow() -> None:
    for seed in range(5):
        text, reason = write("byte level", OutputConstraint(regex="a{1,40}"), seed, min_tokens=20)
        assert reason == "stop" and 20 <= len(text) <= 40


def test_a_stop_token_is_no_text() -> None:
    """It ends the answer where that is complete, though the grammar could use its letters too."""
    tokenizer, _, compiler = setting("byte level")
    letter = tokenizer.convert_tokens_to_ids("a")
    made = compiler.prepare(OutputConstraint(regex="ba*"), (END, letter))()
    assert not made.allowed()[letter]
    made.advance(tokenizer.convert_tokens_to_ids("b"))
    assert made.finish_reason == "stop"  # nothing but the end may follow
    with pytest.raises(RequestError, match="nothing that this model can write"):
        compiler.prepare(OutputConstraint(regex="a"), (END, letter))


def test_grammars_used_last_are_kept() -> None:
    tokenizer, size, _ = setting("byte level")
    compiler = ConstraintCompiler(tokenizer, size, capacity=2)
    first = compiler.compile(OutputConstraint(regex="a"))
    compiler.compile(OutputConstraint(regex="b"))
    assert compiler.compile(OutputConstraint(regex="a")) is first
    compiler.compile(OutputConstraint(regex="c"))
    assert compiler.compile(OutputConstraint(regex="a")) is first
    assert len(compiler._compiled) == 2


# -- in the engine -----------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {
        "shape": {"enum": ["circle", "square", "star"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 20},
        "note": {"type": "string", "maxLength": 6},
    },
    "required": ["shape", "count", "note"],
    "additionalProperties": False,
}
CONSTRAINTS = {
    "schema": OutputConstraint(json_schema=SCHEMA),
    "regex": OutputConstraint(regex=r"(the|a) (red|green) [a-z]{2,8}\."),
    "choice": OutputConstraint(choice=("yes", "no", "two red squares")),
}
FAMILIES = ("fovea-nano", "llava", "qwen2_vl")


@pytest.fixture
def find(family_of: Callable, request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Name -> fovea-nano or a tiny random checkpoint."""
    return lambda name: request.getfixturevalue("nano") if name == "fovea-nano" else family_of(name)


def engine_of(family: Any, **fields: Any) -> Engine:
    settings = {"kv_blocks": 400, "block_size": 8, "max_step_tokens": 512, "poison": True}
    return Engine(family.model, EngineConfig(**{"encoder_cache_bytes": 2**22, **settings, **fields}))


def holds(constraint: OutputConstraint, text: str) -> bool:
    if constraint.json_schema is not None:
        jsonschema.validate(json.loads(text), constraint.json_schema)
        return True
    if constraint.choice is not None:
        return text in constraint.choice
    return re.fullmatch(constraint.regex or "", text) is not None


def plain_loop(family: Any, prompt: Any, images: list[Any], constraint: OutputConstraint) -> list[int]:
    """Greedy ids of the plain model, every step a whole forward whose logits are masked."""
    model, ends = family.model, end_token_ids(family.model)
    size = int(model.text_config.vocab_size)
    made = ConstraintCompiler(model.tokenizer, size).prepare(constraint, ends)()
    ids: list[int] = []
    while made.finish_reason is None and not ends & set(ids):
        inputs = plain_inputs(family.name, family.folder, [*prompt.token_ids, *ids], images)
        with torch.no_grad():
            logits = family._plain(**inputs).logits[0, -1]
        ids.append(int(logits.masked_fill(~made.allowed(), float("-inf")).argmax()))
        made.advance(ids[-1])
    return ids


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_answers_are_the_plain_models_under_the_mask(name: str, find: Callable) -> None:
    family = find(name)
    engine, images = engine_of(family), family.pictures(1, seed=2)
    prompt, _ = family.ask("how many red squares are there in the picture", images)
    for kind, constraint in CONSTRAINTS.items():
        parameters = SamplingParameters(max_tokens=200, constraint=constraint)
        [answer] = engine.generate(prompt, parameters)
        assert answer.finish_reason == "stop" and holds(constraint, answer.text), (kind, answer.text)
        assert answer.token_ids == plain_loop(family, prompt, images, constraint)
    engine.check_integrity()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_mixed_batch_leaves_free_answers_as_they_were(name: str, find: Callable) -> None:
    """Constrained answers, n of one prompt too, lose their blocks and come back; beside them free ones run."""
    family = find(name)
    engine, free, held = engine_of(family), {}, {}
    greedy = SamplingParameters(max_tokens=12, ignore_end=name == "fovea-nano")  # as its plain twin does
    for index, (kind, constraint) in enumerate(CONSTRAINTS.items()):
        images = family.pictures(1, seed=index)
        prompt, _ = family.ask("describe the image" + " (again)" * index, images)
        free[engine.add_request(prompt, greedy)] = family.plain(prompt, images, 12)[0]
        parameters = SamplingParameters(
            max_tokens=200, constraint=constraint, temperature=1.5, n=3, seed=index
        )
        held[engine.add_request(prompt, parameters)] = kind
    answers: dict[tuple[str, int], Completion] = {}
    steps = 0
    while engine.has_work:
        steps += 1
        for output in engine.step():
            answers.setdefault((output.request_id, output.index), Completion()).add(output)
        if steps in (3, 5):
            for answer in [one for one in engine.scheduler.running if one.request.id in held][-2:]:
                engine.scheduler.requeue(answer)
    engine.check_integrity()
    assert any(engine.request_statistics(name).preemptions for name in held)  # type: ignore[union-attr]
    for name, ids in free.items():
        assert answers[name, 0].token_ids == ids
    for name, kind in held.items():
        for index in range(3):
            answer = answers[name, index]
            assert answer.finish_reason == "stop" and holds(CONSTRAINTS[kind], answer.text)
    alone = engine_of(family)  # preemption and company changed no constrained answer
    prompt, _ = family.ask("describe the image", family.pictures(1, seed=0))
    parameters = SamplingParameters(
        max_tokens=200, constraint=CONSTRAINTS["schema"], temperature=1.5, n=3, seed=0
    )
    first = next(iter(held))
    assert [one.token_ids for one in alone.generate(prompt, parameters)] == [
        answers[first, index].token_ids for index in range(3)
    ]


def test_an_answer_cut_by_max_tokens_says_length(find: Callable) -> None:
    family = find("llava")
    prompt, _ = family.ask("describe the image", [])
    whole, cut = (
        engine_of(family).generate(
            prompt, SamplingParameters(max_tokens=count, constraint=CONSTRAINTS["schema"])
        )[0]
        for count in (200, 5)
    )
    assert (whole.finish_reason, cut.finish_reason) == ("stop", "length")
    assert cut.token_ids == whole.token_ids[:5] and whole.text.startswith(cut.text)
    exact = SamplingParameters(max_tokens=len(whole.token_ids), constraint=CONSTRAINTS["schema"])
    assert engine_of(family).generate(prompt, exact)[0].finish_reason == "stop"


def test_log_probabilities_are_still_the_models_own(find: Callable) -> None:
    family = find("llava")
    prompt, _ = family.ask("describe the image", [])
    parameters = SamplingParameters(max_tokens=50, constraint=CONSTRAINTS["choice"], top_logprobs=1)
    [answer] = engine_of(family).generate(prompt, parameters)
    assert len(answer.logprobs) == len(answer.token_ids)
    assert all(one.logprob <= one.top[0][1] and one.logprob > -1e4 for one in answer.logprobs)
    assert any(one.token_id != one.top[0][0] for one in answer.logprobs), "the mask changed nothing"


def test_an_impossible_schema_is_refused_and_the_others_are_served(find: Callable) -> None:
    family = find("llava")
    engine = engine_of(family)
    prompt, _ = family.ask("describe the image", [])
    free = engine.add_request(prompt, SamplingParameters(max_tokens=6))
    impossible = OutputConstraint(json_schema={"type": "integer", "minimum": 5, "maximum": 3})
    with pytest.raises(RequestError, match=r"minimum \(5\) is greater than maximum \(3\)"):
        engine.add_request(prompt, SamplingParameters(constraint=impossible), request_id="x")
    held = engine.add_request(prompt, SamplingParameters(constraint=CONSTRAINTS["choice"]), request_id="x")
    answers = engine.run_to_completion()
    assert answers[free][0].token_ids == family.plain(prompt, [], 6)[0]
    assert holds(CONSTRAINTS["choice"], answers[held][0].text)
    engine.check_integrity()


def test_an_answer_that_no_token_can_go_on_with_ends_alone(find: Callable, monkeypatch: Any) -> None:
    """Only a vocabulary without bytes leads there, which no tiny checkpoint has: some letters are taken away."""
    family = find("llava")
    monkeypatch.setitem(vocabulary._BYTE_LEVEL, "q", ord("Q"))
    engine = engine_of(family)
    prompt, _ = family.ask("describe the image", [])
    free = engine.add_request(prompt, SamplingParameters(max_tokens=6))
    held = engine.add_request(prompt, SamplingParameters(constraint=OutputConstraint(regex="no q")))
    answers = engine.run_to_completion()
    assert (answers[held][0].text, answers[held][0].finish_reason) == ("no ", "error")
    assert answers[free][0].token_ids == family.plain(prompt, [], 6)[0]
    engine.check_integrity()


def test_the_asyncio_front_refuses_and_serves_constraints(find: Callable) -> None:
    family = find("llava")
    prompt, _ = family.ask("describe the image", [])

    async def main() -> None:
        async with AsyncEngine(family.model, EngineConfig(kv_blocks=64, encoder_cache_bytes=2**20)) as engine:
            held = SamplingParameters(constraint=CONSTRAINTS["schema"], max_tokens=200)
            wrong = SamplingParameters(constraint=OutputConstraint(regex="("))
            answers = await asyncio.gather(
                engine.generate(prompt, held), engine.generate(prompt, wrong), return_exceptions=True
            )
            assert holds(CONSTRAINTS["schema"], answers[0][0].text)  # type: ignore[index]
            assert isinstance(answers[1], RequestError)

    asyncio.run(asyncio.wait_for(main(), timeout=60))


def test_a_model_whose_tokenizer_is_unknown_serves_all_but_constraints() -> None:
    engine = Engine(FakeModel(), EngineConfig(kv_blocks=16, block_size=4, encoder_cache_bytes=400))
    with pytest.raises(RequestError, match="FakeTokenizer"):
        engine.add_request(
            fake_prompt([1, 2]), SamplingParameters(max_tokens=9, constraint=CONSTRAINTS["regex"])
        )
    assert engine.generate(fake_prompt([1, 2]), SamplingParameters(max_tokens=3))[0].finish_reason
