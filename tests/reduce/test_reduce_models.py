"""Every method on every family through the reference path: refused with a reason, or exact and answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from foveate.errors import ReductionError
from foveate.models import load
from foveate.models.generation import SamplingOptions
from foveate.models.parts.patches import patches_of, pictures_of
from foveate.models.parts.salience import TowerRequest
from foveate.models.registry import FAMILIES
from foveate.reduce import generate_reduced, get_reducer, reduce_prompt, reduced_logits
from foveate.reduce.registry import METHODS
from foveate.reduce.table import supported

SHORT = SamplingOptions(max_new_tokens=6)
VARIANTS = {"paligemma2": "paligemma", "gemma3_crops": "gemma3"}


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Family -> its tiny model."""
    loaded: dict[str, Any] = {}
    root: Path = tmp_path_factory.mktemp("reduce")

    def get(family: str) -> Any:
        if family not in loaded:
            loaded[family] = load(tiny.build_tiny(family, root / family), device="cpu")
        return loaded[family]

    return get


def prompt_of(model: Any, family: str, images: int) -> Any:
    sizes = tiny.FAMILIES[family].sizes
    pictures = [tiny.picture(*sizes[(index + 1) % len(sizes)], index) for index in range(images)]
    parts: list[dict[str, Any]] = []
    for index in range(images):
        parts += [{"type": "image"}, {"type": "text", "text": f"({index})"}]
    content = [*parts, {"type": "text", "text": "is there a star"}]
    return model.prepare([{"role": "user", "content": content}], images=pictures)


def answer(model: Any, reduced: Any) -> list[int]:
    return [token.id for token in generate_reduced(model, reduced, SHORT)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("info", METHODS, ids=lambda info: info.name)
def test_method_on_family(info: Any, family: str, model_of: Callable[[str], Any]) -> None:
    model, method = model_of(family), get_reducer(info.name)
    facts = next(one for one in FAMILIES if one.name == VARIANTS.get(family, family))
    reason = supported(info, facts)
    for images in (1, 2):
        prompt = prompt_of(model, family, images)
        if reason:
            with pytest.raises(ReductionError, match="cannot reduce") as caught:
                reduce_prompt(model, prompt, None, method, "50%")
            assert caught.value.why == reason
            continue
        reduced = reduce_prompt(model, prompt, None, method, "50%")
        kept = [keep.count for keep in reduced.keep_maps]
        assert kept == [len(item.features) for item in reduced.features]
        for keep, item in zip(reduced.keep_maps, prompt.media, strict=True):
            assert keep.count == method.plan(item.grid, "50%").kept < item.grid.tokens
        visual = [token == model.image_token_id for token in reduced.prompt.token_ids]
        assert sum(visual) == sum(kept)
        assert [sum(visual[first:last]) for first, last in reduced.prompt.spans] == kept
        text = [token for token in prompt.token_ids if token != model.image_token_id]
        assert [t for t in reduced.prompt.token_ids if t != model.image_token_id] == text, "text was dropped"
        logits = reduced_logits(model, reduced)
        assert logits.shape[0] == len(reduced.prompt.token_ids)
        assert torch.isfinite(logits).all()
        first = answer(model, reduced)[0]
        assert first == int(logits[-1].argmax()), "generation and one forward disagree"


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_full_is_bit_identical(family: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(family)
    prompt = prompt_of(model, family, 2)
    expected = model.logits(prompt)
    for name in ("hired", "tome", "downsample"):
        reduced = reduce_prompt(model, prompt, None, get_reducer(name), "full")
        assert torch.equal(reduced_logits(model, reduced), expected)
    assert answer(model, reduced) == [token.id for token in model.generate(prompt, max_new_tokens=6)]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_reduction_is_by_image(family: str, model_of: Callable[[str], Any]) -> None:
    """Features given and features made here agree; budgets are each image's own; the choice reaches the answer."""
    model, method = model_of(family), get_reducer("fastervlm")
    prompt = prompt_of(model, family, 2)
    features = model.encode(prompt.media, salience=method.request())
    reduced = reduce_prompt(model, prompt, features, method, "50%")
    again = reduce_prompt(model, prompt, None, method, "50%")
    assert torch.equal(reduced_logits(model, reduced), reduced_logits(model, again))
    for item, keep in zip(features, reduced.keep_maps, strict=True):
        alone = method.select(item, method.plan(item.grid, "50%"))
        assert torch.equal(alone.kept, keep.kept)
    other = reduce_prompt(model, prompt, features, get_reducer("random", seed=3), "50%")
    assert not torch.equal(reduced_logits(model, reduced)[-1], reduced_logits(model, other)[-1])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_positions_keep_or_repack(family: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(family)
    prompt = prompt_of(model, family, 2)
    table = model.positions(prompt)
    kept = reduce_prompt(model, prompt, None, get_reducer("strided", positions="keep"), "50%")
    packed = reduce_prompt(model, prompt, None, get_reducer("strided", positions="repack"), "50%")
    assert kept.following == int(table.max()) + 1
    assert torch.equal(kept.positions[..., -1], table[..., -1]), "text behind an image stays where it was"
    assert packed.positions.shape == kept.positions.shape == (*table.shape[:-1], len(packed.prompt.token_ids))
    if table.ndim == 2:
        start = int(table[0, 0])
        assert packed.positions[0].tolist() == list(range(start, start + len(packed.prompt.token_ids)))
    default = reduce_prompt(model, prompt, None, get_reducer("strided"), "50%")
    assert torch.equal(default.positions, (kept if table.ndim == 3 else packed).positions)
    assert packed.following == int(packed.positions.max()) + 1


def test_repacked_m_rope_closes_up_rows_and_columns(model_of: Callable[[str], Any]) -> None:
    """By hand: of a 2 x 3 image tokens 1 and 5 stay, in two rows and two columns."""
    from dataclasses import replace

    from foveate.reduce.keep_map import KeepMap
    from foveate.reduce.positions import reduced_positions

    model = model_of("qwen2_vl")
    prompt = prompt_of(model, "qwen2_vl", 1)
    [grid] = [item.grid for item in prompt.media]
    assert (grid.rows, grid.cols) == (2, 4) or grid.tokens >= 6
    picked = [1, grid.cols + 2]
    keep = KeepMap(grid=grid, kept=torch.tensor(picked), asked="2", reason="", method="")
    first = prompt.token_ids.index(model.image_token_id)
    text_after = len(prompt.token_ids) - first - grid.tokens
    tokens = [*range(first), *(first + i for i in picked), *range(first + grid.tokens, len(prompt.token_ids))]
    after = replace(prompt, token_ids=[prompt.token_ids[i] for i in tokens])
    positions, following = reduced_positions(model, prompt, after, torch.tensor(tokens), [keep], "repack")
    assert positions[:, 0, first : first + 2].tolist() == [[first, first]] + [[first, first + 1]] * 2
    assert positions[0, 0, first + 2] == first + 2
    assert following == first + 2 + text_after


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_request_changes_no_feature_and_no_salience(family: str, model_of: Callable[[str], Any]) -> None:
    model = model_of(family)
    media = prompt_of(model, family, 2).media
    plain = model.encode(media, salience=True)
    asked = model.encode(media, salience=TowerRequest(shallow=0.0, keys=True))
    for one, other in zip(plain, asked, strict=True):
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.salience, other.salience)
        assert one.keys is None and one.shallow_salience is None
        assert other.shallow_salience.shape == one.salience.shape
        assert not torch.equal(other.shallow_salience, one.salience), "the same layer twice"
        assert other.keys.shape[0] == one.grid.tokens
        assert other.keys.std() > 0
        deepest = model.encode(media, salience=TowerRequest(shallow=0.999))
        assert all(item.shallow_salience is not None for item in deepest)


@pytest.mark.parametrize("family", ["llava", "paligemma", "idefics3", "qwen2_5_vl"])
def test_early_rows_and_keys_stand_where_their_tokens_do(family: str, model_of: Callable[[str], Any]) -> None:
    """The early row at the depth of the layer read is the salience row itself, token by token."""
    model = model_of(family)
    media = prompt_of(model, family, 1).media
    rows = []
    for depth in (0.0, 0.34, 0.67, 0.999):
        [item] = model.encode(media, salience=TowerRequest(shallow=depth))
        rows.append(torch.equal(item.salience, item.shallow_salience))
    assert any(rows), "no depth names the layer that the model reads"


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_downsampling_is_a_smaller_picture(family: str, model_of: Callable[[str], Any]) -> None:
    model, method = model_of(family), get_reducer("downsample")
    prompt = prompt_of(model, family, 1)
    reduced = reduce_prompt(model, prompt, None, method, "50%")
    [item], [keep] = reduced.prompt.media, reduced.keep_maps
    assert keep.stage == "input"
    assert item.grid.tokens == keep.count < prompt.media[0].grid.tokens
    assert torch.equal(reduced.positions, model.positions(reduced.prompt))
    smaller, larger = model.picture(item), model.picture(prompt.media[0])
    assert smaller.shape[-1] * smaller.shape[-2] < larger.shape[-1] * larger.shape[-2]
    assert abs(float(smaller.mean() - larger.mean())) < 0.1
    with pytest.raises(NotImplementedError):
        model_of("internvl").resized(prompt.media[0], 1, 1)


def test_patches_and_pictures_are_inverse(model_of: Callable[[str], Any]) -> None:
    model = model_of("qwen2_vl")
    [item] = prompt_of(model, "qwen2_vl", 1).media
    pixels = item.tensors["pixel_values"]
    pictures = pictures_of(pixels, item.grid.rows, item.grid.cols, merge=2, patch=14, frames=2)
    assert torch.equal(patches_of(pictures[:1], merge=2, patch=14, frames=2), pixels)
    # A picture that is red above and blue below stays so: rows are rows.
    from PIL import Image

    image = Image.new("RGB", (112, 112), (255, 0, 0))
    image.paste((0, 0, 255), (0, 56, 112, 112))
    prompt = model.prepare([{"role": "user", "content": [{"type": "image"}]}], images=[image])
    [seen] = model.picture(prompt.media[0])
    assert seen[0, : seen.shape[1] // 2].min() > seen[0, seen.shape[1] // 2 :].max()
    assert seen.std(dim=2).max() < 1e-6


def test_auto_reads_the_question_and_the_picture(model_of: Callable[[str], Any]) -> None:
    model = model_of("qwen2_vl")
    prompt = prompt_of(model, "qwen2_vl", 1)
    reduced = reduce_prompt(model, prompt, None, get_reducer("random"), "auto", question="read the text")
    assert reduced.keep_maps[0].is_full
    with pytest.raises(ReductionError, match="more than the image has"):
        reduce_prompt(model, prompt, None, get_reducer("random"), 10_000)
