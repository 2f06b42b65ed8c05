"""Reference decoding: one sequence, a plain KV cache, greedy or nucleus sampling, incremental detokenisation.

Owns the loop that every faster engine is compared with. Knows no batching, no scheduling, no requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import PromptError
from foveate.models.attention import KeyValueCache
from foveate.models.records import GeneratedToken

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import MediaFeatures, Prompt

REPLACEMENT = "\ufffd"


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How the next token is chosen.

    Raises:
        PromptError: a value outside its range.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, valid, range_text in (
            ("max_new_tokens", self.max_new_tokens >= 1, "1 or more"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
        ):
            if not valid:
                raise PromptError(f"{name} is {getattr(self, name)}", why=f"it must be {range_text}")


@dataclass(frozen=True, kw_only=True)
class LanguageInputs:
    """What a prompt becomes before the language model, where it is not what the model itself would make.

    Attributes:
        features: of each image, as many rows as the prompt has placeholders for it.
        positions: [1, T] or [3, 1, T].
        following: position of the first generated token.
        run: called instead of `VisionLanguageModel.run_language_model`, with the same arguments (methods that drop
            tokens between layers); the last row it returns is the last token's.
    """

    features: Sequence[MediaFeatures]
    positions: torch.Tensor
    following: int
    run: Callable[..., torch.Tensor] | None = None


class IncrementalDetokenizer:
    """Turns ids into text as they come, holding back bytes of a character that is not complete yet.

    Decodes from a little before the new ids, because a token's text can depend on its neighbour (leading
    spaces, byte fallback). Bytes the model never completes into a character are dropped at the end; invalid
    bytes in the middle show as U+FFFD once text follows them.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._anchor = 0  # decoding starts here
        self._emitted = 0  # ids before this one are out

    def push(self, token_id: int) -> str:
        """The text that this id completes; empty while a character is incomplete."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._anchor : self._emitted])
        now = self._decode(self._ids[self._anchor :])
        if now.endswith(REPLACEMENT) or len(now) < len(before):
            return ""
        self._anchor, self._emitted = self._emitted, len(self._ids)
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def flush(self) -> str:
        """What was held back, without a trailing incomplete character."""
        before = self._decode(self._ids[self._anchor : self._emitted])
        rest = self._decode(self._ids[self._anchor :])[len(before) :]
        self._emitted = len(self._ids)
        return rest.rstrip(REPLACEMENT)


def end_token_ids(model: VisionLanguageModel) -> frozenset[int]:
    """End-of-sequence ids: what the generation configuration names (the model's configuration where it names
    none, for configurations carry defaults that fit no tokenizer), and the tokenizer's own."""
    found: set[int] = set()
    named = (getattr(model.hf_model.generation_config, "eos_token_id", None),)
    fallback = (getattr(config, "eos_token_id", None) for config in (model.config, model.text_config))
    first = next((value for value in (*named, *fallback) if value is not None), None)
    for value in (first, getattr(model.tokenizer, "eos_token_id", None)):
        if value is not None:
            found.update([int(value)] if isinstance(value, int) else [int(item) for item in value])
    return frozenset(found)


def choose(logits: torch.Tensor, options: SamplingOptions, generator: torch.Generator | None) -> int:
    """The next id from logits [V]: the argmax at temperature 0, else a draw from the nucleus.

    Nucleus (top-p) sampling, arXiv 1904.09751: the smallest set of most likely tokens whose mass reaches
    top_p.
    """
    if options.temperature == 0:
        return int(logits.argmax())
    # Drawn on the CPU in double precision, so that a seed gives the same text on every device.
    exact = logits.double().cpu()
    # Less the largest first: a temperature next to 0 would make it infinite, and then nothing is a number.
    probabilities = ((exact - exact.max()) / options.temperature).softmax(dim=-1)
    ordered, order = probabilities.sort(descending=True, stable=True)
    outside = ordered.cumsum(0) - ordered >= options.top_p  # the first token always stays in
    ordered[outside] = 0.0
    return int(order[torch.multinomial(ordered, 1, generator=generator)])


@torch.inference_mode()
def generate(
    model: VisionLanguageModel,
    prompt: Prompt,
    options: SamplingOptions,
    inputs: LanguageInputs | None = None,
) -> Iterator[GeneratedToken]:
    """Decodes one prompt token by token; the last one carries a finish reason.

    Args:
        inputs: features and positions to use instead of the model's own (reduced visual tokens).
    """
    room = model.context_length - len(prompt.token_ids)
    if room < 1:
        raise PromptError(
            f"The prompt has {len(prompt.token_ids)} tokens",
            why=f"the model's context of {model.context_length} leaves no room for an answer",
            fix="Shorten the prompt or use fewer images.",
        )
    stops = end_token_ids(model) | set(options.stop_token_ids)
    generator = None if options.seed is None else torch.Generator().manual_seed(options.seed)
    if inputs is None:
        positions = model.positions(prompt)
        # 1-D or M-RoPE alike, text continues one past the largest position used so far.
        inputs = LanguageInputs(
            features=model.encode(prompt.media), positions=positions, following=int(positions.max()) + 1
        )
    features, positions = inputs.features, inputs.positions
    run = inputs.run or model.run_language_model
    state = model.attention_state(prompt, KeyValueCache())
    hidden = run(model.merge(prompt, features), positions, state, **model.language_keywords(prompt, features))
    position = torch.tensor(inputs.following, device=model.device)
    detokenizer = IncrementalDetokenizer(model.tokenizer)
    limit = min(options.max_new_tokens, room)
    for step in range(limit):
        token = choose(model.head(hidden[:, -1:])[0, 0].float(), options, generator)
        if token in stops:
            yield GeneratedToken(token, detokenizer.flush(), "stop")
            return
        text = detokenizer.push(token)
        if step == limit - 1:
            reason = "length" if limit == options.max_new_tokens else "context"
            yield GeneratedToken(token, text + detokenizer.flush(), reason)
            return
        yield GeneratedToken(token, text)
        embeds = model.hf_model.get_input_embeddings()(torch.tensor([[token]], device=model.device))
        next_positions = position.expand(*positions.shape[:-1], 1)
        hidden = run(embeds, next_positions, state)
        position = position + 1
