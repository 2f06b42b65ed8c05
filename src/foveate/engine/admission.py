"""Whether a request can be served at all by this engine.

Owns the refusals that depend on the engine's size; each names both numbers. A request that passes can run
alone to its end, which is what the scheduler's promise of progress rests on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.engine.request import RequestError, RequestTooLongError

if TYPE_CHECKING:
    from foveate.engine.config import EngineConfig
    from foveate.engine.layout import PromptLayout
    from foveate.engine.request import SamplingParameters


def token_limit(parameters: SamplingParameters, prompt_tokens: int, context_length: int) -> int:
    """Tokens the answer may have: what was asked for, or what the context leaves."""
    return min(parameters.max_tokens, context_length - prompt_tokens)


def admit(
    parameters: SamplingParameters,
    layout: PromptLayout,
    config: EngineConfig,
    *,
    context_length: int,
    vocabulary: int,
    kv_blocks: int,
    encoder_bytes: int,
    accepts_images: bool,
) -> None:
    """Refuses what can never run.

    Raises:
        RequestError: naming what is asked for and what there is.
    """
    prompt_tokens = layout.length
    if token_limit(parameters, prompt_tokens, context_length) < 1:
        raise RequestTooLongError(
            f"The prompt has {prompt_tokens} tokens",
            why=f"the model's context of {context_length} leaves no room for an answer",
            fix="Shorten the prompt or use fewer images.",
        )
    # The last token is never read again, so it takes no place in the cache.
    needed = prompt_tokens + token_limit(parameters, prompt_tokens, context_length) - 1
    if needed > kv_blocks * config.block_size:
        raise RequestTooLongError(
            f"Prompt and answer may take {needed} tokens of keys and values",
            why=f"the whole cache holds {kv_blocks * config.block_size}",
            fix="Lower max_tokens, shorten the prompt, or give the engine more memory.",
        )
    if parameters.n > config.max_sequences:
        raise RequestError(
            f"n is {parameters.n}",
            why=f"at most {config.max_sequences} answers run at once (max_sequences)",
            fix="Lower n.",
        )
    unknown = [token for token in parameters.logit_bias if not 0 <= token < vocabulary]
    if unknown:
        raise RequestError(
            f"logit_bias names token {unknown[0]}",
            why=f"the vocabulary has {vocabulary} tokens, 0 to {vocabulary - 1}",
            fix="Use ids of this model's tokenizer.",
        )
    if layout.media_bytes and not accepts_images:
        raise RequestError(
            f"The prompt has {len(layout.media_bytes)} images",
            why="the model is text-only and takes 0",
            fix="Leave the images out, or choose a vision-language model (foveate ls).",
        )
    _admit_images(layout, encoder_bytes)


def _admit_images(layout: PromptLayout, capacity: int) -> None:
    for index, size in enumerate(layout.media_bytes):
        if size > capacity:
            raise RequestError(
                f"Image {index + 1} takes {size} bytes once encoded",
                why=f"the encoder cache holds {capacity}",
                fix="Use a smaller image, fewer frames of a video, or raise encoder_cache_bytes.",
            )
    for first, last in layout.atomic:
        sizes = {
            layout.media_keys[index]: layout.media_bytes[index] for index in layout.media_in(first, last)
        }
        if sum(sizes.values()) > capacity:
            raise RequestError(
                f"{len(sizes)} images that must be read together take {sum(sizes.values())} bytes once encoded",
                why=f"the encoder cache holds {capacity}",
                fix="Use fewer images or raise encoder_cache_bytes.",
            )
