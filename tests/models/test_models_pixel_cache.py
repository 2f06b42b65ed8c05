"""Processed pixels are kept by content, within their limit, for every thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tiny
import torch

from foveate.models import load
from foveate.models.parts.pixel_cache import PixelCache


def tensors(value: int, count: int = 4) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.full((count,), float(value))}


def test_the_least_recently_asked_leaves_first_and_bytes_are_exact() -> None:
    cache, made = PixelCache(limit=48), []

    def get(key: int) -> float:
        def process() -> dict[str, torch.Tensor]:
            made.append(key)
            return tensors(key)

        return float(cache.get(key, process)["pixel_values"][0])

    assert [get(key) for key in (1, 2, 3, 1, 4, 1, 3, 2)] == [1, 2, 3, 1, 4, 1, 3, 2]
    assert made == [1, 2, 3, 4, 2] and cache.bytes == 48 and cache.hits == 3


def test_what_is_too_large_is_given_and_not_kept() -> None:
    cache = PixelCache(limit=8)
    assert float(cache.get("a", lambda: tensors(7))["pixel_values"][0]) == 7
    assert cache.bytes == 0


def test_threads_agree() -> None:
    cache = PixelCache(limit=160)
    with ThreadPoolExecutor(8) as pool:
        got = pool.map(
            lambda i: float(cache.get(i % 20, lambda: tensors(i % 20))["pixel_values"][0]), range(400)
        )
        assert list(got) == [i % 20 for i in range(400)]
    assert cache.bytes <= 160


def test_a_second_question_about_a_picture_does_not_process_it_again(tmp_path: Path) -> None:
    model = load(tiny.build_tiny("llava_onevision", tmp_path), device="cpu", dtype="float32")
    one, other = (tiny.picture(60, 40, seed) for seed in (1, 2))
    parts = [{"type": "image"}, {"type": "text", "text": "what"}]
    alone = model.prepare([{"role": "user", "content": parts}], images=[one])
    again = model.prepare([{"role": "user", "content": parts}], images=[one])
    assert model.pixels.hits == 1
    assert torch.equal(alone.media[0].tensors["pixel_values"], again.media[0].tensors["pixel_values"])
    # Among others the same picture is tiled differently, and is another entry.
    both = model.prepare([{"role": "user", "content": [parts[0], *parts]}], images=[one, other])
    assert model.pixels.hits == 1 and both.media[0].grid != alone.media[0].grid
