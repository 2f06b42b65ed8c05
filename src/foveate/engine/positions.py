"""Where every token of a request stands: the position service.

Owns positions apart from storage: one source of truth for every model that reads the same request (target,
draft, verifier). Knows no cache: a token's slot says nothing about its position. Built so far: what the
family's adapter says over the prompt, contiguous (1-D) or M-RoPE (Wang et al. 2024, arXiv 2409.12191), and one
further per generated token.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from foveate.decode.tree import DraftTree
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt


@dataclass(frozen=True, kw_only=True)
class PositionTrack:
    """Positions of one request.

    Attributes:
        table: [R, T] over the prompt; R is 1, or 3 for M-RoPE (time, height, width).
        following: position of the first generated token, in all R rows.
    """

    table: torch.Tensor
    following: int

    def slice(self, start: int, stop: int) -> torch.Tensor:
        """[R, stop - start], within the prompt, past its end, or across."""
        length = self.table.shape[1]
        if stop <= length:
            return self.table[:, start:stop]
        beyond = max(start, length)
        tail = torch.arange(beyond, stop, device=self.table.device) - length + self.following
        tail = tail.expand(self.table.shape[0], -1)
        return torch.cat([self.table[:, start:length], tail], dim=1) if start < length else tail


def draft_positions(track: PositionTrack, stop: int, draft: DraftTree) -> torch.Tensor:
    """[R, nodes]: a node stands as many places after the last token decided, token `stop` - 1, as it is deep."""
    if draft.is_chain:
        return track.slice(stop, stop + len(draft))
    return track.slice(stop, stop + draft.depth)[:, [depth - 1 for depth in draft.depths]]


class PositionService(Protocol):
    """Gives every request its positions; `kind` is part of the name of cached prefixes."""

    kind: str

    def track(self, prompt: Prompt) -> PositionTrack:
        """Computed once a request."""
        ...


class ModelPositions:
    """Positions as the checkpoint was trained with them."""

    kind = "model"

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model

    def track(self, prompt: Prompt) -> PositionTrack:
        """Over the prompt as the family says; text goes on one past the largest position used."""
        table = self._model.positions(prompt)
        table = table[:, 0] if table.ndim == 3 else table
        return PositionTrack(table=table.cpu(), following=int(table.max()) + 1)


def pack_positions(slices: Iterable[torch.Tensor], device: torch.device | str) -> torch.Tensor:
    """[1, T] or [3, 1, T]: what the language model takes for a packed batch."""
    packed = torch.cat(list(slices), dim=1).to(device)
    return packed if packed.shape[0] == 1 else packed[:, None]
