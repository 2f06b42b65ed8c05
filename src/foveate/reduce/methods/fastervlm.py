"""FasterVLM (Zhang et al. 2024, arXiv 2412.01818): the k tokens that the tower's CLS token attends to most.

Owns nothing but the score: the CLS row, head mean, of the layer whose output the model reads, a tile at a time.
Towers without CLS score with the column mean, as the authors' Qwen port does.
"""

from __future__ import annotations

import torch

from foveate.reduce.base import ScoringReducer
from foveate.reduce.needs import Needs
from foveate.reduce.tokens import Tokens


class FasterVLM(ScoringReducer):
    """Top k by salience."""

    name = "fastervlm"
    needs = Needs(salience="any")

    def score(self, tokens: Tokens) -> torch.Tensor:
        return tokens.needed_salience()
