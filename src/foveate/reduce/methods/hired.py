"""HiRED (Arif et al. 2024, arXiv 2408.10945): tiles get budgets from where the overview looks.

Phase 1, in `tiles.salience_quotas`: the overview gets a share alpha of the budget, each tile of the rest what the
early CLS row of the overview says about the area the tile covers. Phase 2, here: within a tile the tokens with the
largest CLS attention of the layer that the model reads.

Differences: areas are two-dimensional as in the paper (the released code counts horizontal strips), and the
budget is met exactly (the released floors lose a few tokens). Newlines are dropped, as released.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foveate.reduce.base import ScoringReducer, TileRule
from foveate.reduce.needs import Needs
from foveate.reduce.tokens import Tokens


class HiRED(ScoringReducer):
    """Top k by the CLS row, in tiles that share k by salience."""

    name = "hired"
    needs = Needs(salience="cls", shallow=0.0)
    default_tiles: ClassVar[TileRule] = "salience"

    def score(self, tokens: Tokens) -> torch.Tensor:
        return tokens.needed_salience()
