"""Models that are made in memory for a claim: published shapes with random weights, and fovea-nano under tiles.

Owns the shapes and how they are filled. Tokenizer and chat template are fovea-nano's; a random model's answers are
tokens without sense, and what is measured is how long they take. Knows no claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class LanguageShape:
    """A Llama decoder; widths in numbers, `vocabulary` in rows of the tied embedding."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    vocabulary: int


@dataclass(frozen=True, kw_only=True)
class TowerShape:
    """A CLIP tower over square tiles of `side` pixels in patches of 14."""

    layers: int
    width: int
    inner: int
    heads: int
    side: int = 336


SMOLLM2_360M = LanguageShape(layers=32, width=960, inner=2560, heads=15, key_heads=5, vocabulary=49152)
SMOLLM2_135M = LanguageShape(layers=30, width=576, inner=1536, heads=9, key_heads=3, vocabulary=49152)
TINY = LanguageShape(layers=4, width=256, inner=512, heads=4, key_heads=2, vocabulary=2048)
# About the share of all parameters that CLIP-L has beside a language model of 7 billion.
SMALL_TOWER = TowerShape(layers=4, width=384, inner=1536, heads=6)
TINY_TOWER = TowerShape(layers=2, width=64, inner=128, heads=2)
# LLaVA-NeXT's grids of tiles for tiles of 336 pixels, smallest first.
_GRIDS = ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1))


def llava(language: LanguageShape, tower: TowerShape, *, seed: int = 0) -> VisionLanguageModel:
    """LLaVA-1.5's build: one tile, (side / 14)^2 visual tokens."""
    return _model("llava", language, tower, seed)


def llava_next(language: LanguageShape, tower: TowerShape, *, seed: int = 0) -> VisionLanguageModel:
    """LLaVA-NeXT's build: an overview and up to four tiles, a newline token behind every row of the tiled area."""
    return _model("llava_next", language, tower, seed)


def tiled_nano() -> VisionLanguageModel:
    """fovea-nano's own weights under LLaVA-NeXT's build: an overview and 2 x 2 tiles of a picture of 336 pixels.

    It was never trained on tiles; the newline token is nothing. 144 + 24 * 25 = 744 visual tokens.
    """
    import transformers

    from foveate.models import load

    nano = load()
    side = int(nano.config.vision_config.image_size)
    grids = [[2 * side, 2 * side]]
    config = transformers.LlavaNextConfig(
        vision_config=nano.config.vision_config,
        text_config=nano.config.text_config,
        image_token_id=nano.image_token_id,
        vision_feature_layer=nano.config.vision_feature_layer,
        tie_word_embeddings=True,
        image_grid_pinpoints=grids,
    )
    processor = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_grid_pinpoints=grids,
        image_mean=nano.image_processor.image_mean,
        image_std=nano.image_processor.image_std,
    )
    model = _adapted("llava_next", config, processor, nano, nano.dtype, nano.describe()["dtype_reason"])
    model.hf_model.model.image_newline.data.zero_()
    report = model.hf_model.load_state_dict(nano.hf_model.state_dict(), strict=False)
    assert report.missing_keys == ["model.image_newline"] and not report.unexpected_keys
    return model


def _model(family: str, language: LanguageShape, tower: TowerShape, seed: int) -> VisionLanguageModel:
    import torch

    from foveate.models import load
    from foveate.models.loading import choose_dtype

    nano = load()
    config = _config(family, language, tower, nano.image_token_id)
    dtype, reason = choose_dtype("auto", nano.device, {"dtype": "bfloat16"})
    model = _adapted(family, config, _processor(family, tower), nano, dtype, reason)
    _fill(model.hf_model, len(nano.tokenizer), torch.Generator().manual_seed(seed))
    return model


def _adapted(
    family: str, config: Any, processor: Any, nano: VisionLanguageModel, dtype: Any, reason: str
) -> VisionLanguageModel:
    """A model of this configuration behind the family's adapter, its weights not yet filled."""
    import transformers

    from foveate.models.attention import LANGUAGE_ATTENTION, TOWER_ATTENTION, register
    from foveate.models.parts.towers import lay_patches_in_rows
    from foveate.models.records import LoadedCheckpoint
    from foveate.models.registry import adapter_class, find_family

    register()
    built = transformers.AutoModelForImageTextToText.from_config(
        config,
        dtype=dtype,
        attn_implementation={"text_config": LANGUAGE_ATTENTION, "vision_config": TOWER_ATTENTION},
    )
    built.eval().requires_grad_(False)
    lay_patches_in_rows(built)
    nano.tokenizer.model_max_length = int(config.text_config.max_position_embeddings)
    checkpoint = LoadedCheckpoint(
        ref=f"fovea-nano's tokens in a {family}",
        folder=nano.folder,
        config=built.config,
        hf_model=built,
        tokenizer=nano.tokenizer,
        image_processor=processor,
        chat_template=nano.chat_template,
        dtype=dtype,
        dtype_reason=reason,
        device=nano.device,
        device_reason=nano.device_reason,
    )
    model: VisionLanguageModel = adapter_class(find_family(family))(checkpoint)
    return model


def _config(family: str, language: LanguageShape, tower: TowerShape, image_token: int) -> Any:
    import transformers

    vision = transformers.CLIPVisionConfig(
        hidden_size=tower.width,
        intermediate_size=tower.inner,
        num_hidden_layers=tower.layers,
        num_attention_heads=tower.heads,
        image_size=tower.side,
        patch_size=14,
    )
    text = transformers.LlamaConfig(
        hidden_size=language.width,
        intermediate_size=language.inner,
        num_hidden_layers=language.layers,
        num_attention_heads=language.heads,
        num_key_value_heads=language.key_heads,
        vocab_size=language.vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    common = {
        "vision_config": vision,
        "text_config": text,
        "image_token_id": image_token,
        "tie_word_embeddings": True,
    }
    if family == "llava":
        return transformers.LlavaConfig(**common, image_seq_length=(tower.side // 14) ** 2)
    grids = [[rows * tower.side, columns * tower.side] for rows, columns in _GRIDS]
    return transformers.LlavaNextConfig(**common, image_grid_pinpoints=grids)


def _processor(family: str, tower: TowerShape) -> Any:
    """Of the tower's size; a lone tile is squeezed into it, so that no picture changes the number of tokens."""
    import transformers

    side = {"height": tower.side, "width": tower.side}
    if family == "llava":
        return transformers.LlavaImageProcessorPil(size=side, do_center_crop=False)
    grids = [[rows * tower.side, columns * tower.side] for rows, columns in _GRIDS]
    return transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": tower.side}, crop_size=side, image_grid_pinpoints=grids
    )


def _fill(model: Any, rows: int, generator: Any) -> None:
    """Normal weights with the spread of their fan-in; rows of words that the tokenizer lacks give nothing."""
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            weight.data.normal_(0.0, weight[0].numel() ** -0.5, generator=generator)
        else:
            weight.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    model.get_input_embeddings().weight.data[rows:] = 0.0
