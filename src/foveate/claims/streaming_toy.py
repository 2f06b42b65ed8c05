"""A small language model trained on short streams, and long streams to try it on.

Owns the toy: every second shows one of a few classes in four noisy visual tokens, and the answer to it depends on the
class and on a key that is stated once, before the first second. Trained here, in a minute, on chunks of a few seconds
with full attention and some earlier text in front, as StreamingVLM is. Knows no margins.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from foveate.decode.streaming.settings import StreamSettings
    from foveate.models.base import VisionLanguageModel

CLASSES, KEYS, ANSWERS, VISUAL = 8, 4, 8, 4
START, END, PICTURE, FIRST_KEY = 0, 1, 2, 3
FIRST_ANSWER = FIRST_KEY + KEYS
VOCABULARY = FIRST_ANSWER + ANSWERS
OPENING = 3  # start, key, end
_NOISE, _RATE, _BATCH = 1.0, 2e-3, 16


@dataclass(frozen=True, kw_only=True)
class ToyShape:
    """A Llama decoder, and the chunks that it is trained on: `seconds` long, up to `earlier` answers in front."""

    width: int
    inner: int
    layers: int
    seconds: int
    earlier: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Toy:
    """The trained model behind the engine's contract, what classes look like [classes, D], and the right answers
    [classes, keys]."""

    model: VisionLanguageModel
    looks: torch.Tensor
    table: torch.Tensor


def trained(shape: ToyShape, *, seed: int = 0) -> Toy:
    """Trains it; the same seed gives the same weights on the same machine."""
    import torch
    import torch.nn.functional as F
    import transformers

    from foveate.models.attention import register

    register()
    generator = torch.Generator().manual_seed(seed)
    table = torch.stack([torch.randperm(ANSWERS, generator=generator)[:KEYS] for _ in range(CLASSES)])
    looks = torch.randn(CLASSES, shape.width, generator=generator)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=OPENING + shape.earlier + shape.seconds * (VISUAL + 1),
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = transformers.LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(built.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(shape.steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 50) * (1 + math.cos(math.pi * step / shape.steps)) / 2
        embeds, places, answers = _chunk(built, shape, table, looks, generator)
        hidden = built.model(inputs_embeds=embeds, use_cache=False).last_hidden_state
        loss = F.cross_entropy(built.lm_head(hidden[:, places]).flatten(0, 1), answers.flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimiser.step()
    return Toy(model=_adapted(built), looks=looks, table=table)


def _chunk(
    built: Any, shape: ToyShape, table: torch.Tensor, looks: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [B, T, D] of a batch of chunks, the places [S] that answers follow, and the answers [B, S]."""
    import torch

    def drawn(below: int, *size: int) -> torch.Tensor:
        return torch.randint(0, below, size, generator=generator)

    key, shown = drawn(KEYS, _BATCH, 1), drawn(CLASSES, _BATCH, shape.seconds)
    answers = FIRST_ANSWER + table[shown, key]
    # What was said before is drawn at random: right answers would tell the key, and one wrong one of the toy's own
    # would then be the key of all that follow.
    said, earlier = (
        FIRST_ANSWER + drawn(ANSWERS, _BATCH, count)
        for count in (shape.seconds, int(drawn(shape.earlier + 1)))
    )
    ends = torch.tensor([START, END]).expand(_BATCH, 2)
    opening = torch.cat([ends[:, :1], FIRST_KEY + key, ends[:, 1:], earlier], dim=1)
    words = built.get_input_embeddings()
    visual = looks[shown][:, :, None] + _NOISE * torch.randn(
        _BATCH, shape.seconds, VISUAL, shape.width, generator=generator
    )
    turns = torch.cat([visual, words(said)[:, :, None]], dim=2).flatten(1, 2)
    places = opening.shape[1] + VISUAL - 1 + (VISUAL + 1) * torch.arange(shape.seconds)
    return torch.cat([words(opening), turns], dim=1), places, answers


def _adapted(built: Any) -> VisionLanguageModel:
    import torch

    from foveate.models.attention import LANGUAGE_ATTENTION
    from foveate.models.families.text import TextOnly
    from foveate.models.records import LoadedCheckpoint

    built.set_attn_implementation(LANGUAGE_ATTENTION)
    built.eval().requires_grad_(False)
    return TextOnly(
        LoadedCheckpoint(
            ref="a toy trained on short streams",
            folder=Path(),
            config=built.config,
            hf_model=built,
            tokenizer=None,
            image_processor=None,
            chat_template=None,
            dtype=torch.float32,
            dtype_reason="as trained",
            device=torch.device("cpu"),
            device_reason="as trained",
        )
    )


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One second of a stream: whether the answer was right, what it took in seconds of the processor and of the wall,
    and what is kept behind it."""

    right: bool
    processor: float
    wall: float
    tokens: int
    bytes: int


class ToyStream:
    """One stream that the toy watches, a second at a time; it reads its own answers, right or wrong.

    A toy that has lost the key goes on with one of its own, and is always right where that happens to be the stream's:
    accuracies are only worth something over all keys.

    Args:
        key: what the opening states, modulo the number of keys.
        seed: of what is shown.
    """

    def __init__(self, toy: Toy, settings: StreamSettings, *, key: int, seed: int) -> None:
        import torch

        from foveate.decode.streaming.settings import bound_of
        from foveate.decode.streaming.state import Piece, StreamState, token_bytes
        from foveate.decode.streaming.window import Kind

        self._toy, self._key = toy, key % KEYS
        self._generator = torch.Generator().manual_seed(seed)
        each = token_bytes(toy.model)
        self._page_bytes = settings.page_tokens * each
        bound = bound_of(settings, turn_tokens=VISUAL, token_bytes=each)
        self._state = StreamState(toy.model, settings, bound)
        opening = [START, FIRST_KEY + self._key, END]
        self._state.extend([Piece(kind=Kind.TEXT, tokens=opening, second=-1)])
        self._second, self._said = 0, list[int]()

    def watch(self) -> Watched:
        """The next second, run as one chunk with the answer to the one before."""
        import torch

        from foveate.decode.streaming.state import Piece
        from foveate.decode.streaming.window import Kind

        toy, state, second, said = self._toy, self._state, self._second, self._said
        shown = int(torch.randint(0, CLASSES, (1,), generator=self._generator))
        noise = torch.randn(VISUAL, toy.looks.shape[1], generator=self._generator)
        processor, wall = time.process_time(), time.perf_counter()
        state.evict(second)
        pieces = [Piece(kind=Kind.TEXT, tokens=said, second=second)] if said else []
        words = toy.model.hf_model.get_input_embeddings()(torch.tensor(said, dtype=torch.long))
        embeds = torch.cat([words, toy.looks[shown] + _NOISE * noise])[None]
        turn = Piece(kind=Kind.TURN, tokens=[PICTURE] * VISUAL, second=second)
        self._said = [int(state.extend([*pieces, turn], embeds=embeds).argmax())]
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        self._second += 1
        return Watched(
            right=self._said[0] == FIRST_ANSWER + int(toy.table[shown, self._key]),
            processor=processor,
            wall=wall,
            tokens=len(state.window),
            bytes=state.window.pool.in_use * self._page_bytes,
        )

    def watch_all(self, seconds: int) -> list[Watched]:
        """The next seconds; then everything is given back."""
        seen = [self.watch() for _ in range(seconds)]
        self.close()
        return seen

    def close(self) -> None:
        """Gives everything back."""
        self._state.end()
