"""Input downsampling: a smaller picture goes into the tower, whose own code does the rest.

The baseline that beats many methods on models of native resolution (VTC-Bench). It acts before the tower, so it also
saves the tower's time, and the picture must be encoded again for another budget. Works where the tower takes other
sizes than the processor makes: native resolution (Qwen), or position embeddings that can be interpolated (LLaVA-1.5).
Tiled families split every picture into tiles of one size and are refused. The frames of a video get one smaller size.
"""

from __future__ import annotations

from typing import ClassVar

from foveate.errors import ReductionError
from foveate.models.records import VisualGrid
from foveate.reduce.base import Reducer, TileRule
from foveate.reduce.needs import Needs
from foveate.reduce.shapes import shape_for
from foveate.reduce.tokens import Choice, Tokens


class Downsample(Reducer):
    """The largest smaller raster of nearly the picture's shape."""

    name = "downsample"
    needs = Needs(resizing=True)
    stage = "input"
    tile_rules: ClassVar[tuple[TileRule, ...]] = ("uniform",)

    def fit(self, rows: int, cols: int, k: int) -> int:
        height, width = shape_for(rows, cols, k) if k else (0, 0)
        return height * width

    def refusal(self, grid: VisualGrid, kept: int) -> ReductionError | None:
        if kept:
            return None
        return ReductionError(
            f"The method {self.name} cannot cut {grid.frames} frames so far",
            why="each keeps a raster of one token at least",
            fix=f"Ask for {grid.frames} tokens or more, or for fewer frames.",
        )

    def choose(self, tokens: Tokens, k: int) -> Choice:
        raise ReductionError(
            "The method downsample cannot reduce features",
            why="it makes the picture smaller before the tower sees it",
            fix="Use foveate.reduce.reduce_prompt, or average_pool on features.",
        )
