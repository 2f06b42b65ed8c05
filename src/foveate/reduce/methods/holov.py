"""HoloV (Zou et al. 2025, arXiv 2510.02912): every stretch of the picture gets a quota, by attention and by variety.

The raster sequence is cut into P stretches. A token scores 1000 a_j + 0.09 gamma v_j, with a_j its salience, v_j
the variance of its cosines within its stretch, and gamma the ratio of the two terms' means; a stretch gets tokens in
proportion to its mean score, floors first and what is left to the best stretches. Within a stretch salience alone
chooses.

Difference: kept tokens stay in raster order (released: by attention within a stretch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from foveate.errors import ReductionError
from foveate.reduce.base import Reducer, ReducerConfig, TileRule
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines, sizes_of, top_k_within
from foveate.reduce.tiles import share_out
from foveate.reduce.tokens import Choice, Tokens

ATTENTION_SCALE, VARIETY_SCALE = 1e3, 0.09


@dataclass(frozen=True, kw_only=True)
class HoloVConfig(ReducerConfig):
    """stretches: P; an image of fewer tokens has one stretch a token."""

    stretches: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stretches < 1:
            raise ReductionError(f"stretches is {self.stretches}", why="the picture has at least one")


class HoloV(Reducer):
    """Quotas by stretch of the raster sequence, tiles one behind the other."""

    name = "holov"
    needs = Needs(salience="any", features=True)
    Config = HoloVConfig
    config: HoloVConfig
    default_tiles: ClassVar[TileRule] = "whole"

    def choose(self, tokens: Tokens, k: int) -> Choice:
        salience, n = tokens.needed_salience(), tokens.count
        parts = min(self.config.stretches, n)
        stretch = torch.arange(n, device=tokens.device) * parts // n
        sizes = sizes_of(stretch, parts)
        variety = _variance_within(cosines(tokens.features, tokens.features), stretch, sizes)
        attention = ATTENTION_SCALE * salience
        gamma = attention.mean(dim=1, keepdim=True) / variety.mean(dim=1, keepdim=True).clamp(min=1e-12)
        scores = attention + VARIETY_SCALE * gamma * variety
        means = torch.zeros(tokens.batch, parts, device=tokens.device)
        means = means.index_add_(1, stretch, scores) / sizes
        quotas = share_out(means, sizes, k)
        return Choice(kept=top_k_within(salience, stretch, quotas, k), scores=scores)


def _variance_within(similarity: torch.Tensor, stretch: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """[B, n]: the population variance of each token's cosines [B, n, n] to its own stretch, itself included."""
    together = (stretch[:, None] == stretch[None]).float()
    size = sizes[stretch].float()
    mean = (similarity * together).sum(dim=2) / size
    return ((similarity - mean[..., None]).square() * together).sum(dim=2) / size
