"""Density peaks among the nearest neighbours: which tokens of a set are centres of clusters (DPC-KNN, Du et al. 2016).

Owns distances and centre scores of many sets of up to n tokens at once, each told by a mask. Three methods over frames
cluster by it. Knows no frames.

A token's density is exp(-mean of the squared distances to its nearest neighbours, itself among them), its reach the
distance to the nearest denser token (to the farthest pair's for the densest), and it scores density times reach. In
logarithms, so that features of large norm do not underflow to equal densities. Of equal densities the lower id counts
as denser; the released codes add random noise.
"""

from __future__ import annotations

import torch

LOWEST = -1e30  # for members: tokens outside the set have -inf


def squared_distances(vectors: torch.Tensor) -> torch.Tensor:
    """[S, n, n] squared Euclidean distances of [S, n, D]; exactly 0 for a token and itself."""
    products = vectors @ vectors.transpose(1, 2)
    norms = products.diagonal(dim1=1, dim2=2)
    squared = (norms[:, :, None] + norms[:, None] - 2 * products).clamp(min=0)
    same = torch.eye(vectors.shape[1], dtype=torch.bool, device=vectors.device)
    return squared.masked_fill(same, 0.0)


def centre_scores(
    squared: torch.Tensor, member: torch.Tensor, *, width: int, neighbours: int
) -> torch.Tensor:
    """[S, n] logarithms of density times reach, but for a constant; -inf outside the set.

    Args:
        squared: [S, n, n] of `squared_distances`.
        member: [S, n] which tokens are in each set.
        width: D; distances count by its square root, as if every channel were one measurement.
        neighbours: nearest ones that a density is the mean over; fewer in smaller sets.
    """
    n = squared.shape[1]
    pair = member[:, :, None] & member[:, None]
    near = squared.masked_fill(~pair, float("inf")).topk(min(neighbours, n), dim=2, largest=False).values
    found = near.isfinite()
    # Divided once and last, so that sums that are equal stay equal.
    density = -near.masked_fill(~found, 0.0).sum(dim=2) / (found.sum(dim=2).clamp(min=1) * width)
    index = torch.arange(n, device=squared.device)
    denser = density[:, None] > density[:, :, None]
    denser |= (density[:, None] == density[:, :, None]) & (index[None] < index[:, None])
    reach = squared.masked_fill(~(denser & pair), float("inf")).amin(dim=2)
    farthest = squared.masked_fill(~pair, 0.0).amax(dim=(1, 2))
    reach = torch.where(reach.isfinite(), reach, farthest[:, None])
    scores = (reach.log() / 2 + density).clamp(min=LOWEST)
    return scores.masked_fill(~member, float("-inf"))


def nearest_centre(squared: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """[S, n] the nearest centre of a token's set, itself if it is one; -1 in sets without centres.

    Args:
        centre: [S, n] booleans.
    """
    nearest = squared.masked_fill(~centre[:, None], float("inf")).argmin(dim=2)
    index = torch.arange(squared.shape[1], device=squared.device)
    nearest = torch.where(centre, index, nearest)
    return nearest.masked_fill(~centre.any(dim=1, keepdim=True), -1)
