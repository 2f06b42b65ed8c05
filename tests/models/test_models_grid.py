"""The visual-token count promised before encoding is the count that encoding gives, for any size of image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate.errors import PromptError
from foveate.models import load
from foveate.models.records import PreparedMedia

SIDES = st.integers(min_value=2, max_value=420)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(width=SIDES, height=SIDES, images=st.sampled_from([1, 2]))
def test_promise_is_kept(family: str, pair_of: Callable, width: int, height: int, images: int) -> None:
    model = pair_of(family).ours
    try:
        grid = model.visual_grid(width, height, images_in_prompt=images)
    except PromptError as error:
        assert "qwen" in family and max(width, height) > 200 * min(width, height), str(error)
        return
    tensors = model.process_pixels(tiny.picture(width, height, 7), images_in_prompt=images)
    item = PreparedMedia(tensors=tensors, grid=grid, width=width, height=height)
    [encoded] = model.encode([item], salience=True)
    assert encoded.features.shape == (grid.tokens, model.text_config.hidden_size)
    assert encoded.salience is not None and encoded.salience.shape == (grid.tokens,)
    assert 0 <= grid.extra < grid.tokens
    assert model.placeholder_text(grid).count(model.image_token) == grid.tokens


@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
def test_split_where_the_processor_counts_wrongly(family: str, tiny_folder: Callable) -> None:
    """With a longest edge that is no multiple of the tile; what preprocessing does is what counts."""
    model = load(tiny_folder(family), device="cpu")
    model.image_processor.size = {"longest_edge": 100}
    wrong = 0
    for height in range(20, 400, 7):
        grid = model.visual_grid(400, height)
        pixels = model.process_pixels(tiny.picture(400, height, 1))["pixel_values"]
        assert pixels.shape[0] == len(grid.tiles)
        wrong += model.image_processor.get_number_of_image_patches(height, 400, {})[0] != len(grid.tiles)
    assert wrong > 0, "the processor counts rightly now: Idefics3 may use its count"


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "llava": ("LlavaProcessor", {"patch_size": 14, "num_additional_image_tokens": 1}),
    "llava_next": ("LlavaNextProcessor", {"patch_size": 14, "num_additional_image_tokens": 1}),
    "idefics3": ("Idefics3Processor", {"image_seq_len": 4}),
    "paligemma": ("PaliGemmaProcessor", {}),
    "gemma3": ("Gemma3Processor", {"image_seq_length": 4}),
    "gemma3_crops": ("Gemma3Processor", {"image_seq_length": 4}),
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_prompt_equals_the_transformers_processor(family: str, tiny_folder: Callable) -> None:
    """Token for token, where transformers' processor can be built without torchvision."""
    model = load(tiny_folder(family), device="cpu")
    name, keywords = PROCESSORS[family]
    if family.startswith("llava"):
        keywords = {**keywords, "vision_feature_select_strategy": "default"}
    if family == "paligemma":
        model.image_processor.image_seq_length = 16
    for attribute, token in zip(
        ("image_token", "boi_token", "eoi_token"), tiny.GEMMA_TOKENS[:3], strict=True
    ):
        if family.startswith("gemma3"):
            setattr(model.tokenizer, attribute, token)
            setattr(model.tokenizer, f"{attribute}_id", model.tokenizer.convert_tokens_to_ids(token))
    images = [tiny.picture(*size, seed) for seed, size in enumerate(tiny.FAMILIES[family].sizes)]
    parts = [{"type": "image"}, {"type": "text", "text": "one\n"}, {"type": "image"}, {"type": "image"}]
    prompt = model.prepare(
        [{"role": "user", "content": [*parts, {"type": "text", "text": "what"}]}], images=images
    )
    text = prompt.text
    if family == "paligemma":  # its processor writes the beginning of sequence and the line break itself
        text = text.replace("<bos>", "").removesuffix("\n")
    crops = {
        key: getattr(model.image_processor, key)
        for key in ("do_pan_and_scan", "pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops")
        if family == "gemma3_crops"
    }
    processor = getattr(transformers, name)(
        image_processor=model.image_processor, tokenizer=model.tokenizer, **keywords
    )
    expected = processor(images=[images], text=[text], **crops)["input_ids"][0]
    assert prompt.token_ids == list(expected)
