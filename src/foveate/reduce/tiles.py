"""How the tiles of one image share its budget.

Owns two rules: `uniform`, in proportion to the tiles' sizes, and `salience`, the rule of HiRED (Arif et al.
2024, arXiv 2408.10945, section 4.1): the overview takes a share alpha, and each part of the picture gets of the
rest what the overview's salience says about the area it covers, in two dimensions. Composable with any method.

Separators: text between tiles (the markers of Idefics3, the words of Gemma 3) is text and stays. Newline tokens
of LLaVA-NeXT and OneVision end rows that no longer exist once tokens are dropped, so no reducer keeps them, and
they count towards N but never towards k.
"""

from __future__ import annotations

import functools

import torch

from foveate.models.records import VisualGrid
from foveate.reduce.layout import TokenLayout, layout_of


@functools.lru_cache(maxsize=1024)
def uniform_quotas(sizes: tuple[int, ...], k: int) -> tuple[int, ...]:
    """k tokens shared in proportion to the tiles' sizes; the largest remainders get what is left, low ids first."""
    total = sum(sizes)
    assert 0 <= k <= total, f"{k} tokens of {total}"
    quotas = [k * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda index: (-(k * sizes[index] % total), index))
    for index in by_remainder[: k - sum(quotas)]:
        quotas[index] += 1
    return tuple(quotas)


@functools.lru_cache(maxsize=256)
def coverage(grid: VisualGrid, device: torch.device) -> torch.Tensor:
    """[T, n]: the share of each overview token's area that a tile covers; 0 for the overview and its tile's own.

    n counts the tokens of the image that show the picture; columns of tokens outside the overview are 0.
    """
    layout = layout_of(grid)
    overview = layout.overview
    assert overview is not None, "only an image with an overview has coverage"
    whole = layout.tiles[overview]
    inside = layout.tile == overview
    rows, cols = layout.row[inside].float(), layout.col[inside].float()
    result = torch.zeros(len(layout.tiles), layout.count)
    for index, tile in enumerate(layout.tiles):
        if index == overview:
            continue
        top, left, bottom, right = tile.box
        high = (rows + 1).clamp(max=bottom * whole.rows) - rows.clamp(min=top * whole.rows)
        wide = (cols + 1).clamp(max=right * whole.cols) - cols.clamp(min=left * whole.cols)
        result[index, inside] = high.clamp(min=0) * wide.clamp(min=0)
    return result.to(device)


def salience_quotas(
    grid: VisualGrid, layout: TokenLayout, salience: torch.Tensor, k: int, alpha: float
) -> torch.Tensor:
    """[B, T] int64, rows summing to k.

    Args:
        salience: [B, n] float32 over the tokens that show the picture; only the overview's are read.
        alpha: share of k that goes to the overview.
    """
    overview = layout.overview
    sizes = tuple(tile.tokens for tile in layout.tiles)
    batch = salience.shape[0]
    if overview is None:  # nothing to look at first: by size
        fixed = torch.tensor(uniform_quotas(sizes, k), device=salience.device)
        return fixed.expand(batch, -1)
    limits = torch.tensor(sizes, device=salience.device)
    parts = sum(sizes) - sizes[overview]
    # What the parts cannot hold goes to the overview, and the other way round.
    own = max(min(int(alpha * k), sizes[overview]), k - parts)
    weights = salience.float() @ coverage(grid, salience.device).T
    weights[:, overview] = 0
    limits[overview] = 0
    quotas = share_out(weights, limits, k - own)
    quotas[:, overview] = own
    return quotas


def share_out(weights: torch.Tensor, limits: torch.Tensor, amount: int) -> torch.Tensor:
    """[B, P] int64: `amount` shared in proportion to weights [B, P], at most `limits` [P] to each.

    Weights count in millionths of their sum, so that rounding does not decide between equal ones. Rounds of
    floors; a round either fills a part or leaves less than one token a part, and those go one each to the parts of
    largest weight with room, lowest id first. Parts without weight get some only when all others are full. Loops
    over parts, never over tokens, and reads nothing back to the host.
    """
    weights = weights.double().clamp(min=0)
    shares = (weights / weights.sum(1, keepdim=True).clamp(min=1e-300) * 1e6).round().long()
    quotas = torch.zeros_like(shares)
    rank = shares.argsort(dim=1, descending=True, stable=True)
    for _ in range(shares.shape[1]):
        room = limits - quotas
        open_shares = shares * (room > 0)
        open_shares = torch.where(open_shares.sum(1, keepdim=True) == 0, room, open_shares)
        left = amount - quotas.sum(1, keepdim=True)
        whole = open_shares.sum(1, keepdim=True).clamp(min=1)
        quotas = quotas + torch.minimum(left * open_shares // whole, room)
    has_room = (limits - quotas > 0).gather(1, rank)
    left = amount - quotas.sum(1, keepdim=True)
    lucky = has_room & (has_room.cumsum(1) <= left)
    return quotas.scatter_add(1, rank, lucky.long())
