"""VisPruner (Zhang et al. 2024, arXiv 2412.01818, its later version): important tokens, then diverse ones.

The floor(ratio * k) most salient tokens stay. The others stand in descending salience; while too many remain they are
split alternately into A and B, and the (at most `step`) tokens of A most similar to any of B are deleted.

Difference: similarity is that of projected features; the authors compare the tower's output before the projector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import Reducer, ReducerConfig
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines, stable_order, take, top_k
from foveate.reduce.tokens import Choice, Tokens


@dataclass(frozen=True, kw_only=True)
class VisPrunerConfig(ReducerConfig):
    """ratio: share of the budget that goes to important tokens; step: deletions a round, at most."""

    ratio: float = 0.5
    step: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ratio <= 1:
            raise ReductionError(f"ratio is {self.ratio}", why="it is a share, from 0 to 1")
        if self.step < 1:
            raise ReductionError(f"step is {self.step}", why="each round deletes at least one token")


class VisPruner(Reducer):
    """Top by salience, the rest thinned out by similarity."""

    name = "vispruner"
    needs = Needs(salience="any", features=True)
    Config = VisPrunerConfig
    config: VisPrunerConfig

    def choose(self, tokens: Tokens, k: int) -> Choice:
        salience = tokens.needed_salience()
        order = stable_order(salience)
        important = int(self.config.ratio * k)
        diverse = k - important
        residual = order[:, important:]
        if diverse == 0:
            return Choice(kept=order[:, :k], scores=salience)
        similarity = cosines(take(tokens.features, residual), take(tokens.features, residual))
        remaining = torch.arange(residual.shape[1], device=tokens.device).expand(tokens.batch, -1)
        while remaining.shape[1] > diverse:
            left, right = remaining[:, 0::2], remaining[:, 1::2]
            between = take(similarity, left).gather(2, right[:, None].expand(-1, left.shape[1], -1))
            surplus = remaining.shape[1] - diverse
            redundant = top_k(between.amax(dim=2), min(self.config.step, surplus, left.shape[1]))
            stays = torch.ones(remaining.shape, device=tokens.device).scatter_(1, 2 * redundant, 0.0)
            remaining = remaining.gather(1, top_k(stays, remaining.shape[1] - redundant.shape[1]))
        kept = torch.cat([order[:, :important], residual.gather(1, remaining)], dim=1)
        return Choice(kept=kept, scores=salience)
