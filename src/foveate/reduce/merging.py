"""Merges in the form keep-maps store them: rows (into, source, weight), never a dense matrix.

Owns the averages and assignments that several methods share. Works on batches; ids are local. Knows no method.
"""

from __future__ import annotations

import torch

from foveate.reduce.keep_map import Merge

Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def rows_of(*parts: Rows) -> Merge:
    """One merge of several lists of rows (into, sources, weights), each [B, m]."""
    into, sources, weights = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
    return Merge(into=into, sources=sources, weights=weights)


def own_share(kept: torch.Tensor, weights: torch.Tensor | None = None) -> Rows:
    """Rows by which each kept token [B, k] goes into itself; weights [B, k], 1 where None is given."""
    ones = torch.ones(kept.shape, device=kept.device) if weights is None else weights
    return kept, kept, ones


def members(into: torch.Tensor, n: int) -> torch.Tensor:
    """[B, n] float32: how many of the rows `into` [B, m] name each token."""
    counts = torch.zeros(into.shape[0], n, device=into.device)
    return counts.scatter_add_(1, into, torch.ones(into.shape, device=into.device))


def averaged(kept: torch.Tensor, into: torch.Tensor, sources: torch.Tensor, n: int) -> Merge:
    """Every kept token [B, k] becomes the mean of itself and the sources [B, m] assigned to it."""
    share = 1.0 / (1.0 + members(into, n))
    return rows_of((kept, kept, share.gather(1, kept)), (into, sources, share.gather(1, into)))


def best_match(similarity: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """[B, m]: for each of m tokens the candidate [B, c] of largest similarity [B, m, c]; of equals the first."""
    return candidates.gather(1, similarity.argmax(dim=2))
