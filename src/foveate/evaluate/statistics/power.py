"""How many items a comparison needs, so that a small run can say what it cannot see."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()


def _variance(accuracy: float, correlation: float) -> float:
    """Of the difference of two right-or-wrong scores on one item, arms of like accuracy."""
    if not 0 < accuracy < 1:
        raise ValueError(
            f"an accuracy of {accuracy} leaves no item to disagree on; it must be between 0 and 1"
        )
    if not -1 <= correlation < 1:
        raise ValueError(f"a correlation of {correlation} is outside -1 to below 1")
    return 2 * accuracy * (1 - accuracy) * (1 - correlation)


def _reach(power: float, level: float) -> float:
    return _NORMAL.inv_cdf(1 - level / 2) + _NORMAL.inv_cdf(power)


def items_needed(
    difference: float,
    *,
    accuracy: float = 0.75,
    correlation: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
) -> int:
    """Independent items on which a paired comparison finds `difference` (0.02 is two points) with this power.

    Normal approximation. `correlation` is between the two arms' scores on an item: one model with and without a
    reducer agrees more than 0.5, two unrelated models less.
    """
    if not 0 < abs(difference) < 1:
        raise ValueError(f"a difference of {difference} is not between 0 and 1")
    return math.ceil(_reach(power, level) ** 2 * _variance(accuracy, correlation) / difference**2)


def detectable_difference(
    items: int,
    *,
    accuracy: float = 0.75,
    correlation: float = 0.5,
    power: float = 0.8,
    level: float = 0.05,
) -> float:
    """The smallest difference that this many independent items show with this power."""
    if items < 1:
        raise ValueError(f"{items} items")
    return min(1.0, _reach(power, level) * math.sqrt(_variance(accuracy, correlation) / items))


def power_note(items: int, *, accuracy: float = 0.75, correlation: float = 0.5) -> str:
    """The footer of a run: what its size can and cannot show."""
    points = 100 * detectable_difference(items, accuracy=accuracy, correlation=correlation)
    needed = items_needed(0.02, accuracy=accuracy, correlation=correlation)
    return (
        f"{items:,} items show a difference of {points:.1f} points in 80 % of runs (accuracy {accuracy:.0%}, "
        f"correlation {correlation:g}); 2 points need {needed:,}."
    )
