"""Pixel shuffle without training: s x s tokens become one of the same width, channel by channel.

Trained models put the channels of s x s tokens side by side and project them back. Without a projector the width
must stay, so channel c comes from the (c mod s^2)-th token of the block: space to depth, then every s^2-th
channel. It keeps real values where average pooling blurs them, and drops the rest. Models that pixel-shuffle
already (Idefics3, InternVL) can be cut once more this way; their own shuffle is untouched.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foveate.reduce.base import Reducer, TileRule
from foveate.reduce.keep_map import Merge
from foveate.reduce.shapes import shuffling_rows
from foveate.reduce.tokens import Choice, Tokens


def _blocks(rows: int, cols: int, factor: int) -> int:
    return -(-rows // factor) * -(-cols // factor)


def _factor(rows: int, cols: int, k: int) -> int:
    """The smallest block that leaves at most k."""
    return next(s for s in range(1, max(rows, cols) + 1) if _blocks(rows, cols, s) <= k)


class PixelShuffle(Reducer):
    """Blocks of s x s tokens, s the smallest whose blocks fit the budget."""

    name = "pixel_shuffle"
    tile_rules: ClassVar[tuple[TileRule, ...]] = ("uniform",)

    def fit(self, rows: int, cols: int, k: int) -> int:
        return _blocks(rows, cols, _factor(rows, cols, k)) if k else 0

    def choose(self, tokens: Tokens, k: int) -> Choice:
        factor = _factor(tokens.rows, tokens.cols, k)
        kept, into, sources = (
            part.to(tokens.device) for part in shuffling_rows(tokens.rows, tokens.cols, factor)
        )
        modulus = torch.full_like(into, factor * factor)
        place = torch.arange(len(into), device=tokens.device) % (factor * factor)
        merge = Merge(
            into=into.expand(tokens.batch, -1),
            sources=sources.expand(tokens.batch, -1),
            weights=torch.ones(tokens.batch, len(into), device=tokens.device),
            channels=torch.stack([modulus, place], dim=1).expand(tokens.batch, -1, -1),
        )
        return Choice(kept=kept.expand(tokens.batch, -1), merge=merge)
