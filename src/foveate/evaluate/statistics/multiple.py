"""Many comparisons at once: Holm's correction, and rankings that show what cannot be told apart."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from foveate.evaluate.statistics.paired import paired_test


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down rule (Holm 1979), in the order given.

    Rejecting those at or below a level keeps the chance of any false rejection at that level, whatever the
    dependence among the tests.

    Raises:
        ValueError: a value outside [0, 1].
    """
    for value in p_values:
        if not 0 <= value <= 1:
            raise ValueError(f"{value} is no p-value")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def tie_groups(
    scores: Mapping[str, ArrayLike],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.05,
    seed: int = 0,
) -> list[list[str]]:
    """A ranking as groups, best first: members of a group are not separated from the group's best.

    All pairs are tested on the shared items and corrected by Holm. "Cannot separate" is no order: two members of
    one group may still differ from each other, and members of neighbouring groups need not.

    Args:
        scores: for each arm its scores [N] on the same items.
        level: chance of any false separation among all pairs.
    """
    rows = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    order = sorted(rows, key=lambda name: -float(rows[name].mean()))
    pairs = list(combinations(order, 2))
    tested = [paired_test(rows[a], rows[b], clusters, seed=seed)[1] for a, b in pairs]
    separated = {pair for pair, value in zip(pairs, holm(tested), strict=True) if value <= level}
    groups: list[list[str]] = []
    for name in order:
        if groups and (groups[-1][0], name) not in separated:
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups
