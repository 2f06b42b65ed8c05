"""How much two regions share: boxes as numbers, masks as arrays.

Knows no format, no task and no file.
"""

from __future__ import annotations

from collections.abc import Sequence


def intersection_over_union(first: Sequence[float], second: Sequence[float]) -> float:
    """Of two boxes (left, top, right, bottom) in any one unit."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return shared / (areas[0] + areas[1] - shared)
