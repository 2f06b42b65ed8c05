"""Keys and values of the rows that a head has read, one cache an answer, and attention over many of them at once.

Owns storage that grows by doubling, and the split of a flat batch among caches. What is written behind the rows that
count (nodes of a tree) is simply written over by the next rows. Knows no head's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

LEAST = 64  # rows; then twice as many as before


class RowCache:
    """One answer's keys and values, [1, G, capacity, d] each.

    Attributes:
        rows: how many count.
    """

    def __init__(self, groups: int, head_dim: int, *, dtype: torch.dtype, device: torch.device) -> None:
        self.rows = 0
        self._keys = torch.empty(1, groups, 0, head_dim, dtype=dtype, device=device)
        self._values = torch.empty_like(self._keys)

    def reserve(self, rows: int) -> None:
        """Room for that many rows in all."""
        capacity = self._keys.shape[2]
        if rows > capacity:
            more = max(rows, 2 * capacity, LEAST) - capacity
            self._keys = F.pad(self._keys, (0, 0, 0, more))
            self._values = F.pad(self._values, (0, 0, 0, more))

    @property
    def bytes(self) -> int:
        """What it takes, spare room included."""
        return 2 * self._keys.numel() * self._keys.element_size()

    def copy(self, rows: int | None = None) -> RowCache:
        """Of the rows that count, or the first `rows` of them."""
        count = self.rows if rows is None else rows
        _, groups, _, head_dim = self._keys.shape
        copied = RowCache(groups, head_dim, dtype=self._keys.dtype, device=self._keys.device)
        copied.reserve(count)
        copied.rows = count
        copied._keys[:, :, :count] = self._keys[:, :, :count]
        copied._values[:, :, :count] = self._values[:, :, :count]
        return copied

    def attend(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        start: int,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """[1, H, n, d] of n new rows written at `start`; without a mask each of them sees all rows up to `start` + n.

        Args:
            mask: [n, start + n] booleans.
        """
        stop = start + keys.shape[2]
        self._keys[:, :, start:stop] = keys
        self._values[:, :, start:stop] = values
        return F.scaled_dot_product_attention(
            queries,
            self._keys[:, :, :stop],
            self._values[:, :, :stop],
            attn_mask=mask,
            enable_gqa=queries.shape[1] != keys.shape[1],
        )


@dataclass(frozen=True)
class Part:
    """Some rows of a flat batch: one answer's.

    Attributes:
        cache: which they are written to and read from.
        start: the first's place in it.
        count: how many.
        mask: [count, start + count] who sees whom; None: all see everything up to the last of them.
    """

    cache: RowCache
    start: int
    count: int
    mask: torch.Tensor | None = None


class FlatAttention:
    """Attention of a batch [1, ·, N, d] whose rows are those of `parts`, one behind the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        for part in parts:
            part.cache.reserve(part.start + part.count)

    def __call__(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        if len(self._parts) == 1:
            [part] = self._parts
            return part.cache.attend(queries, keys, values, start=part.start, mask=part.mask)
        counts = [part.count for part in self._parts]
        split = zip(
            self._parts,
            queries.split(counts, 2),
            keys.split(counts, 2),
            values.split(counts, 2),
            strict=True,
        )
        return torch.cat(
            [part.cache.attend(q, k, v, start=part.start, mask=part.mask) for part, q, k, v in split], dim=2
        )


def causal(start: int, count: int, device: torch.device) -> torch.Tensor | None:
    """The mask of rows that follow each other behind `start` others; None for a single one, which sees all."""
    if count == 1:
        return None
    places = torch.arange(start + count, device=device)
    return places[None] <= places[start:, None]


def extended(paths: torch.Tensor, parents: Sequence[int]) -> torch.Tensor:
    """[n, T + n] booleans, the paths of a tree's new layer: each node sees what its parent saw, [m, T], and itself."""
    own = torch.eye(len(parents), dtype=torch.bool, device=paths.device)
    return torch.cat([paths[list(parents)], own], dim=1)


def layer_part(cache: RowCache, paths: torch.Tensor) -> Part:
    """A tree's layer of n nodes, `extended` paths [n, T], behind the cache's rows and T - n earlier nodes."""
    count, total = paths.shape
    past = torch.ones(count, cache.rows, dtype=torch.bool, device=paths.device)
    return Part(cache, cache.rows + total - count, count, torch.cat([past, paths], dim=1))
