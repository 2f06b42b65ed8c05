"""Ranking without surprises: top k with stable ties, within parts, and similarities.

Owns the few tensor operations several methods share. Everything works on batches and reads nothing back to
the host, so that a GPU is never waited for. Knows no method.
"""

from __future__ import annotations

import torch


def stable_order(scores: torch.Tensor) -> torch.Tensor:
    """[B, n] ids by descending score; of equal scores the lowest id first."""
    return scores.argsort(dim=-1, descending=True, stable=True)


def top_k(scores: torch.Tensor, k: int) -> torch.Tensor:
    """[B, k] ids of the k largest of [B, n]; of equal scores the lowest id wins."""
    return stable_order(scores)[:, :k]


def ids_of(mask: torch.Tensor, k: int) -> torch.Tensor:
    """[B, k] ascending ids of the True entries of [B, n], of which each row has exactly k."""
    return stable_order(mask.to(torch.uint8))[:, :k]


def mask_of(ids: torch.Tensor, n: int) -> torch.Tensor:
    """[B, n] booleans, True at the ids [B, k]."""
    mask = torch.zeros(ids.shape[0], n, dtype=torch.bool, device=ids.device)
    return mask.scatter_(1, ids, True)


def sizes_of(part: torch.Tensor, parts: int) -> torch.Tensor:
    """[P] how many tokens each part has. (`bincount` would wait for the device to size its result.)"""
    return torch.zeros(parts, dtype=torch.long, device=part.device).index_add_(0, part, torch.ones_like(part))


def rank_within(scores: torch.Tensor, part: torch.Tensor, parts: int) -> torch.Tensor:
    """[B, n]: the place of each token among those of its part, 0 for the largest score.

    Args:
        part: [n] which of `parts` a token belongs to.
    """
    order = stable_order(scores)
    by_part = part[order].argsort(dim=-1, stable=True)  # stable: within a part the score order stays
    grouped = order.gather(1, by_part)
    sizes = sizes_of(part, parts)
    starts = sizes.cumsum(0) - sizes
    place = torch.arange(scores.shape[1], device=scores.device) - starts[part[grouped]]
    return torch.empty_like(order).scatter_(1, grouped, place)


def top_k_within(scores: torch.Tensor, part: torch.Tensor, quotas: torch.Tensor, k: int) -> torch.Tensor:
    """[B, k] ascending ids: of each part p of row b the quotas[b, p] largest.

    Args:
        scores: [B, n].
        part: [n].
        quotas: [B, P], each at most the part's size; rows sum to k.
    """
    rank = rank_within(scores, part, quotas.shape[1])
    return ids_of(rank < quotas[:, part], k)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """[..., d] float32 of length 1; zero vectors stay zero."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def cosines(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """[B, m, n] cosine similarities of [B, m, d] with [B, n, d]."""
    return unit(left) @ unit(right).transpose(1, 2)


def take(values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[B, k, d] rows of [B, n, d] at [B, k]."""
    return values.gather(1, ids[..., None].expand(-1, -1, values.shape[-1]))
