"""History, pictures and statistics of one conversation, with a fake in the model's place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fake_model import TOKENS_PER_IMAGE, FakeModel

from foveate.cli.conversation import Conversation, SamplingSettings
from foveate.errors import FoveateError, PromptError


def picture(name: str = "cat.png") -> Any:
    return SimpleNamespace(source=name, width=40, height=30, digest="00")


def start(**keywords: Any) -> tuple[FakeModel, Conversation]:
    settings = keywords.pop("settings", SamplingSettings())
    model = FakeModel(**keywords)
    return model, Conversation(model, settings)  # type: ignore[arg-type]


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
    model, conversation = start(settings=settings)
    answer = conversation.ask("hello there")
    assert model.keywords == {"max_new_tokens": 3, "temperature": 0.7, "top_p": 0.9, "seed": 11}
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 3)
    assert "cut at --max-tokens" in answer.summary()


def test_times_are_ordered_and_the_rate_is_of_decoding() -> None:
    settings = SamplingSettings(max_tokens=5)
    _, conversation = start(settings=settings)
    answer = conversation.ask("count slowly")
    assert 0 <= answer.prepare <= answer.first_token <= answer.total
    # Four steps of 50 ms after the first token: never faster than the clock allows.
    assert answer.tokens_per_second is not None
    assert 5 < answer.tokens_per_second <= 20
    assert answer.total >= 5 * 0.05


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


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.01])
def test_top_p_outside_its_range_is_refused(top_p: float) -> None:
    with pytest.raises(FoveateError, match="--top-p"):
        SamplingSettings(top_p=top_p)
