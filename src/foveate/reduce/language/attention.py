"""Rows of the language model's attention: a few queries against all keys, never the full map.

Owns the softmax over causal keys and the undoing of rotary positions. Knows no method.
"""

from __future__ import annotations

import torch


def attention_rows(query: torch.Tensor, key: torch.Tensor, rows: torch.Tensor, scale: float) -> torch.Tensor:
    """[r, n] float32: what the tokens `rows` attend to, mean over heads.

    Args:
        query: [H, n, d]; key: [G, n, d] with G dividing H (grouped-query attention).
        rows: [r] places of the asking tokens; each sees itself and those before it.
    """
    heads, count, width = query.shape
    groups = key.shape[0]
    asked = query[:, rows].reshape(groups, heads // groups, len(rows), width).float()
    logits = asked @ key[:, None].float().transpose(2, 3) * scale
    unseen = torch.arange(count, device=query.device) > rows[:, None]
    return logits.masked_fill(unseen, float("-inf")).softmax(dim=-1).mean(dim=(0, 1))


def unrotated(vectors: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """[H, n, d] queries or keys as they were before rotary positions (RoPE, Su et al. 2021, arXiv 2104.09864).

    Args:
        cosine, sine: [n, d'] with d' <= d; both halves of d' hold the same angles, as transformers lays them out.
    """
    turned, rest = vectors.float().split([cosine.shape[-1], vectors.shape[-1] - cosine.shape[-1]], dim=-1)
    first, second = turned.chunk(2, dim=-1)
    cosine, sine = cosine.float(), sine.float()
    # A rotation by minus the angle; length scaling of long contexts (cos^2 + sin^2 above 1) is undone as well.
    back = turned * cosine - torch.cat([-second, first], dim=-1) * sine
    return torch.cat([back / (cosine.square() + sine.square()), rest], dim=-1)
