"""The bootstrap of a mean, over items or over clusters of items (all questions about one picture, say).

BCa intervals (Efron 1987): unlike plain percentiles they correct for bias and skewness, which accuracies near 0 %
or 100 % have. Resampling is a draw of counts and two matrix products, so no item is ever copied.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.evaluate.statistics.proportions import wilson_interval

Numbers = NDArray[np.float64]
RESAMPLES = 5_000
_AT_ONCE = 2_000_000  # counts drawn at a time: 16 MB
_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its confidence interval, and how the interval was made."""

    value: float
    low: float
    high: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Values gathered by cluster: their sums [K] and sizes [K], clusters in order of first appearance."""

    sums: Numbers
    sizes: Numbers

    @property
    def mean(self) -> float:
        """Of all items: large clusters weigh more, as they do in the accuracy that is reported."""
        return float(self.sums.sum() / self.sizes.sum())


def gather(values: ArrayLike, clusters: Sequence[Hashable] | None = None) -> Clusters:
    """Sums and sizes per cluster; every item is a cluster of its own where none are given.

    Raises:
        ValueError: no values, values that are not finite, or not one cluster per value.
    """
    items = np.asarray(values, dtype=np.float64)
    if items.ndim != 1 or not len(items):
        raise ValueError(f"values have the shape {items.shape}; one row of at least one is needed")
    if not np.isfinite(items).all():
        raise ValueError("values hold NaN or infinity")
    if clusters is None:
        return Clusters(sums=items, sizes=np.ones(len(items)))
    if len(clusters) != len(items):
        raise ValueError(f"{len(clusters)} clusters for {len(items)} values")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(cluster, len(places)) for cluster in clusters])
    sums = np.bincount(index, weights=items).astype(np.float64)
    return Clusters(sums=sums, sizes=np.bincount(index).astype(np.float64))


def resampled_means(groups: Clusters, *, resamples: int, seed: int) -> Numbers:
    """Means [resamples] of as many clusters drawn with replacement."""
    count = len(groups.sums)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _AT_ONCE // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=rows).astype(np.float64)
        means[start : start + rows] = (drawn @ groups.sums) / (drawn @ groups.sizes)
    return means


def bootstrap_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    bounds: tuple[float, float] = (-1.0, 1.0),
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """BCa interval of a mean (Efron 1987, sections 2 to 4), over clusters where they are given.

    Values that are all alike tell a bootstrap nothing, and it would return a point. Such an interval is widened by
    the Wilson bound on how many clusters may yet differ, each by as much as `bounds` leave room for.
    A bootstrap needs some twenty clusters; for a handful of runs use `t_interval`.

    Args:
        values: one score, or difference of two scores, an item [N].
        clusters: what each item belongs to [N]; items of one cluster are not independent of each other.
        bounds: the least and the largest value there can be: (0, 1) of scores, (-1, 1) of their differences.

    Raises:
        ValueError: what `gather` refuses, a level outside (0, 1), or alike values beyond the bounds.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level {level} is not between 0 and 1")
    groups = gather(values, clusters)
    mean = groups.mean
    averages = groups.sums / groups.sizes
    if np.ptp(averages) < 1e-12:
        return _alike(mean, len(averages), level, bounds)
    means = resampled_means(groups, resamples=resamples, seed=seed)
    low, high = np.quantile(means, _bca_levels(groups, means, level))
    return Interval(value=mean, low=float(low), high=float(high), method="BCa bootstrap")


def bootstrap_ratio(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of the first over mean of the second on the same items [N]: percentiles of paired resamples.

    Args:
        clusters: what each item belongs to [N], see `bootstrap_mean`; drawn for both rows at once.

    Raises:
        ValueError: what `gather` refuses, rows of different lengths, or a second row whose mean is not above 0 in
            every resample: too few items have anything to compare with.
    """
    top, bottom = gather(first, clusters), gather(second, clusters)
    if not np.array_equal(top.sizes, bottom.sizes):
        raise ValueError(f"rows of {top.sizes.sum():g} and {bottom.sizes.sum():g} items cannot be paired")
    # The same seed and as many clusters draw the same counts.
    above = resampled_means(top, resamples=resamples, seed=seed)
    below = resampled_means(bottom, resamples=resamples, seed=seed)
    if bottom.mean <= 0 or not (below > 0).all():
        raise ValueError(f"no ratio to a mean of {bottom.mean:g} over {len(bottom.sums)} clusters")
    low, high = np.quantile(above / below, ((1 - level) / 2, (1 + level) / 2))
    return Interval(
        value=top.mean / bottom.mean,
        low=float(low),
        high=float(high),
        method="percentile bootstrap of the ratio",
    )


def bootstrap_unpaired(
    first: ArrayLike,
    second: ArrayLike,
    first_clusters: Sequence[Hashable] | None = None,
    second_clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of the first minus mean of the second, of items that share no cluster: percentiles of both resampled.

    For what cannot be asked of the same items, such as how much two kinds of questions suffer.

    Raises:
        ValueError: what `gather` refuses, or rows that share a cluster: pair them instead.
    """
    if first_clusters is not None and not set(first_clusters).isdisjoint(second_clusters or ()):
        raise ValueError("the two rows share clusters")
    one, other = gather(first, first_clusters), gather(second, second_clusters)
    # Seeds of their own: the same draws would make a pair of what is none.
    drawn = resampled_means(one, resamples=resamples, seed=2 * seed)
    away = resampled_means(other, resamples=resamples, seed=2 * seed + 1)
    low, high = np.quantile(drawn - away, ((1 - level) / 2, (1 + level) / 2))
    return Interval(
        value=one.mean - other.mean,
        low=float(low),
        high=float(high),
        method="percentile bootstrap of two samples",
    )


def _alike(mean: float, count: int, level: float, bounds: tuple[float, float]) -> Interval:
    lowest, highest = bounds
    if not lowest - 1e-9 <= mean <= highest + 1e-9:
        raise ValueError(
            f"all values are {mean}, beyond {lowest:g} to {highest:g}: no interval can be made of them"
        )
    _, differing = wilson_interval(0, count, z=_NORMAL.inv_cdf((1 + level) / 2))
    return Interval(
        value=mean,
        low=max(lowest, mean - differing * (mean - lowest)),
        high=min(highest, mean + differing * (highest - mean)),
        method="Wilson bound: all alike",
    )


def _bca_levels(groups: Clusters, means: Numbers, level: float) -> tuple[float, float]:
    """The two quantiles of the resampled means that make the interval."""
    mean = groups.mean
    # Resamples equal to the estimate count half, or few distinct values would look like bias.
    slack = 1e-12 * max(1.0, abs(mean))
    below = (np.sum(means < mean - slack) + 0.5 * np.sum(np.abs(means - mean) <= slack)) / len(means)
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means))))
    left_out = (groups.sums.sum() - groups.sums) / np.maximum(groups.sizes.sum() - groups.sizes, 1e-300)
    apart = left_out.mean() - left_out
    spread = float(np.sum(apart**2))
    acceleration = float(np.sum(apart**3)) / (6 * spread**1.5) if spread > 0 else 0.0
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + _NORMAL.inv_cdf(tail)
        ends.append(_NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    return ends[0], ends[1]
