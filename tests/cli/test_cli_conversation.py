"""History, pictures and statistics of one conversation, with a fake in the model's place."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_model import TOKENS_PER_IMAGE, FakeEngine, FakeModel

from foveate.cli.conversation import Conversation, SamplingSettings, VisualSettings
from foveate.errors import FoveateError, PromptError


def picture(name: str = "cat.png") -> Any:
    return SimpleNamespace(source=name, width=40, height=30, digest="00")


def start(**keywords: Any) -> tuple[FakeModel, Conversation]:
    settings = keywords.pop("settings", SamplingSettings())
    engine = FakeEngine(FakeModel(**keywords))
    return engine.model, Conversation(engine, settings)  # type: ignore[arg-type]


def test_turns_accumulate_and_pictures_stay() -> None:
    model, conversation = start()
    conversation.attach(picture())
    first = conversation.ask("what is this")
    assert first.text == "turn 1, 1 picture: what is this"
    assert first.image_tokens == (TOKENS_PER_IMAGE,)
    assert first.prompt_tokens == TOKENS_PER_IMAGE + 3
    assert first.completion_tokens == 7
    assert first.finish_reason == "stop"
    second = conversation.ask("and now")
    assert second.text == "turn 2, 1 picture: and now"
    assert [message["role"] for message in model.messages] == ["user", "assistant", "user"]
    assert model.messages[0]["content"][0] == {"type": "image"}


def test_streamed_pieces_make_the_answer() -> None:
    _, conversation = start()
    pieces: list[str] = []
    answer = conversation.ask("hello there", on_text=pieces.append)
    assert len(pieces) == answer.completion_tokens
    assert "".join(pieces) == answer.text == "turn 1, 0 pictures: hello there"


def test_settings_reach_the_model_and_length_is_told() -> None:
    settings = SamplingSettings(max_tokens=3, temperature=0.7, top_p=0.9, seed=11)
    engine = FakeEngine(FakeModel())
    conversation = Conversation(engine, settings)  # type: ignore[arg-type]
    answer = conversation.ask("hello there")
    wanted = {"max_tokens": 3, "temperature": 0.7, "top_p": 0.9, "seed": 11}
    assert wanted.items() <= engine.keywords.items() and engine.closed == 1
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 3)
    assert "cut at --max-tokens" in answer.summary()


def test_the_visual_budget_reaches_the_engine_and_what_it_dropped_is_told() -> None:
    engine = FakeEngine(FakeModel())
    visual = VisualSettings(budget="25%", reducer="strided")
    conversation = Conversation(engine, SamplingSettings(), visual=visual)  # type: ignore[arg-type]
    conversation.attach(picture())
    answer = conversation.ask("what is this")
    asked = engine.visual
    assert (asked.budget, asked.reducer, asked.question) == ("25%", "strided", "what is this")
    assert (answer.image_tokens, answer.kept_tokens) == ((TOKENS_PER_IMAGE,), (TOKENS_PER_IMAGE // 4,))
    assert "4 of 16 image tokens" in answer.summary()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"budget": "0"}, "keeps no token"),
        ({"budget": "101%"}, "more than all"),
        ({"budget": "ful"}, "full"),
        ({"reducer": "fastvlm"}, "fastervlm"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_before_anything_is_loaded(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(FoveateError, match=words):
        VisualSettings(**settings)


def test_a_refused_question_leaves_no_trace() -> None:
    model, conversation = start(context_length=40)
    conversation.attach(picture())
    with pytest.raises(PromptError, match="context is 40 tokens"):
        conversation.ask("word " * 50)
    answer = conversation.ask("what is this")
    assert answer.text.startswith("turn 1, 1 picture")
    assert len(model.messages) == 1


def test_an_interrupted_answer_is_kept_as_far_as_it_came() -> None:
    model, conversation = start()
    said: list[str] = []

    def stop_after_three(text: str) -> None:
        said.append(text)
        if len(said) == 3:
            raise KeyboardInterrupt

    answer = conversation.ask("count slowly", on_text=stop_after_three, interruptible=True)
    assert conversation.engine.closed == 1  # type: ignore[attr-defined]
    assert (answer.text, answer.finish_reason) == ("0 1 2", "interrupted")
    conversation.ask("go on")
    assert model.messages[1]["content"][0]["text"] == "0 1 2"
    with pytest.raises(KeyboardInterrupt):
        said.clear()
        conversation.ask("count slowly", on_text=stop_after_three)


def test_reset_forgets_all_but_the_system_prompt() -> None:
    model, conversation = start()
    conversation.system = "Be brief."
    conversation.attach(picture())
    conversation.ask("what is this")
    conversation.reset()
    assert conversation.ask("hello").text == "turn 1, 0 pictures: hello"
    assert [message["role"] for message in model.messages] == ["system", "user"]


def test_a_text_only_model_takes_no_picture() -> None:
    _, conversation = start(accepts_images=False)
    with pytest.raises(FoveateError, match="text-only"):
        conversation.attach(picture())
    assert conversation.pending == []


def test_stages_and_cached_tokens_are_the_engine_s_own() -> None:
    _, conversation = start()
    answer = conversation.ask("hello there")
    assert (answer.cached_tokens, answer.encode, answer.prefill) == (3, 0.25, 0.5)
    assert (answer.decode, answer.first_token, answer.tokens_per_second) == (
        2.0,
        1.5,
        answer.completion_tokens / 2,
    )
    assert "(3 cached)" in answer.summary() and "encode 250 ms, prefill 500 ms" in answer.summary()


def test_a_second_question_about_a_picture_costs_neither_tower_nor_the_prompt_so_far() -> None:
    """The real engine and the real model; the answers are those of plain decoding."""
    from foveate.engine import Engine, EngineConfig
    from foveate.media import open_image
    from foveate.models import load

    model = load(device="cpu")
    engine = Engine(model, EngineConfig(max_sequences=1, kv_blocks=64))
    conversation = Conversation(engine, SamplingSettings(max_tokens=12))
    shapes = open_image(Path(__file__).parents[2] / "examples" / "shapes.png")
    conversation.attach(shapes)
    first = conversation.ask("how many shapes are there?")
    second = conversation.ask("is there a star?")
    assert first.cached_tokens == 0 and first.encode > 0
    for answer in (first, second):  # times are ordered, and the rate is of decoding
        stages = answer.prepare + answer.encode + answer.prefill
        assert answer.prepare > 0 and answer.prefill > 0 and stages <= answer.first_token < answer.total
        assert answer.tokens_per_second is not None
        steps = answer.tokens_per_second * answer.decode  # the end marker takes a step too
        assert round(steps, 6) in (answer.completion_tokens - 1, answer.completion_tokens)
    assert second.encode == 0 and second.cached_tokens >= first.prompt_tokens - 16
    turns = [
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "text", "text": "how many shapes are there?"}],
        },
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "is there a star?"},
    ]
    for answer, messages in ((first, turns[:1]), (second, turns)):
        prompt = model.prepare(messages, images=[shapes])
        assert (
            answer.text == "".join(token.text for token in model.generate(prompt, max_new_tokens=12)).strip()
        )

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    stopped = conversation.ask("is there a circle?", on_text=stop, interruptible=True)
    assert stopped.finish_reason == "interrupted" and stopped.text
    assert engine.statistics().aborted == 1 and not engine.has_work
    engine.check_integrity()  # at idle: no block is in use


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.01])
def test_top_p_outside_its_range_is_refused(top_p: float) -> None:
    with pytest.raises(FoveateError, match="--top-p"):
        SamplingSettings(top_p=top_p)
