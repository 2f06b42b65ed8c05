"""Rankings compared: Kendall's tau, ranks with ties, and pairs that change order. Plain numbers in, plain numbers out.

A ranking moves for two reasons, the thing that was changed and the items that were drawn; these figures describe the
movement and do not tell the two apart. `paired_test` on the same items does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of two rows of scores [N] of the same N things; ties are corrected for (Kendall 1945).

    1 is the same order, -1 the reverse. A row without any order, all its scores tied, has no correlation: NaN.

    Raises:
        ValueError: rows of different lengths, fewer than two scores, or scores that are not finite.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"no order to compare in rows of the shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("scores hold NaN or infinity")
    upper = np.triu_indices(len(a), 1)
    signs_a, signs_b = np.sign(np.subtract.outer(a, a))[upper], np.sign(np.subtract.outer(b, b))[upper]
    untied = math.sqrt(np.count_nonzero(signs_a) * np.count_nonzero(signs_b))
    return float(signs_a @ signs_b) / untied if untied else math.nan


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """Rank of each score [N], 1 for the highest; equal scores share the better rank, as leaderboards print them."""
    row = np.asarray(scores, dtype=np.float64)
    return 1 + (row[None, :] > row[:, None]).sum(axis=1)


def order_changes(scores: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """Pairs of arms that change order between conditions: each is strictly ahead of the other in at least one.

    Args:
        scores: for each arm its scores [C] under the same C conditions.
    """
    found = []
    for a, b in combinations(scores, 2):
        ahead = np.sign(np.subtract(scores[a], scores[b]))
        if (ahead > 0).any() and (ahead < 0).any():
            found.append((a, b))
    return found
