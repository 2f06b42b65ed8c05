"""What ordinary outputs are like: robust centre and spread of the recent past.

Owns the sample. Medians and not means, because the sample may hold what it is meant to find: up to half of it can be an
attacker's without moving the centre to where they want it (Huber, Robust Statistics, 1981).
"""

from __future__ import annotations

from collections import deque

import numpy as np

_REFRESH = 32  # new values after which the figures are made anew
_NORMAL = 1.4826  # makes the median absolute deviation a standard deviation for normal values


class Population:
    """The last `size` values.

    Args:
        least_spread: of the standard deviation: where all values are alike, any other is not at once an outlier.
    """

    def __init__(self, *, size: int = 2048, least_spread: float) -> None:
        assert size >= 1 and least_spread > 0
        self._values: deque[float] = deque(maxlen=size)
        self._least_spread = least_spread
        self._age = _REFRESH
        self._seen = 0
        self._centre = self._spread = 0.0

    def __len__(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        """One more; the oldest leaves when there are too many."""
        self._values.append(value)
        self._age += 1

    @property
    def centre(self) -> float:
        """The median; there must be a value."""
        self._refresh()
        return self._centre

    @property
    def spread(self) -> float:
        """1.4826 times the median absolute deviation from the median, but at least `least_spread`."""
        self._refresh()
        return self._spread

    def score(self, value: float) -> float:
        """By how many spreads a value lies above the centre."""
        return (value - self.centre) / self.spread

    def _refresh(self) -> None:
        if self._age < _REFRESH and self._seen >= min(_REFRESH, len(self._values)):
            return
        assert self._values, "ask an empty population nothing"
        values = np.array(self._values)
        self._seen, self._age = len(values), 0
        self._centre = float(np.median(values))
        deviation = float(np.median(np.abs(values - self._centre)))
        self._spread = max(self._least_spread, _NORMAL * deviation)
