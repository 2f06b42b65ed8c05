"""Adaptive average pooling: the baseline of a smaller raster.

Owns nothing but the choice of the raster; each cell's mean stands where its middle token stood. The raster has
at most k cells and nearly the image's shape, so k is not always met exactly: `plan` says what it becomes.
"""

from __future__ import annotations

from typing import ClassVar

from foveate.reduce.base import Reducer, TileRule
from foveate.reduce.keep_map import Merge
from foveate.reduce.shapes import middles, pooling_rows, shape_for
from foveate.reduce.tokens import Choice, Tokens


class AveragePool(Reducer):
    """Means of the cells of a smaller raster, a tile at a time."""

    name = "average_pool"
    tile_rules: ClassVar[tuple[TileRule, ...]] = ("uniform",)

    def fit(self, rows: int, cols: int, k: int) -> int:
        height, width = shape_for(rows, cols, k) if k else (0, 0)
        return height * width

    def choose(self, tokens: Tokens, k: int) -> Choice:
        height, width = shape_for(tokens.rows, tokens.cols, k)
        into, sources, weights = (
            part.to(tokens.device).expand(tokens.batch, -1)
            for part in pooling_rows(tokens.rows, tokens.cols, height, width)
        )
        kept = into.new_tensor(middles(tokens.rows, tokens.cols, height, width)).expand(tokens.batch, -1)
        return Choice(kept=kept, merge=Merge(into=into, sources=sources, weights=weights))
