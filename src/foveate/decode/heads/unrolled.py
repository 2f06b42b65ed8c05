"""Attention of many drafts at once, one that begins behind every row of an answer: how a head is trained on its own
guesses, and what its decoding is held to.

Owns which keys a node of a draft sees. Knows no head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


class Unrolled:
    """Attention of the k-th step of many drafts at once, one that begins behind every row.

    The draft that has row r as its k-th node sees rows up to r - k as the target's states made them (step 0), and
    rows r - k + 1 .. r as steps 1 .. k made them: keys of later steps count at one place each.
    """

    def __init__(self) -> None:
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    def __call__(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        shared = queries.shape[1] // keys.shape[1]
        keys, values = keys.repeat_interleave(shared, dim=1), values.repeat_interleave(shared, dim=1)
        self._keys.append(keys)
        self._values.append(values)
        step = len(self._keys) - 1
        if step == 0:
            return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        count = queries.shape[2]
        sees = torch.ones(count, count, dtype=torch.bool, device=queries.device).tril(-step)
        scores = (queries @ self._keys[0].transpose(-1, -2)).masked_fill(~sees, -torch.inf)
        own = [_shifted(self._keys[m], step - m) for m in range(1, step + 1)]
        diagonal = torch.stack([(queries * one).sum(dim=-1) for one in own], dim=-1)
        exists = torch.stack(
            [torch.arange(count, device=queries.device) >= step - m for m in range(1, step + 1)], dim=-1
        )
        diagonal = diagonal.masked_fill(~exists, -torch.inf)
        weights = (torch.cat([scores, diagonal], dim=-1) * queries.shape[-1] ** -0.5).softmax(dim=-1)
        seen = weights[..., :count] @ self._values[0]
        for m in range(1, step + 1):
            seen = seen + weights[..., count + m - 1, None] * _shifted(self._values[m], step - m)
        return seen


def _shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    """[B, H, n, d] whose row r is row r - by."""
    return F.pad(x[:, :, : x.shape[2] - by], (0, 0, by, 0))
