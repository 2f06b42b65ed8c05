"""Every so manieth token in raster order: the plainest spatial baseline.

Owns the stride: token floor((i + 1/2) n / k) for i = 0..k-1, so that k need not divide n.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foveate.reduce.base import Reducer, TileRule
from foveate.reduce.tokens import Choice, Tokens


class Strided(Reducer):
    """k tokens at even distances."""

    name = "strided"
    default_tiles: ClassVar[TileRule] = "uniform"

    def choose(self, tokens: Tokens, k: int) -> Choice:
        steps = torch.arange(k, device=tokens.device)
        # Twice the numerator keeps the half in integers.
        ids = ((2 * steps + 1) * tokens.count) // (2 * k)
        return Choice(kept=ids.expand(tokens.batch, -1))
