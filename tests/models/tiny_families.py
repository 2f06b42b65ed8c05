"""The tiny configuration, image processor, special tokens and chat template of every family (see `tiny.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import transformers

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}


@dataclass
class TinyFamily:
    """The makings of one tiny checkpoint; `config` receives the tokenizer to fill in ids and vocabulary
    size.
    """

    config: Callable[[Any], Any]
    processor: Callable[[], Any] | None
    specials: tuple[str, ...]
    template: str | None
    auto: str = "AutoModelForImageTextToText"
    bos: str | None = None
    end: str = "<|end|>"
    sizes: tuple[tuple[int, int], ...] = ((56, 56), (90, 40), (33, 120))


def _vocabulary(tokenizer: Any) -> int:
    return len(tokenizer) + 8


def _llama(tokenizer: Any, **changes: Any) -> Any:
    return transformers.LlamaConfig(**{**TEXT, "vocab_size": _vocabulary(tokenizer), **changes})


def _turns(image: str, video: str = "", end: str = "<|end|>") -> str:
    """A template in this test's own words: role, parts in order, end."""
    return (
        "{% for message in messages %}[{{ message['role'] }}] "
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}"
        + image
        + "{% elif part['type'] == 'video' %}"
        + video
        + "{% else %}"
        "{{ part['text'] }}{% endif %}"
        "{% endfor %}" + end + "\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    )


def _llava_config(tokenizer: Any) -> Any:
    return transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=_llama(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )


def _clip_processor() -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})


def _siglip(**changes: Any) -> Any:
    return transformers.SiglipVisionConfig(**{**VISION, "vision_use_head": False, **changes})


def _square(edge: int) -> dict[str, int]:
    return {"height": edge, "width": edge}


PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]


def _llava_next_config(tokenizer: Any) -> Any:
    return transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION),
        text_config=_llama(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=PINPOINTS,
        tie_word_embeddings=False,
    )


def _llava_next_processor() -> Any:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    return LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size=_square(56), image_grid_pinpoints=PINPOINTS
    )


def _qwen2(tokenizer: Any, **changes: Any) -> Any:
    return transformers.Qwen2Config(**{**TEXT, "vocab_size": _vocabulary(tokenizer), **changes})


ONEVISION_PINPOINTS = [[56 * rows, 56 * cols] for rows in range(1, 5) for cols in range(1, 5)]


def _onevision_config(tokenizer: Any) -> Any:
    return transformers.LlavaOnevisionConfig(
        vision_config=_siglip(),
        text_config=_qwen2(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=ONEVISION_PINPOINTS,
        vision_aspect_ratio="anyres_max_4",
        tie_word_embeddings=False,
    )


def _onevision_processor() -> Any:
    from transformers.models.llava_onevision import image_processing_pil_llava_onevision as module

    return module.LlavaOnevisionImageProcessorPil(size=_square(56), image_grid_pinpoints=ONEVISION_PINPOINTS)


QWEN_TOKENS = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return {
        name: tokenizer.convert_tokens_to_ids(token) for name, token in zip(names, QWEN_TOKENS, strict=True)
    }


def _mrope_text(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    return {**TEXT, "vocab_size": _vocabulary(tokenizer), "rope_parameters": rope, **changes}


def _qwen2_vl_config(tokenizer: Any) -> Any:
    vision = {
        "depth": 3,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": 48,
        "mlp_ratio": 2,
        "patch_size": 14,
    }
    return transformers.Qwen2VLConfig(
        text_config=_mrope_text(tokenizer),
        vision_config=vision,
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )


def _qwen2_5_vl_config(tokenizer: Any) -> Any:
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "out_hidden_size": 48,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1, 3],
    }
    return transformers.Qwen2_5_VLConfig(
        text_config=_mrope_text(tokenizer),
        vision_config=vision,
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )


def _qwen3_vl_config(tokenizer: Any) -> Any:
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "out_hidden_size": 48,
        "patch_size": 16,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [1, 2],
    }
    return transformers.Qwen3VLConfig(
        text_config=_mrope_text(tokenizer, head_dim=12),
        vision_config=vision,
        tie_word_embeddings=False,
        **_qwen_ids(tokenizer),
    )


def _qwen_processor(patch: int) -> Callable[[], Any]:
    def build() -> Any:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 40}
        return Qwen2VLImageProcessorPil(size=size, patch_size=patch)

    return build


MARKERS = tuple(f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7))
IDEFICS_TOKENS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *MARKERS)


def _idefics3_config(tokenizer: Any) -> Any:
    return transformers.Idefics3Config(
        vision_config={**VISION, "patch_size": 14},
        text_config=_llama(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
    )


def _smolvlm_config(tokenizer: Any) -> Any:
    return transformers.SmolVLMConfig(
        vision_config={**VISION, "patch_size": 14},
        text_config=_llama(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
    )


def _idefics3_processor() -> Any:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    return Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})


def _smolvlm_processor() -> Any:
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    return SmolVLMImageProcessorPil(size={"longest_edge": 168}, max_image_size={"longest_edge": 56})


def _internvl_config(tokenizer: Any) -> Any:
    vision = {**VISION, "image_size": [56, 56], "patch_size": [14, 14]}
    return transformers.InternVLConfig(
        vision_config=vision,
        text_config=_qwen2(tokenizer).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        tie_word_embeddings=False,
    )


def _internvl_processor() -> Any:
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    return GotOcr2ImageProcessorPil(size=_square(56), max_patches=6)


def _paligemma_config(tokenizer: Any, *, second: bool = False) -> Any:
    gemma = transformers.Gemma2Config if second else transformers.GemmaConfig
    more = {"sliding_window": 24, "attn_logit_softcapping": 50.0} if second else {}
    return transformers.PaliGemmaConfig(
        vision_config={**VISION, "model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=gemma(
            **TEXT, vocab_size=_vocabulary(tokenizer), head_dim=12, pad_token_id=0, **more
        ).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=48,
        hidden_size=48,
        tie_word_embeddings=False,
    )


def _paligemma2_config(tokenizer: Any) -> Any:
    return _paligemma_config(tokenizer, second=True)


def _siglip_processor() -> Any:
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipImageProcessorPil(size=_square(56), resample=3)


GEMMA_TOKENS = ("<image_soft_token>", "<start_of_image>", "<end_of_image>", "<bos>")


def _gemma3_config(tokenizer: Any) -> Any:
    return transformers.Gemma3Config(
        vision_config=_siglip().to_dict(),
        text_config={
            **TEXT,
            "vocab_size": _vocabulary(tokenizer),
            "head_dim": 12,
            "pad_token_id": 0,
            # Smaller than an image's span and than the prompt: windows cut and groups cross them.
            "sliding_window": 3,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        mm_tokens_per_image=4,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        tie_word_embeddings=False,
    )


def _gemma3_processor() -> Any:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    return Gemma3ImageProcessorPil(size=_square(56))


def _gemma3_crops_processor() -> Any:
    processor = _gemma3_processor()
    processor.do_pan_and_scan = True
    processor.pan_and_scan_min_crop_size = 16
    processor.pan_and_scan_max_num_crops = 4
    processor.pan_and_scan_min_ratio_to_activate = 1.2
    return processor


QWEN_TURNS = _turns(
    "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
)
FAMILIES: dict[str, TinyFamily] = {
    "llava": TinyFamily(_llava_config, _clip_processor, ("<image>",), _turns("<image>")),
    "llava_next": TinyFamily(_llava_next_config, _llava_next_processor, ("<image>",), _turns("<image>")),
    "llava_onevision": TinyFamily(
        _onevision_config,
        _onevision_processor,
        ("<image>", "<video>"),
        _turns("<image>", "<video>"),
        sizes=((56, 56), (200, 150), (33, 120)),
    ),
    "qwen2_vl": TinyFamily(_qwen2_vl_config, _qwen_processor(14), QWEN_TOKENS, QWEN_TURNS),
    "qwen2_5_vl": TinyFamily(
        _qwen2_5_vl_config,
        _qwen_processor(14),
        QWEN_TOKENS,
        QWEN_TURNS,
        sizes=((140, 84), (90, 40), (70, 190)),
    ),
    "qwen3_vl": TinyFamily(_qwen3_vl_config, _qwen_processor(16), QWEN_TOKENS, QWEN_TURNS),
    "idefics3": TinyFamily(_idefics3_config, _idefics3_processor, IDEFICS_TOKENS, _turns("<image>")),
    "smolvlm": TinyFamily(_smolvlm_config, _smolvlm_processor, IDEFICS_TOKENS, _turns("<image>")),
    "internvl": TinyFamily(
        _internvl_config,
        _internvl_processor,
        ("<IMG_CONTEXT>", "<img>", "</img>"),
        _turns("<IMG_CONTEXT>", "<video>\n"),
    ),
    "paligemma": TinyFamily(_paligemma_config, _siglip_processor, ("<image>", "<bos>"), None, bos="<bos>"),
    "paligemma2": TinyFamily(_paligemma2_config, _siglip_processor, ("<image>", "<bos>"), None, bos="<bos>"),
    "gemma3": TinyFamily(
        _gemma3_config, _gemma3_processor, GEMMA_TOKENS, "<bos>" + _turns("<start_of_image>"), bos="<bos>"
    ),
    "gemma3_crops": TinyFamily(
        _gemma3_config,
        _gemma3_crops_processor,
        GEMMA_TOKENS,
        "<bos>" + _turns("<start_of_image>"),
        bos="<bos>",
    ),
}


def _text_family(name: str, **changes: Any) -> TinyFamily:
    def config(tokenizer: Any) -> Any:
        made = transformers.AutoConfig.for_model(
            name, **{**TEXT, "vocab_size": _vocabulary(tokenizer), "pad_token_id": 0, **changes}
        )
        made.eos_token_id = tokenizer.eos_token_id
        return made

    template = (
        "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
        "[assistant] "
    )
    return TinyFamily(config, None, (), template, auto="AutoModelForCausalLM")


TEXT_FAMILIES: dict[str, TinyFamily] = {
    "gemma": _text_family("gemma", head_dim=12),
    "gemma2": _text_family("gemma2", head_dim=12, sliding_window=6),
    "gemma3_text": _text_family("gemma3_text", head_dim=12, sliding_window=6),
    "llama": _text_family("llama"),
    "mistral": _text_family("mistral", sliding_window=6),
    "olmo2": _text_family("olmo2"),
    "phi3": _text_family("phi3"),
    "qwen2": _text_family("qwen2"),
    "qwen3": _text_family("qwen3", head_dim=12),
    "smollm3": _text_family("smollm3"),
}
