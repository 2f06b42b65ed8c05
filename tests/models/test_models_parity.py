"""Every family against plain transformers on the same checkpoint: logits, greedy tokens, salience, positions.

Run with `--write-parity` to keep what was measured in results/parity.json, from which docs/models.md has its
table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch
from parity_figures import NEW_TOKENS, TOLERANCE, note
from reference import eager_salience, plain_inputs

from foveate.models.records import Prompt


def question(count: int, text: str = "what colour is it") -> list[dict[str, Any]]:
    """One user message with `count` images, text between them."""
    parts: list[dict[str, Any]] = []
    for index in range(count):
        parts += [{"type": "image"}, {"type": "text", "text": f"({index})"}]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def pictures(family: str, count: int, seed: int = 0) -> list[Any]:
    """Pictures of the family's awkward sizes, each different."""
    sizes = tiny.FAMILIES[family].sizes
    return [tiny.picture(*sizes[index % len(sizes)], seed * 10 + index) for index in range(count)]


def compare(pair: Any, family: str, prompt: Prompt, images: list[Any]) -> tuple[float, list[int], list[int]]:
    """(largest logit difference, our greedy ids, their greedy ids)."""
    inputs = plain_inputs(family, pair.folder, prompt.token_ids, images)
    with torch.no_grad():
        expected = pair.theirs(**inputs).logits[0]
        generated = pair.theirs.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0]
    logits = pair.ours.logits(prompt)
    assert logits.shape == expected.shape
    ours = [token.id for token in pair.ours.generate(prompt, max_new_tokens=NEW_TOKENS)]
    return float((logits - expected).abs().max()), ours, generated[len(prompt.token_ids) :].tolist()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_one_image_of_each_aspect_ratio(family: str, pair_of: Callable, measured: dict) -> None:
    pair = pair_of(family)
    answers = []
    for seed, size in enumerate(tiny.FAMILIES[family].sizes):
        images = [tiny.picture(*size, seed)]
        prompt = pair.ours.prepare(question(1), images=images)
        difference, ours, theirs = compare(pair, family, prompt, images)
        note(measured, family, "logit_difference", difference)
        note(measured, family, "greedy_mismatches", float(ours != theirs))
        assert difference <= TOLERANCE
        assert ours == theirs
        answers.append(len(ours))
    assert max(answers) >= 12, "every answer ended at once: nothing was compared"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_different_images_give_different_answers(family: str, pair_of: Callable) -> None:
    """Else everything above would pass with the image thrown away."""
    pair = pair_of(family)
    size = tiny.FAMILIES[family].sizes[0]
    answers = set()
    for seed in range(3):
        prompt = pair.ours.prepare(question(1), images=[tiny.picture(*size, 50 + seed)])
        answers.add(tuple(token.id for token in pair.ours.generate(prompt, max_new_tokens=NEW_TOKENS)))
    assert len(answers) == 3


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_several_images_in_one_prompt(family: str, pair_of: Callable, measured: dict) -> None:
    pair = pair_of(family)
    images = pictures(family, 3, seed=1)
    prompt = pair.ours.prepare(question(3), images=images)
    assert len(prompt.spans) == 3
    assert [prompt.spans[index][1] <= prompt.spans[index + 1][0] for index in range(2)] == [True, True]
    difference, ours, theirs = compare(pair, family, prompt, images)
    note(measured, family, "multi_image_difference", difference)
    note(measured, family, "greedy_mismatches", float(ours != theirs))
    assert difference <= TOLERANCE
    assert ours == theirs
    swapped = pair.ours.prepare(question(3), images=images[::-1])
    last = [pair.ours.logits(one)[-1] for one in (prompt, swapped)]
    assert (last[0] - last[1]).abs().max() > 100 * TOLERANCE, "the order of the images makes no difference"


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.TEXT_FAMILIES])
def test_text_alone(family: str, pair_of: Callable, measured: dict) -> None:
    pair = pair_of(family)
    prompt = pair.ours.prepare([{"role": "user", "content": "how many red squares are there"}])
    difference, ours, theirs = compare(pair, family, prompt, [])
    if family in tiny.FAMILIES:
        note(measured, family, "text_difference", difference)
        note(measured, family, "greedy_mismatches", float(ours != theirs))
    assert difference <= TOLERANCE
    assert ours == theirs


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_salience_equals_the_eager_attention_map(family: str, pair_of: Callable, measured: dict) -> None:
    pair = pair_of(family)
    for images in (pictures(family, 1, seed=2), pictures(family, 3, seed=3)):
        prompt = pair.ours.prepare(question(len(images)), images=images)
        encoded = pair.ours.encode(prompt.media, salience=True)
        rows = torch.cat([item.salience for item in encoded])
        inputs = plain_inputs(family, pair.folder, prompt.token_ids, images)
        expected = eager_salience(family, pair.folder, inputs)
        assert rows.shape == expected.shape == (sum(item.grid.tokens for item in encoded),)
        difference = float((rows - expected).abs().max())
        note(measured, family, "salience_difference", difference)
        assert difference <= TOLERANCE
        # A column mean over n tokens averages 1/n, so an absolute bound alone could hide a wrong row.
        assert torch.allclose(rows, expected, rtol=1e-3, atol=1e-7)
        assert rows.std() > 0


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_positions_equal_rope_index(family: str, pair_of: Callable) -> None:
    pair = pair_of(family)
    images = pictures(family, 3, seed=4)
    prompt = pair.ours.prepare(question(3), images=images)
    inputs = plain_inputs(family, pair.folder, prompt.token_ids, images)
    expected, deltas = pair.theirs.model.get_rope_index(
        inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
    )
    positions = pair.ours.positions(prompt)
    assert torch.equal(positions, expected)
    assert int(positions.max()) + 1 == len(prompt.token_ids) + int(deltas)
    assert pair.ours.hf_model.model.rope_deltas is None, "transformers cached an offset on the shared module"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_encoding_together_equals_encoding_alone(family: str, pair_of: Callable) -> None:
    """Batching images of different sizes mixes nothing, and salience changes no feature."""
    model = pair_of(family).ours
    media = [
        item
        for images in (pictures(family, 1, seed=5), pictures(family, 3, seed=6))
        for item in model.prepare(question(len(images)), images=images).media
    ]
    together = model.encode(media, salience=True)
    for item, batched in zip(media, together, strict=True):
        [alone] = model.encode([item])
        assert alone.salience is None
        assert torch.allclose(alone.features, batched.features, atol=1e-5)
        [with_row] = model.encode([item], salience=True)
        assert torch.allclose(with_row.salience, batched.salience, atol=1e-6)
        assert all(
            torch.allclose(one, other, atol=1e-5)
            for one, other in zip(alone.deepstack, batched.deepstack, strict=True)
        )
