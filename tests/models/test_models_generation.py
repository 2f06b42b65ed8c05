"""Sampling, stopping and turning tokens into text as they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import PromptError
from foveate.models.generation import IncrementalDetokenizer, SamplingOptions, choose

TOKENIZER = tiny.tiny_tokenizer((), "<|end|>")


def pieces_of(ids: list[int]) -> list[str]:
    """What the detokenizer gives for each id, and at the end."""
    detokenizer = IncrementalDetokenizer(TOKENIZER)
    return [*(detokenizer.push(one) for one in ids), detokenizer.flush()]


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd"), max_size=30))
def test_text_comes_out_whole_and_never_broken(text: str) -> None:
    pieces = pieces_of(TOKENIZER(text, add_special_tokens=False)["input_ids"])
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_characters_wait_for_their_last_byte() -> None:
    ids = TOKENIZER("a🙂b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6, "an emoji is four bytes here"
    assert pieces_of(ids) == ["a", "", "", "", "🙂", "b", ""]
    assert pieces_of(ids[:3]) == ["a", "", "", ""], "an unfinished character is dropped, not shown broken"


def prompt_for(model: Any, text: str = "how many") -> Any:
    return model.prepare(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}],
        images=[tiny.picture(60, 40, 1)],
    )


def test_seed_repeats_and_differs(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    prompt = prompt_for(model)

    def ids(seed: int) -> list[int]:
        return [token.id for token in model.generate(prompt, max_new_tokens=10, temperature=1.5, seed=seed)]

    assert ids(1) == ids(1)
    assert len({tuple(ids(seed)) for seed in range(4)}) > 1


def test_nucleus_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    generator = torch.Generator().manual_seed(0)

    def drawn(top_p: float) -> set[int]:
        options = SamplingOptions(temperature=1.0, top_p=top_p)
        return {choose(logits, options, generator) for _ in range(300)}

    assert drawn(0.01) == {0}
    assert drawn(0.5) == {0}
    assert drawn(0.79) == {0, 1}
    assert drawn(0.9) == {0, 1, 2}
    assert drawn(1.0) == {0, 1, 2, 3}


def test_sampling_follows_the_probabilities() -> None:
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    options, generator = SamplingOptions(temperature=1.0), torch.Generator().manual_seed(3)
    counts = torch.zeros(3)
    for _ in range(3000):
        counts[choose(logits, options, generator)] += 1
    assert torch.allclose(counts / 3000, torch.tensor([0.6, 0.3, 0.1]), atol=0.04)


def test_reasons_to_finish(pair_of: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pair_of("llava").ours
    prompt = prompt_for(model)
    tokens = list(model.generate(prompt, max_new_tokens=5))
    assert [token.finish_reason for token in tokens] == [None] * 4 + ["length"]
    stopped = list(model.generate(prompt, max_new_tokens=5, stop_token_ids=[tokens[2].id]))
    first = [token.id for token in tokens].index(tokens[2].id)
    assert [token.id for token in stopped] == [token.id for token in tokens[: first + 1]]
    assert stopped[-1].finish_reason == "stop"
    monkeypatch.setattr(type(model), "context_length", len(prompt.token_ids) + 2)
    assert [token.finish_reason for token in model.generate(prompt, max_new_tokens=5)] == [None, "context"]
    monkeypatch.setattr(type(model), "context_length", len(prompt.token_ids))
    with pytest.raises(PromptError, match=f"{len(prompt.token_ids)}.*leaves no room"):
        next(model.generate(prompt))


@pytest.mark.parametrize(
    ("name", "value"), [("max_new_tokens", 0), ("temperature", -1.0), ("top_p", 0.0), ("top_p", 1.1)]
)
def test_values_out_of_range(name: str, value: float, pair_of: Callable) -> None:
    model = pair_of("llava").ours
    with pytest.raises(PromptError, match=f"{name} is {value}"):
        model.generate(prompt_for(model), **{name: value})


def test_text_equals_decoding_all_at_once(pair_of: Callable) -> None:
    model = pair_of("qwen2_vl").ours
    prompt = model.prepare([{"role": "user", "content": "describe the image"}])
    tokens = list(model.generate(prompt, max_new_tokens=40))
    whole = model.tokenizer.decode([token.id for token in tokens], skip_special_tokens=True)
    assert "".join(token.text for token in tokens) == whole.rstrip("\ufffd")
