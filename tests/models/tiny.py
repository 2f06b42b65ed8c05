"""Tiny random checkpoints of every family, saved as Hugging Face folders, for tests that need a real model's
shape.

`build_tiny(family, folder)` writes configuration, weights, tokenizer, chat template and image processor.
Weights are drawn at 1.5/sqrt(fan-in) and the head is untied: with transformers' own initialisation a tiny
model repeats one token whatever the picture shows, and every comparison passes without comparing anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tiny_families import FAMILIES, GEMMA_TOKENS, TEXT_FAMILIES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

__all__ = [
    "FAMILIES",
    "GEMMA_TOKENS",
    "TEXT_FAMILIES",
    "build_tiny",
    "picture",
    "scale_weights",
    "tiny_tokenizer",
]
CORPUS = [
    "how many red squares are there in the picture",
    "what colour is the circle to the left of the star",
    "describe the image",
    "is there a triangle behind the hexagon",
]


def tiny_tokenizer(specials: tuple[str, ...], end: str, bos: str | None = None) -> Any:
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
        bos_token=bos,
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
    recipe = {**FAMILIES, **TEXT_FAMILIES}[family]
    tokenizer = tiny_tokenizer(recipe.specials, recipe.end, recipe.bos)
    config = recipe.config(tokenizer)
    auto = getattr(transformers, recipe.auto)
    with torch.random.fork_rng():  # some vectors start random: the same ones whatever ran before
        torch.manual_seed(seed)
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
