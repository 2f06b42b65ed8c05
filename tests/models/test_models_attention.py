"""Our attention against a loop over every pair of tokens: masks, caches, soft caps, sinks, grouped heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.models.attention import AttentionState, KeyValueCache, language_attention
from foveate.models.parts.salience import CHUNK_ELEMENTS, cls_row, column_mean


def may_look(query: int, key: int, window: int | None, groups: list[int] | None, cut: bool) -> bool:
    """The rule in words: the past, within the window; and all of one's own group."""
    inside = window is None or key > query - window
    group = groups[query] if groups and query < len(groups) else -1
    same = group >= 0 and key < len(groups or []) and (groups or [])[key] == group
    if cut:
        return (key <= query or same) and inside
    return (key <= query and inside) or same


def loop_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    allowed: list[list[bool]],
    cap: float | None,
    sinks: list[float] | None,
) -> torch.Tensor:
    """[n, H, d] by plain Python over heads, queries and keys."""
    heads, count, width = query.shape[1], query.shape[2], query.shape[3]
    repeats = heads // key.shape[1]
    output = torch.zeros(count, heads, width)
    for head in range(heads):
        for row in range(count):
            scores = []
            for column in range(key.shape[2]):
                score = float(query[0, head, row] @ key[0, head // repeats, column]) / math.sqrt(width)
                score = cap * math.tanh(score / cap) if cap else score
                scores.append(math.exp(score) if allowed[row][column] else 0.0)
            total = sum(scores) + (math.exp(sinks[head]) if sinks else 0.0)
            for column, weight in enumerate(scores):
                output[row, head] += weight / total * value[0, head // repeats, column]
    return output


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_against_the_loop(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 12), "tokens")
    queries = data.draw(st.integers(1, total), "queries")
    window = data.draw(st.one_of(st.none(), st.integers(1, 14)), "window")
    groups = data.draw(
        st.one_of(st.none(), st.lists(st.integers(-1, 2), min_size=1, max_size=total)), "groups"
    )
    cut = data.draw(st.booleans(), "window cuts groups")
    cap = data.draw(st.sampled_from([None, 0.7]), "cap")
    sinks = data.draw(st.sampled_from([None, [0.3, -0.2, 1.0, 0.0]]), "sinks")
    # Decoding one token whose own group reaches past its window does not occur: prompts are prefilled whole.
    if queries == 1 and groups is not None and len(groups) == total:
        groups = groups[:-1] or None
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999), "seed"))
    query = torch.randn(1, 4, queries, 8, generator=generator)
    key, value = (torch.randn(1, 2, total, 8, generator=generator) for _ in range(2))
    cache = KeyValueCache()
    start = total - queries
    if start:
        cache.update(0, key[:, :, :start], value[:, :, :start])
    state = AttentionState(cache, None if groups is None else torch.tensor(groups), window_cuts_groups=cut)
    output, weights = language_attention(
        SimpleNamespace(layer_idx=0),  # type: ignore[arg-type]
        query,
        key[:, :, start:],
        value[:, :, start:],
        sliding_window=window,
        softcap=cap,
        s_aux=None if sinks is None else torch.tensor(sinks),
        attention_state=state,
    )
    allowed = [
        [may_look(start + row, column, window, groups, cut) for column in range(total)]
        for row in range(queries)
    ]
    expected = loop_attention(query, key, value, allowed, cap, sinks)
    assert weights is None
    assert torch.allclose(output[0], expected, atol=1e-5)


def test_cache_grows_without_reading_unwritten_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """New buffers hold NaN here: one unwritten value read would spread."""
    plain = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *shape: plain(self, *shape).fill_(float("nan"))
    )
    cache, seen = KeyValueCache(), []
    for length in (3, 1, 1, 5, 1, 1, 1, 9, 1):
        seen.append(torch.randn(1, 2, length, 4))
        keys, values = cache.update(1, seen[-1], -seen[-1])
        assert torch.equal(keys, torch.cat(seen, dim=2))
        assert torch.equal(values, -keys)
    assert cache.length(1) == 23 and cache.length(0) == 0


def test_model_refuses_to_run_without_its_state(pair_of: Callable) -> None:
    model = pair_of("llava").ours
    with pytest.raises(AssertionError, match="VisionLanguageModel"):
        model.hf_model(input_ids=torch.tensor([[3, 4, 5]]))


@pytest.mark.parametrize("family", ["llava", "qwen3_vl", "gemma3", "paligemma2", "mistral", "gemma2"])
def test_decoding_with_the_cache_equals_one_forward(family: str, pair_of: Callable) -> None:
    """Tokens chosen step by step are the argmax of one forward over prompt and answer together."""
    model = pair_of(family).ours
    content: list = [{"type": "text", "text": "is there a triangle behind the hexagon"}]
    images = []
    if model.accepts_images:
        content.insert(0, {"type": "image"})
        images = [tiny.picture(*tiny.FAMILIES[family].sizes[1], 3)]
    prompt = model.prepare([{"role": "user", "content": content}], images=images)
    length = len(prompt.token_ids)
    answer = [token.id for token in model.generate(prompt, max_new_tokens=12)]
    if family == "paligemma2":
        return_groups = model.attention_groups(prompt)
        model_groups = torch.nn.functional.pad(return_groups, (0, len(answer)), value=-1)
        model.attention_groups = lambda _: model_groups  # the answer is the causal suffix
    prompt.token_ids = prompt.token_ids + answer
    try:
        logits = model.logits(prompt)
    finally:
        model.__dict__.pop("attention_groups", None)
    assert logits[length - 1 : -1].argmax(dim=-1).tolist() == answer


@pytest.mark.parametrize("shape", [(1, 1, 5, 4), (2, 3, 70, 8), (1, 2, 700, 8)])
def test_salience_rows_equal_the_map(
    shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foveate.models.parts.salience.CHUNK_ELEMENTS", 2000)
    query, key = torch.randn(shape) * 2, torch.randn(shape) * 2
    full = (query @ key.transpose(2, 3) * 0.4).softmax(dim=-1)
    assert torch.allclose(column_mean(query, key, 0.4), full.mean(dim=(1, 2)), atol=1e-6)
    assert torch.allclose(cls_row(query, key, 0.4), full.mean(dim=1)[:, 0, 1:], atol=1e-6)


def test_salience_never_holds_the_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen heads over 4096 tokens would be 268 million values; no product may exceed the chunk."""
    largest = 0
    plain = torch.Tensor.__matmul__

    def watched(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        result = plain(self, other)
        largest = max(largest, result.numel())
        return result

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    query = torch.randn(1, 16, 4096, 2)
    row = column_mean(query, query, 0.5)
    assert float(row.sum()) == pytest.approx(1.0, abs=1e-3)
    assert 0 < largest <= CHUNK_ELEMENTS


def test_salience_respects_masks() -> None:
    query, key = torch.randn(1, 2, 6, 4), torch.randn(1, 2, 6, 4)
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    mask[..., 4:] = False
    for form in (mask, torch.where(mask, 0.0, float("-inf"))):
        row = column_mean(query, key, 0.5, form)
        assert torch.equal(row[0, 4:], torch.zeros(2))
        full = (query @ key.transpose(2, 3) * 0.5).masked_fill(~mask, float("-inf")).softmax(-1)
        assert torch.allclose(row, full.mean(dim=(1, 2)), atol=1e-6)
