"""Medians, spreads and ratios of repeated measurements, and how far two lists of answers agree. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any


def spread(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Median, smallest and largest, and how many."""
    return {
        "median": round(statistics.median(values), digits),
        "minimum": round(min(values), digits),
        "maximum": round(max(values), digits),
        "repetitions": len(values),
    }


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> dict[str, Any]:
    """Spread of the ratios of each repetition: what was measured side by side is compared, nothing else."""
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def latencies(values: Sequence[float]) -> dict[str, float]:
    """p50 and p95, in seconds."""
    return {"p50": round(percentile(values, 0.5), 3), "p95": round(percentile(values, 0.95), 3)}


def agreement(ours: Sequence[Sequence[Any]], theirs: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Share of identical answers, and of tokens (or characters) before the first difference.

    Greedy answers that part once never meet again, so the second figure says how early they part.
    """
    same, before, total = 0, 0, 0
    for one, other in zip(ours, theirs, strict=True):
        common = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
        same += list(one) == list(other)
        before += min(common, len(other))
        total += len(one)
    return {
        "requests": len(ours),
        "identical": round(same / len(ours), 4),
        "before_difference": round(before / total, 4),
    }


def queue_behind_one_server(
    arrivals: Sequence[float], first_token: Sequence[float], whole: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Time to first token and to the end, where requests are served one at a time in order of arrival.

    Args:
        arrivals: seconds after the start.
        first_token, whole: seconds of each request alone, to its first token and to its end.
    """
    free, firsts, ends = 0.0, [], []
    for arrival, first, total in zip(arrivals, first_token, whole, strict=True):
        start = max(arrival, free)
        free = start + total
        firsts.append(start + first - arrival)
        ends.append(free - arrival)
    return firsts, ends
