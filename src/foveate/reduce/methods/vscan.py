"""VScan, stage 1 (Zhang et al. 2025, arXiv 2505.22654): half local by an early row, half global by a late one.

Windows of 6 x 6 tokens share half of the budget evenly (rounded down) by an early salience row, block 5 of CLIP's 24;
the rest goes to the most salient of those left at the layer the model reads. Every token not selected is averaged
into its most similar selected one, by projected features. Stage 2, inside the language model, is another method.

Windows at the edge of a raster that 6 does not divide are smaller; one smaller than its share gives all it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import Reducer, ReducerConfig, TileRule
from foveate.reduce.merging import averaged, best_match
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines, ids_of, mask_of, rank_within, take, top_k
from foveate.reduce.tokens import Choice, Tokens

SHALLOW = 5 / 24


@dataclass(frozen=True, kw_only=True)
class VScanConfig(ReducerConfig):
    """window: side of a window in tokens (the authors' 6 for CLIP, 4 for Qwen2.5-VL)."""

    window: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise ReductionError(f"window is {self.window}", why="a window is one token wide at least")


class VScan(Reducer):
    """Local, then global, then merged; a tile at a time."""

    name = "vscan"
    needs = Needs(salience="any", shallow=SHALLOW, features=True)
    Config = VScanConfig
    config: VScanConfig
    tile_rules: ClassVar[tuple[TileRule, ...]] = ("uniform", "salience")

    def choose(self, tokens: Tokens, k: int) -> Choice:
        salience, n = tokens.needed_salience(), tokens.count
        assert tokens.shallow is not None, "the method declares an early row"
        side = self.config.window
        down, across = -(-tokens.rows // side), -(-tokens.cols // side)
        window = (tokens.row // side) * across + tokens.col // side
        share = (k // 2) // (down * across)
        local = rank_within(tokens.shallow, window, down * across) < share
        # Counted from the shape alone, so that the device is not asked.
        heights = [min(side, tokens.rows - top) for top in range(0, tokens.rows, side)]
        widths = [min(side, tokens.cols - left) for left in range(0, tokens.cols, side)]
        found = sum(min(share, height * width) for height in heights for width in widths)
        best = top_k(salience.masked_fill(local, float("-inf")), k - found)
        kept = torch.cat([ids_of(local, found), best], dim=1).sort(dim=1).values
        if k == n:
            return Choice(kept=kept, scores=salience)
        others = ids_of(~mask_of(kept, n), n - k)
        similarity = cosines(take(tokens.features, others), take(tokens.features, kept))
        merge = averaged(kept, best_match(similarity, kept), others, n)
        return Choice(kept=kept, scores=salience, merge=merge)
