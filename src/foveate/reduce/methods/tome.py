"""ToMe (Bolya et al. 2022, arXiv 2210.09461): bipartite matching of keys, merged by size-weighted means.

A round splits the tokens alternately into A and B, links each of A to its most similar of B by the cosine of head-mean
keys, and merges the r strongest links. Rounds of at most half of the tokens go on until k remain.

Difference: the authors merge inside every block of the tower, which also speeds the tower up and recomputes keys.
Here the rounds run once behind the tower, over its keys (a merged token has the mean of its parts'), because the
towers' own code stays as it is: the language model's saving is the same, the tower's is not there.
"""

from __future__ import annotations

import torch

from foveate.reduce.base import Reducer
from foveate.reduce.keep_map import Merge
from foveate.reduce.merging import members
from foveate.reduce.needs import Needs
from foveate.reduce.scoring import cosines, ids_of, take, top_k
from foveate.reduce.tokens import Choice, Tokens


class ToMe(Reducer):
    """k groups of similar tokens, each its mean."""

    name = "tome"
    needs = Needs(keys=True)

    def choose(self, tokens: Tokens, k: int) -> Choice:
        batch, n = tokens.batch, tokens.count
        everyone = torch.arange(n, device=tokens.device).expand(batch, -1)
        keys, size = tokens.needed_keys(), torch.ones(batch, n, 1, device=tokens.device)
        alive, owner = everyone, everyone
        while alive.shape[1] > k:
            left, right = alive[:, 0::2], alive[:, 1::2]
            similarity = cosines(take(keys, left), take(keys, right))
            strongest = top_k(similarity.amax(dim=2), min(left.shape[1], alive.shape[1] - k))
            merged = left.gather(1, strongest)
            target = right.gather(1, similarity.argmax(dim=2).gather(1, strongest))
            keys, size = _absorb(keys, size, merged, target)
            owner = everyone.scatter(1, merged, target).gather(1, owner)
            gone = torch.zeros(batch, n, dtype=torch.bool, device=tokens.device).scatter_(1, merged, True)
            stays = torch.zeros_like(gone).scatter_(1, alive, True) & ~gone
            alive = ids_of(stays, alive.shape[1] - merged.shape[1])
        share = 1.0 / members(owner, n)
        return Choice(kept=alive, merge=Merge(into=owner, sources=everyone, weights=share.gather(1, owner)))


def _absorb(
    keys: torch.Tensor, size: torch.Tensor, merged: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys [B, n, d] and sizes [B, n, 1] after tokens [B, r] went into targets [B, r], by size."""
    index = target[..., None]
    weight = take(size, merged)
    total = (keys * size).scatter_add(1, index.expand(-1, -1, keys.shape[2]), take(keys, merged) * weight)
    grown = size.scatter_add(1, index, weight)
    return total / grown, grown
