"""Vectors of texts and pictures, from the language model's last hidden states.

Owns the pooling: the mean over an item's own tokens (of a picture, its visual tokens behind the beginning of a text),
scaled to length 1. The model was trained to answer, not to embed: near means alike to this model, no more. It runs
beside the engine's steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.errors import ContextLengthError, PromptError

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt

Item = str | bytes | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Vector:
    """Length 1; with what it took."""

    values: list[float]
    tokens: int
    image_tokens: int


async def embed(model: VisionLanguageModel, item: Item) -> Vector:
    """The vector of a text, of tokens, or of an encoded picture.

    Raises:
        PromptError: it is too long, tokens that are none, or a picture for a text-only model.
        MediaError: the picture cannot be opened.
    """
    return await asyncio.to_thread(_embed, model, item)


def _embed(model: VisionLanguageModel, item: Item) -> Vector:
    import torch

    with torch.inference_mode():
        prompt = _picture(model, item) if isinstance(item, bytes) else _words(model, item)
        features = model.encode(prompt.media)
        hidden = model.run_language_model(
            model.merge(prompt, features),
            model.positions(prompt),
            model.attention_state(prompt),
            **model.language_keywords(prompt, features),
        )[0].float()
        if prompt.media:
            hidden = hidden[model.visual_mask(prompt.token_ids)]
        mean = hidden.mean(dim=0)
        values = (mean / mean.norm().clamp(min=1e-12)).tolist()
    image_tokens = sum(media.grid.tokens for media in prompt.media)
    return Vector(values=values, tokens=len(prompt.token_ids), image_tokens=image_tokens)


def _picture(model: VisionLanguageModel, data: bytes) -> Prompt:
    return model.prepare([{"role": "user", "content": [{"type": "image", "image": data}]}])


def _words(model: VisionLanguageModel, item: str | Sequence[int]) -> Prompt:
    from foveate.models.records import Prompt

    size = int(model.text_config.vocab_size)
    ids = (
        list(model.tokenizer(item)["input_ids"]) if isinstance(item, str) else [int(token) for token in item]
    )
    if not ids:
        raise PromptError("The input has 0 tokens", why="there is nothing to embed", fix="Leave it out.")
    if any(not 0 <= token < size or token in model.visual_token_ids for token in ids):
        raise PromptError(
            "The input has a token that cannot be embedded",
            why=f"ids go from 0 to {size - 1}, and that of a picture's place cannot stand alone",
            fix="Use ids of this model's tokenizer.",
        )
    if len(ids) > model.context_length:
        raise ContextLengthError(
            f"The input has {len(ids)} tokens",
            why=f"the context of {model.ref} is {model.context_length} tokens",
            fix="Embed it in parts.",
        )
    return Prompt(token_ids=ids, media=[], spans=[], text="")
