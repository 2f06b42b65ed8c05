"""What is left of a video once places that stand still in a scene are one token each: the pool that methods cut.

Owns the choice of still places, the exact share of every set, and the way from the pool back to tokens. The pool of
one video has a set of still tokens for each scene (means over its frames) and one of moving tokens for each frame.
Knows no clustering.

Exact counts: the released methods cut every set by one ratio and take the count that comes. Here the sets share k in
proportion to their sizes, largest remainders first. Where the pool would have fewer than k tokens, the places that
stand stillest stay merged and the others are taken apart again, until it has k or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from foveate.reduce.merging import Rows
from foveate.reduce.scoring import ids_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The pool of one video of T frames of n tokens in S scenes; P = S + T sets of n places, scenes first.

    Attributes:
        features: [P, n, D] means over the scene, or the frame's own.
        member: [P, n] which places are in each set.
        token: [P, n] the video's token that stands for a place: of a scene, that of its first frame.
        home: [T n] for each token of the video its place in the flattened pool.
        share: [T n] its weight there: 1 / frames of the scene where it stands still, else 1.
    """

    features: torch.Tensor
    member: torch.Tensor
    token: torch.Tensor
    home: torch.Tensor
    share: torch.Tensor

    def quotas(self, k: int) -> torch.Tensor:
        """[P] places that each set keeps: in proportion to sizes, the largest remainders get what is left."""
        sizes = self.member.sum(dim=1)
        wanted = k * sizes
        floors = wanted // sizes.sum()
        order = (wanted % sizes.sum()).argsort(descending=True, stable=True)
        lucky = torch.arange(len(sizes), device=sizes.device) < k - floors.sum()
        return floors + torch.zeros_like(floors).scatter(0, order, lucky.long())

    def best(self, scores: torch.Tensor, k: int) -> torch.Tensor:
        """[P, n] booleans: of each set its quota of k places, those of largest score [P, n], of equals the first."""
        ranked = scores.masked_fill(~self.member, float("-inf")).argsort(dim=1, descending=True, stable=True)
        place = torch.arange(scores.shape[1], device=scores.device).expand_as(ranked)
        rank = torch.empty_like(ranked).scatter_(1, ranked, place)
        return (rank < self.quotas(k)[:, None]) & self.member

    def tokens_of(self, kept: torch.Tensor, k: int) -> torch.Tensor:
        """[k] the video's tokens that stand for the kept places [P, n]."""
        return self.token.flatten()[ids_of(kept.flatten()[None], k)[0]]

    def rows(self, into: torch.Tensor, weight: torch.Tensor, fallback: torch.Tensor) -> Rows:
        """Merge rows ([T n] into, sources, weights), one a token.

        Args:
            into: [P, n] for each place the place in its set that takes it in, -1 for none.
            weight: [P, n] share of that place it makes up.
            fallback: [] a kept token, for rows that carry nothing.
        """
        n = into.shape[1]
        start = torch.arange(len(into), device=into.device)[:, None] * n
        target = self.token.flatten()[(start + into.clamp(min=0)).flatten()[self.home]]
        gone = (into < 0).flatten()[self.home] | (weight.flatten()[self.home] == 0)
        weights = (weight.flatten()[self.home] * self.share).masked_fill(gone, 0.0)
        sources = torch.arange(len(self.home), device=into.device)
        return torch.where(gone, fallback, target), sources, weights


def pool_of(features: torch.Tensor, lengths: Sequence[int], still: torch.Tensor, k: int) -> Pool:
    """The pool of one video, of k tokens or more.

    Args:
        features: [T, n, D] float32.
        lengths: frames of each scene; they sum to T.
        still: [S, n] how still a place stands in a scene, -inf where it moves; scenes of one frame have none.
    """
    count, n, _ = features.shape
    sizes = torch.tensor(list(lengths), device=features.device)
    scene = torch.arange(len(sizes), device=features.device).repeat_interleave(sizes, output_size=count)
    order = still.flatten().argsort(descending=True, stable=True)
    saved = (sizes - 1)[:, None].expand_as(still).flatten()[order].cumsum(0)
    stays = still.flatten()[order].isfinite() & (saved <= count * n - k)
    merged = torch.zeros_like(stays).scatter(0, order, stays).reshape(still.shape)
    means = torch.zeros(len(sizes), *features.shape[1:], device=features.device)
    means = means.index_add_(0, scene, features) / sizes[:, None, None]
    by_token = merged[scene]
    place = torch.arange(n, device=features.device)
    frame = torch.arange(count, device=features.device)
    first = sizes.cumsum(0) - sizes
    return Pool(
        features=torch.cat([means, features]),
        member=torch.cat([merged, ~by_token]),
        token=torch.cat([first, frame])[:, None] * n + place,
        home=(torch.where(by_token, scene[:, None], len(sizes) + frame[:, None]) * n + place).flatten(),
        share=torch.where(by_token, 1.0 / sizes[scene][:, None], 1.0).flatten(),
    )
