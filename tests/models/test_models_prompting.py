"""From messages to tokens: what is filled in, what is refused, and the numbers in the refusals."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny

from foveate.errors import FoveateError, PromptError


def user(*parts: Any) -> list[dict[str, Any]]:
    """One user message; strings are text, None an open image part, others image parts with a source."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", **({} if part is None else {"image": part})}
        for part in parts
    ]
    return [{"role": "user", "content": content}]


def refusal(model: Any, messages: Any, images: Any = ()) -> str:
    with pytest.raises(FoveateError) as caught:
        model.prepare(messages, images=images)
    return str(caught.value)


def test_images_fill_open_parts_in_order(pair_of: Callable, tmp_path: Path) -> None:
    model = pair_of("qwen2_vl").ours
    wide, tall, square = tiny.picture(150, 60, 1), tiny.picture(60, 150, 2), tiny.picture(90, 90, 3)
    wide.save(tmp_path / "wide.png")
    buffer = io.BytesIO()
    square.save(buffer, "PNG")
    prompt = model.prepare(
        user(None, "and", tall, None, "?"), images=[tmp_path / "wide.png", buffer.getvalue()]
    )
    assert [(item.width, item.height) for item in prompt.media] == [(150, 60), (60, 150), (90, 90)]
    assert len({item.digest for item in prompt.media}) == 3 and all(item.digest for item in prompt.media)
    for (start, stop), item in zip(prompt.spans, prompt.media, strict=True):
        assert set(prompt.token_ids[start:stop]) == {model.image_token_id}
        assert stop - start == item.grid.tokens
    assert prompt.text.count("<|image_pad|>") == 3, "the rendered text keeps one placeholder an image"


def test_openai_form(pair_of: Callable) -> None:
    import base64

    model = pair_of("llava").ours
    buffer = io.BytesIO()
    tiny.picture(40, 40, 1).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    parts = [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": url}}]
    prompt = model.prepare([{"role": "user", "content": parts}])
    assert len(prompt.media) == 1 and prompt.spans[0][1] - prompt.spans[0][0] == 16
    assert "no url" in refusal(model, [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])


def test_counts_must_agree(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    image = tiny.picture(40, 40, 1)
    assert "1 images were given for 2 image parts" in refusal(model, user(None, None, "x"), [image])
    assert "2 images were given for 0 image parts" in refusal(model, user("x"), [image, image])
    assert "0 images were given for 1 image parts" in refusal(model, user(None))


def test_text_only_model_refuses_by_name(pair_of: Callable) -> None:
    model = pair_of("llama").ours
    text = refusal(model, user(None, "what is this"), [tiny.picture(40, 40, 1)])
    assert "text-only" in text and "(llama)" in text and str(model.ref) in text
    with pytest.raises(PromptError, match="text-only"):
        model.visual_grid(10, 10)
    assert model.prepare(user("hello", " there")).text.startswith("[user] hello there")


def test_longer_than_the_context_names_both_numbers(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    text = refusal(model, user(None, "word " * 5000), [tiny.picture(40, 40, 1)])
    tokens = len(model.tokenizer("word " * 5000)["input_ids"])
    numbers = [int(word) for word in text.replace(",", " ").split() if word.isdigit()]
    assert 4096 in numbers and any(tokens < number < tokens + 60 for number in numbers) and 16 in numbers


def test_written_placeholder_is_not_an_image(pair_of: Callable) -> None:
    assert "text contains <image>" in refusal(pair_of("llava").ours, user("look: <image>"))
    assert "<start_of_image>" in refusal(pair_of("gemma3").ours, user("look: <start_of_image>"))
    assert "<image_soft_token>" in refusal(pair_of("gemma3").ours, user("look: <image_soft_token>"))


def test_malformed_messages(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    assert "empty" in refusal(model, [])
    assert "'users'" in refusal(model, [{"role": "users", "content": "x"}])
    assert "Did you mean 'user'" in refusal(model, [{"role": "usre", "content": "x"}])
    text = refusal(model, [{"role": "user", "content": [{"type": "imagee"}]}])
    assert "'imagee'" in text and "Did you mean 'image'" in text


def test_template_that_forgets_the_image(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    template = model.chat_template
    try:
        model.chat_template = "{{ messages[0]['role'] }}"
        assert "placed 0 of 1 images" in refusal(model, user(None, "x"), [tiny.picture(40, 40, 1)])
        model.chat_template = None
        assert "no chat template" in refusal(model, user("x"))
    finally:
        model.chat_template = template


def test_missing_image_file(pair_of: Callable, tmp_path: Path) -> None:
    assert "absent.png" in refusal(pair_of("llava").ours, user(None, "x"), [tmp_path / "absent.png"])


def test_paligemma_takes_one_question(pair_of: Callable) -> None:
    model = pair_of("paligemma").ours
    turns = [*user("a"), {"role": "assistant", "content": "b"}, *user("c")]
    assert "one question at a time" in refusal(model, turns)
    prompt = model.prepare(
        [{"role": "system", "content": "brief"}, *user(None, "what")], images=[tiny.picture(9, 9, 1)]
    )
    assert prompt.text == "<image><bos>brief\nwhat\n"
    assert prompt.token_ids.count(model.tokenizer.bos_token_id) == 1
    # Rotary attention cannot tell a common shift, so parity of logits does not show this.
    assert model.positions(prompt)[0].tolist() == list(range(1, len(prompt.token_ids) + 1))


def test_narrow_image_for_qwen(pair_of: Callable) -> None:
    text = refusal(pair_of("qwen2_vl").ours, user(None, "x"), [tiny.picture(2, 500, 1)])
    assert "2 x 500" in text and "200 times" in text


def test_merge_refuses_features_of_another_prompt(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    one = model.prepare(user(None, "x"), images=[tiny.picture(40, 40, 1)])
    features = model.encode(one.media)
    with pytest.raises(PromptError, match="16 visual tokens but 32 features"):
        model.merge(one, features * 2)
