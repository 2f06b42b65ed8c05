"""What a stream remembers between steps, and the step itself: tokens in, logits out.

Owns the joining of window, pages, positions and the model's forward. Knows no frames, no templates and no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from foveate.decode.streaming.attention import StreamAttention, TurnedRow, UnrotatedPages
from foveate.decode.streaming.frames import SeenFrame, places_only
from foveate.decode.streaming.rotation import Rotary, Unrotated
from foveate.decode.streaming.settings import ABSOLUTE, StreamBound, StreamError, StreamSettings
from foveate.decode.streaming.window import Kind, PagePool, StreamWindow
from foveate.models.attention import AttentionState
from foveate.models.records import Prompt
from foveate.reduce.positions import repacked_mrope

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

_TEXT = Prompt(token_ids=[0, 0], media=[], spans=[], text="")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Tokens that are appended together. `frames` are the pictures whose placeholders are among them, in order."""

    kind: Kind
    tokens: Sequence[int]
    second: int
    frames: tuple[SeenFrame, ...] = ()


def token_bytes(model: VisionLanguageModel) -> int:
    """Keys and values of one token, all layers."""
    layers, heads, width = _shape(model)
    return 2 * layers * heads * width * model.dtype.itemsize


def _shape(model: VisionLanguageModel) -> tuple[int, int, int]:
    config = model.text_config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return int(config.num_hidden_layers), int(heads), int(width)


class StreamState:
    """The state of one stream on one model. Memory for the whole bound is taken when it is made.

    Raises:
        StreamError: the model has no rotary positions, or reads its prompt both ways.
    """

    def __init__(self, model: VisionLanguageModel, settings: StreamSettings, bound: StreamBound) -> None:
        self.model, self.settings, self.bound = model, settings, bound
        layers, heads, width = _shape(model)
        self._rotary = Rotary(model)
        self.window = StreamWindow(settings, PagePool(bound.pages))
        self.pages = UnrotatedPages(
            layers=layers,
            heads=heads,
            width=width,
            slots=bound.pages * settings.page_tokens,
            dtype=model.dtype,
            device=model.device,
        )
        # None: every step gathers and turns all that is kept, the reference of the tests.
        self.row: TurnedRow | None = TurnedRow(self.pages, bound.positions)
        self._shared = 0  # of a fork: tokens of the row that are its stream's
        self._hooks: Unrotated | None = Unrotated(model)
        self._m_rope = model.positions(_TEXT).ndim == 3
        self._positions: torch.Tensor | None = None  # of what is kept; None once something has left

    def evict(self, second: int) -> int:
        """See `StreamWindow.evict`."""
        gone = self.window.evict(second)
        if gone:
            self._positions = None
            if self.row is not None:
                self.row.length = 0
        return gone

    @torch.inference_mode()
    def extend(
        self,
        pieces: Sequence[Piece],
        embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Appends pieces and runs them as one chunk.

        Args:
            embeds: [1, n, D] instead of the model's own embeddings (tests, and models without a tower).

        Returns:
            [V] float32 logits of what follows the last token.
        """
        tokens: list[int] = []
        for piece in pieces:
            self.window.append(piece.kind, piece.tokens, piece.second, tuple(map(places_only, piece.frames)))
            tokens += piece.tokens
        frames = [frame for piece in pieces for frame in piece.frames]
        features = [frame.features for frame in frames]
        media = [frame.media for frame in frames]
        model, new = self.model, Prompt(token_ids=tokens, media=media, spans=[], text="")
        if embeds is None:
            embeds = model.merge(new, features)
        positions = self._placed(pieces)
        slots = torch.tensor(self.window.slots(), device=model.device)
        groups = model.attention_groups(new)
        if groups is not None:
            groups = F.pad(groups, (len(slots) - len(tokens), 0), value=-1)
        rules = AttentionState(groups=groups, window_cuts_groups=model.window_cuts_groups)
        earlier = len(slots) - len(tokens)
        known = earlier if self.row is not None and self.row.length == earlier else 0
        tables = self._rotary.tables(positions[..., known:])
        attention = StreamAttention(self.pages, slots, len(tokens), tables, rules, self.row, known)
        assert self._hooks is not None, "the stream is closed"
        hidden = model.run_language_model(
            embeds, positions[..., -len(tokens) :], attention, **model.language_keywords(new, features)
        )
        if self.row is not None:
            self.row.length = len(slots)
        return model.head(hidden[:, -1:])[0, 0].float()

    def _placed(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """[1, m] or [3, 1, m]: positions of all that is kept, found anew whenever something has left or pictures
        have come; text alone goes on behind the largest."""
        count = sum(len(piece.tokens) for piece in pieces)
        if self.settings.positions == ABSOLUTE:
            return torch.tensor(self.window.indices(), device=self.model.device)[None]
        if self._positions is None or any(piece.frames for piece in pieces):
            self._positions = self._all_placed()
        else:
            first = int(self._positions.max()) + 1
            more = torch.arange(first, first + count, device=self.model.device)
            more = more.expand(*self._positions.shape[:-1], count)
            self._positions = torch.cat([self._positions, more], dim=-1)
        return self._positions

    def _all_placed(self) -> torch.Tensor:
        """Positions from 0. Under M-RoPE frames that were cut close up: a gap would be no neighbour's place."""
        kept = Prompt(token_ids=self.window.tokens(), media=[], spans=[], text="")
        if not self._m_rope:
            return self.model.positions(kept)
        table = repacked_mrope(kept, self.model.image_token_id, self.window.media())
        return table[:, None].to(self.model.device)

    def fork(self) -> StreamState:
        """A state with the same past, which shares its pages and appends into others, and behind its stream's tokens
        in the row. To be closed before the stream goes on."""
        other = object.__new__(StreamState)
        other.__dict__.update(self.__dict__)
        other.window = self.window.fork()
        other._shared = 0 if self.row is None else self.row.length
        return other

    def close(self) -> None:
        """Gives the pages back; `end` also takes the hooks off the model."""
        self.window.close()
        if self.row is not None:
            self.row.length = self._shared

    def end(self) -> None:
        """Closes the stream for good."""
        self.close()
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None


def require_streamable(model: VisionLanguageModel, settings: StreamSettings) -> None:
    """Refuses models whose tokens cannot arrive one second at a time.

    Raises:
        StreamError: no pictures, a prompt read both ways, or absolute positions under M-RoPE.
    """
    if not model.accepts_images:
        raise StreamError(
            f"{model.ref} is a text-only model", why="a stream is of pictures", fix="foveate ls lists others."
        )
    groups = model.attention_groups(_TEXT)
    if groups is not None and bool((groups >= 0).any()):
        raise StreamError(
            f"{model.ref} cannot be streamed",
            why="it reads its whole prompt both ways, so that what came earlier would have to be read again",
            fix="Choose a model that reads from left to right (foveate ls).",
        )
    if settings.positions == ABSOLUTE and model.positions(_TEXT).ndim == 3:
        raise StreamError(
            f"{model.ref} has positions in three dimensions",
            why="absolute ones are kept in one",
            fix="Leave them.",
        )
