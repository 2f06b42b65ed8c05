"""Few repeated runs, seeds as a rule: intervals by Student's t, where a bootstrap would be far too narrow."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from foveate.evaluate.statistics.bootstrap import Interval


def _central_probability(t: float, freedom: int) -> float:
    """P(-t < T < t) of Student's t, by the finite series for whole degrees of freedom.

    Abramowitz and Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    series = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        series += term
    return 2 / math.pi * (angle + sine * series) if odd else sine * series


def t_quantile(level: float, freedom: int) -> float:
    """The t for which P(-t < T < t) = level with this many degrees of freedom; 4.303 for 95 % and 2.

    Raises:
        ValueError: a level outside (0, 1) or fewer than 1 degree of freedom.
    """
    if not 0 < level < 1 or freedom < 1:
        raise ValueError(f"no t for a level of {level} and {freedom} degrees of freedom")
    low, high = 0.0, 1.0
    while _central_probability(high, freedom) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if _central_probability(middle, freedom) < level:
            low = middle
        else:
            high = middle
    return high


def t_interval(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean of repeated runs with Student's interval; for ratios, hand over logarithms.

    With one run there is no spread to measure: the interval is all numbers.

    Raises:
        ValueError: no values, or values that are not finite.
    """
    runs = np.asarray(values, dtype=np.float64)
    if runs.ndim != 1 or not len(runs) or not np.isfinite(runs).all():
        raise ValueError(f"no interval of {values!r}")
    mean = float(runs.mean())
    if len(runs) == 1:
        return Interval(value=mean, low=-math.inf, high=math.inf, method="one run: no interval")
    half = t_quantile(level, len(runs) - 1) * float(runs.std(ddof=1)) / math.sqrt(len(runs))
    return Interval(value=mean, low=mean - half, high=mean + half, method=f"Student's t of {len(runs)} runs")
