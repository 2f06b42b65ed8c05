"""Random tokens: the baseline that every method must beat (strong in UniPruneBench; see docs/reduction.md).

Owns the draw: the same for the same picture and seed, whatever else is in the batch and on every device.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from foveate.reduce.base import ReducerConfig, ScoringReducer, TileRule
from foveate.reduce.tokens import Tokens


@dataclass(frozen=True, kw_only=True)
class RandomConfig(ReducerConfig):
    """seed: another one draws other tokens."""

    seed: int = 0


class RandomTokens(ScoringReducer):
    """k tokens drawn without replacement."""

    name = "random"
    Config = RandomConfig
    default_tiles: ClassVar[TileRule] = "whole"
    config: RandomConfig

    def score(self, tokens: Tokens) -> torch.Tensor:
        rows = []
        for name in tokens.names:  # one generator a picture, so that neighbours in a batch change nothing
            digest = hashlib.sha256(f"{self.config.seed}\0{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            rows.append(torch.rand(tokens.count, generator=generator))
        return torch.stack(rows).to(tokens.device)
