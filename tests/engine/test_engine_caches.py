"""Names of prefixes, features in bytes, cuts and sizes: each rule by example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.config import EngineConfig
from foveate.engine.encoder_cache import EncoderCache, own_copy
from foveate.engine.engine import Engine
from foveate.engine.layout import PromptLayout, lay_out, media_key, processing_settings
from foveate.engine.memory import plan_memory
from foveate.engine.positions import ModelPositions, PositionTrack
from foveate.engine.request import SamplingParameters
from foveate.models.records import MediaFeatures, Prompt

ONE = SamplingParameters(max_tokens=1)


def hits(first: Prompt, second: Prompt, *, tenants: tuple[str, str] = ("", ""), **fields: Any) -> int:
    """Tokens of `second` found after `first` has run."""
    model = fields.pop("model", None) or FakeModel()
    engine = Engine(model, EngineConfig(kv_blocks=60, block_size=4, encoder_cache_bytes=4000, **fields))
    engine.add_request(first, ONE, tenant=tenants[0])
    engine.run_to_completion()
    before = engine.prefixes.hit_tokens
    name = engine.add_request(second, ONE, tenant=tenants[1])
    [answer] = engine.run_to_completion()[name]
    assert answer.token_ids == model.foretell(second, 1)
    engine.check_integrity()
    return engine.prefixes.hit_tokens - before


def test_text_that_begins_alike_is_shared_in_whole_blocks() -> None:
    words = list(range(1, 15))
    assert hits(fake_prompt(words), fake_prompt(words)) == 12
    assert hits(fake_prompt(words[:12]), fake_prompt(words[:12])) == 8  # one token is left to compute
    assert hits(fake_prompt(words), fake_prompt([*words[:9], 50, 51, 52])) == 8
    assert hits(fake_prompt(words), fake_prompt([90, *words])) == 0
    assert hits(fake_prompt(words), fake_prompt(words), prefix_caching=False) == 0


def test_a_text_only_key_never_matches_another_image() -> None:
    """Same token ids, same places: only the picture differs."""
    with_a, with_b = (fake_prompt([1, 2, fake_image(seed, 8), 3, 4, 5]) for seed in (1, 2))
    assert with_a.token_ids == with_b.token_ids
    assert hits(with_a, with_a) == 12
    assert hits(with_a, with_b) == 0
    # The block before the image is shared; the blocks that touch it are not.
    late_a, late_b = (fake_prompt([1, 2, 3, 4, 5, fake_image(seed, 6), 6, 7]) for seed in (1, 2))
    assert hits(late_a, late_b) == 4
    # The text after two images in other order begins with other blocks.
    one, two = fake_image(1, 4), fake_image(2, 4)
    assert hits(fake_prompt([one, two, 1, 2, 3, 4, 5]), fake_prompt([two, one, 1, 2, 3, 4, 5])) == 0


def test_the_place_of_an_image_is_part_of_the_key() -> None:
    """A block inside an image of repeated placeholders: the same ids and the same image, other rows of it."""
    image = fake_image(1, 12)
    shifted = fake_prompt([96, 96, image, 1, 2, 3])  # placeholders written as text, to make the ids equal
    straight = fake_prompt([image, 96, 96, 1, 2, 3])
    assert shifted.token_ids == straight.token_ids
    assert not set(names_of(shifted)) & set(names_of(straight))


def names_of(prompt: Prompt, span: int | None = None) -> list[bytes]:
    """Names of the first three blocks of four; `span` tokens at the beginning see each other both ways."""

    class Prefixed(FakeModel):
        def attention_groups(self, prompt: Prompt) -> torch.Tensor | None:
            return None if span is None else torch.zeros(span, dtype=torch.long)

    model: Any = Prefixed()
    engine = Engine(model, EngineConfig(kv_blocks=60, block_size=4, encoder_cache_bytes=4000))
    engine.add_request(prompt, ONE)
    [waiting] = engine.scheduler.waiting
    return engine.prefixes._name(waiting, 3)


def test_the_end_of_a_span_is_part_of_every_key_it_touches() -> None:
    """The same twelve tokens, of which other numbers see each other: other keys and values throughout."""
    words = fake_prompt(list(range(1, 15)))
    causal, five, nine = (names_of(words, span) for span in (None, 5, 9))
    assert not set(causal) & set(five) and not set(five) & set(nine)
    longer = fake_prompt([*range(1, 13), 50, 51])
    assert names_of(longer, 13)[0] != names_of(words, 13)[0], "a later token of the span was not looked at"
    assert names_of(longer, 12) == names_of(words, 12)


def test_tenants_share_nothing() -> None:
    words = fake_prompt(list(range(1, 15)))
    assert hits(words, words, tenants=("a", "a")) == 12
    assert hits(words, words, tenants=("a", "b")) == 0
    assert hits(words, words, tenants=("", "b")) == 0


def test_a_prefix_that_ends_inside_a_bidirectional_span_is_cut_back() -> None:
    prompt = fake_prompt([1, 2, 3, 4, 5, fake_image(1, 9), 6])  # span of tokens 5 to 14, prompt of 15
    assert hits(prompt, prompt) == 12
    assert hits(prompt, prompt, model=FakeModel(bidirectional=True)) == 4


def test_a_prefix_that_sees_later_tokens_is_named_after_them() -> None:
    """PaliGemma: every token of the prompt sees the whole prompt, so another question changes every block."""

    class Whole(FakeModel):
        def attention_groups(self, prompt: Prompt) -> torch.Tensor:
            return torch.zeros(len(prompt.token_ids), dtype=torch.long)

    model = Whole()
    engine = Engine(model, EngineConfig(kv_blocks=60, block_size=4))  # type: ignore[arg-type]
    words = list(range(1, 14))
    long = SamplingParameters(max_tokens=9, ignore_end=True)
    engine.add_request(fake_prompt(words), long, request_id="first")
    for _ in range(6):
        engine.step()
    [answer] = engine.scheduler.running
    engine.scheduler.requeue(answer)
    assert len(engine.prefixes.match(answer)) == 4  # it resumes behind the span of 13: its own past is found
    engine.run_to_completion()
    assert hits(fake_prompt(words), fake_prompt([*words[:8], 90]), model=Whole()) == 0
    assert hits(fake_prompt(words), fake_prompt(words), model=Whole()) == 0


def test_blocks_are_evicted_least_recently_used_first() -> None:
    engine = Engine(FakeModel(), EngineConfig(kv_blocks=8, block_size=4))  # type: ignore[arg-type]
    prompts = {
        name: fake_prompt([base + i for i in range(11)]) for name, base in (("a", 1), ("b", 30), ("c", 60))
    }

    def ask(name: str) -> int:
        before = engine.prefixes.hit_tokens
        engine.add_request(prompts[name], ONE)
        engine.run_to_completion()
        return engine.prefixes.hit_tokens - before

    assert [ask(name) for name in "abab"] == [0, 0, 8, 8]
    assert ask("a") == 8
    assert ask("c") == 0 and engine.prefixes.evictions == 0
    engine.add_request(fake_prompt(list(range(70, 90))), ONE)  # five blocks: the oldest must go
    engine.run_to_completion()
    assert engine.prefixes.evictions > 0
    assert ask("b") == 0
    engine.check_integrity()


def features(count: int) -> MediaFeatures:
    item = fake_image(0, count)
    return MediaFeatures(features=torch.ones(count, 1), grid=item.grid)


def test_features_that_are_referred_to_stay() -> None:
    cache = EncoderCache(100)
    assert not cache.acquire("a", 40)
    cache.fill("a", features(10))
    assert not cache.acquire("b", 40)
    cache.fill("b", features(10))
    assert not cache.can_hold({"c": 40}) and cache.can_hold({"c": 20}) and cache.can_hold({"a": 40})
    cache.release("b")
    assert cache.can_hold({"c": 40}) and not cache.can_hold({"c": 40, "d": 40})
    assert cache.acquire("a", 40)
    assert not cache.acquire("c", 40)  # b goes, a is held
    assert cache.get("a").features.shape == (10, 1) and cache.evictions == 1
    cache.release("c")  # never filled in: nothing to keep
    assert cache.bytes == 40
    cache.check_integrity(idle=False)
    with pytest.raises(AssertionError, match="still referred to"):
        cache.check_integrity(idle=True)
    cache.release("a")
    cache.release("a")
    cache.check_integrity(idle=True)
    assert cache.acquire("a", 40), "unused features stay until the room is needed"


def test_a_cached_slice_does_not_keep_its_batch() -> None:
    batch = torch.zeros(1000, 4)
    item = MediaFeatures(features=batch[:10], grid=fake_image(0, 10).grid, deepstack=(batch[20:30],))
    copy = own_copy(item)
    for tensor in (copy.features, *copy.deepstack):
        assert tensor.untyped_storage().nbytes() == 10 * 4 * 4


def test_equal_images_of_many_requests_share_one_encoding() -> None:
    model = FakeModel()
    calls: list[int] = []
    encode = model.encode
    model.encode = lambda media: calls.append(len(media)) or encode(media)  # type: ignore[method-assign,func-returns-value]
    engine = Engine(model, EngineConfig(kv_blocks=60, encoder_cache_bytes=4000))  # type: ignore[arg-type]
    for seed in (1, 2, 1, 1, 3):
        engine.add_request(fake_prompt([4, fake_image(seed, 5), seed]), ONE)
    engine.run_to_completion()
    assert calls == [3] and sorted(model.encoded) == ["image 1", "image 2", "image 3"]
    for entry in engine.encoder._entries.values():
        assert entry.features is not None
        assert entry.features.features.untyped_storage().nbytes() == 5 * 4, "a slice keeps its batch alive"


def test_a_name_of_features_covers_content_processing_grid_and_reducer() -> None:
    image = fake_image(1, 4)
    names = {
        media_key(image, "s"),
        media_key(fake_image(2, 4), "s"),
        media_key(image, "t"),
        media_key(image, "s", reducer="top-k 25%"),
        media_key(type(image)(tensors=image.tensors, grid=image.grid, width=4, height=1), "s"),
        media_key(type(image)(**{**vars(image), "grid": fake_image(1, 5).grid}), "s"),
    }
    assert len(names) == 6
    assert media_key(fake_image(1, 4), "s") in names


def layout_of(prompt: Prompt, **fields: Any) -> PromptLayout:
    model: Any = FakeModel(**fields)
    return lay_out(model, prompt, ModelPositions(model), processing_settings(model))


def test_cuts_and_slices_of_a_prompt() -> None:
    prompt = fake_prompt([1, 2, fake_image(1, 4), 3, fake_image(2, 3), 4])  # images at 2 to 6 and 7 to 10
    free = layout_of(prompt)
    assert [free.cut(0, stop) for stop in range(1, 12)] == list(range(1, 12))
    assert free.feature_rows(3, 9) == [(0, 1, 4), (1, 0, 2)]
    assert free.feature_rows(10, 30) == [] and free.media_in(6, 7) == []
    assert [free.first_token_of(index) for index in (0, 1)] == [2, 7]
    assert [free.media_done(0, computed) for computed in (5, 6)] == [False, True]
    bound = layout_of(prompt, bidirectional=True)
    assert bound.atomic == ((2, 6), (7, 10))
    assert [bound.cut(0, stop) for stop in range(1, 12)] == [1, 2, 2, 2, 2, 6, 7, 7, 7, 10, 11]
    assert bound.cut(2, 4) == 2 and bound.shortest_chunk(2) == 6 and bound.shortest_chunk(6) == 7


def test_groups_that_overlap_are_one_span() -> None:
    class Crossed(FakeModel):
        def attention_groups(self, prompt: Prompt) -> torch.Tensor:
            return torch.tensor([0, 1, 0, 1, -1, 2])

    model: Any = Crossed()
    layout = lay_out(model, fake_prompt([1] * 6), ModelPositions(model), "")
    assert layout.atomic == ((0, 4), (5, 6))
    assert isinstance(layout.positions, PositionTrack)


def test_the_memory_plan_follows_the_budget_and_says_why(family_of: Callable) -> None:
    model = family_of("llava").model
    token = 3 * 2 * 2 * 12 * 4  # layers, keys and values, groups, width, float32
    plan = plan_memory(model, EngineConfig(memory_bytes=10 * 2**20))
    assert plan.block_bytes == 16 * token
    assert plan.encoder_bytes == 2**20
    assert plan.kv_blocks == 9 * 2**20 // (16 * token)
    assert "memory for caches: 10.0 MiB (asked for)" in plan.text()
    assert "what the rest of the budget holds" in plan.text()
    whole = plan_memory(model, EngineConfig(memory_bytes=2**34, max_sequences=2))
    assert whole.kv_blocks == 2 * 4096 // 16 and "need no more" in whole.text()
    assert plan_memory(family_of("qwen2").model, EngineConfig(memory_bytes=2**24)).encoder_bytes == 0
    assert plan_memory(model, EngineConfig()).kv_blocks > 0
