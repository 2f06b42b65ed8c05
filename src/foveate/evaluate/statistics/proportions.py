"""Intervals of a share of successes, which hold at small samples and near 0 and 1. Pure Python."""

from __future__ import annotations

import math

NORMAL_95 = 1.959964  # standard errors to each end of a normal 95 % interval


def wilson_interval(successes: int, trials: int, *, z: float = NORMAL_95) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927), 95 % by default.

    Unlike the normal approximation it never collapses to a point at 0 % or 100 %.

    Raises:
        ValueError: counts that cannot be (negative, or more successes than trials).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    denominator = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / denominator
    # At the ends the bounds are exactly 0 and 1; rounding would miss them by a hair.
    low = 0.0 if successes == 0 else centre - half
    return low, 1.0 if successes == trials else centre + half


def proportions_z(first: tuple[int, int], second: tuple[int, int]) -> float:
    """z of two shares of (successes, trials) on *different* items, with the pooled variance; 0 where both are alike.

    For published tables, which have no answers by item. On the same items `mcnemar` sees far smaller differences.

    Raises:
        ValueError: counts that cannot be, or no trials.
    """
    for successes, trials in (first, second):
        if not 0 <= successes <= trials or trials == 0:
            raise ValueError(f"{successes} successes in {trials} trials")
    pooled = (first[0] + second[0]) / (first[1] + second[1])
    variance = pooled * (1 - pooled) * (1 / first[1] + 1 / second[1])
    return (first[0] / first[1] - second[0] / second[1]) / math.sqrt(variance) if variance else 0.0
