"""DivPrune (Alvar et al. 2025, arXiv 2503.02175): the k tokens that are least alike, by maximal minimal distance.

Distance is 1 - cosine of projected features. The first token is the one whose nearest neighbour is farthest; then,
k - 1 times, the token farthest from all chosen. Needs no attention and no CLS token. O(n^2 d), k steps in order.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foveate.reduce.base import Reducer, TileRule
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines
from foveate.reduce.tokens import Choice, Tokens


class DivPrune(Reducer):
    """Greedy max-min diversity over the whole image, tiles together."""

    name = "divprune"
    needs = Needs(features=True)
    default_tiles: ClassVar[TileRule] = "whole"

    def choose(self, tokens: Tokens, k: int) -> Choice:
        distance = 1.0 - cosines(tokens.features, tokens.features)
        n = tokens.count
        itself = torch.eye(n, dtype=torch.bool, device=tokens.device)
        others = distance.masked_fill(itself, float("inf"))
        chosen = others.amin(dim=2).argmax(dim=1, keepdim=True)
        kept = [chosen]
        nearest = torch.full((tokens.batch, n), float("inf"), device=tokens.device)
        for _ in range(k - 1):
            nearest = torch.minimum(nearest, distance.gather(1, chosen[..., None].expand(-1, -1, n))[:, 0])
            nearest = nearest.scatter(1, chosen, float("-inf"))  # chosen ones never again
            chosen = nearest.argmax(dim=1, keepdim=True)
            kept.append(chosen)
        return Choice(kept=torch.cat(kept, dim=1))
