"""Tiny random checkpoints of every family, saved as Hugging Face folders, for tests that need a real model's
shape.

`build_tiny(family, folder)` writes configuration, weights, tokenizer, chat template and image processor.
Weights are drawn at 1.5/sqrt(fan-in) and the head is untied: with transformers' own initialisation a tiny
model repeats one token whatever the picture shows, and every comparison passes without comparing anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = [
    "how many red squares are there in the picture",
    "what colour is the circle to the left of the star",
    "describe the image",
    "is there a triangle behind the hexagon",
]
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
    end: str = "<|end|>"
    sizes: tuple[tuple[int, int], ...] = ((56, 56), (90, 40), (33, 120))
    extra: dict[str, Any] = field(default_factory=dict)


def tiny_tokenizer(specials: tuple[str, ...], end: str) -> Any:
    """A byte-level BPE with a few merges; every string and every UTF-8 byte has a spelling."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [end, *(name for name in specials if name != end)]
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(names),
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=end,
        additional_special_tokens=names[1:],
        clean_up_tokenization_spaces=False,
    )


def scale_weights(model: torch.nn.Module, seed: int) -> None:
    """Draws every parameter anew: matrices at 1.5/sqrt(fan-in), vectors near their initial value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                parameter.copy_(noise * 1.5 / fan_in**0.5)
            else:
                parameter.add_(noise * 0.1)


def build_tiny(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Writes a tiny random checkpoint of a family and returns its folder."""
    recipe = FAMILIES[family]
    tokenizer = tiny_tokenizer(recipe.specials, recipe.end)
    config = recipe.config(tokenizer)
    auto = getattr(transformers, recipe.auto)
    model = auto.from_config(config, dtype=torch.float32)
    scale_weights(model, seed)
    model.generation_config = transformers.GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=0
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if recipe.template is not None:
        (folder / "chat_template.jinja").write_text(recipe.template, encoding="utf-8")
    if recipe.processor is not None:
        recipe.processor().save_pretrained(folder)
    return folder


def picture(width: int, height: int, seed: int) -> Image.Image:
    """A picture unlike any other seed's: coarse random blocks, so that resizing keeps the difference."""
    blocks = np.random.default_rng(seed).integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


def _vocabulary(tokenizer: Any) -> int:
    return len(tokenizer) + 8


def _llama(tokenizer: Any, **changes: Any) -> Any:
    return transformers.LlamaConfig(**{**TEXT, "vocab_size": _vocabulary(tokenizer), **changes})


def _turns(image: str, end: str = "<|end|>") -> str:
    """A template in this test's own words: role, parts in order, end."""
    return (
        "{% for message in messages %}[{{ message['role'] }}] "
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + image + "{% else %}{{ part['text'] }}{% endif %}"
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


FAMILIES: dict[str, TinyFamily] = {
    "llava": TinyFamily(
        config=_llava_config, processor=_clip_processor, specials=("<image>",), template=_turns("<image>")
    ),
}
