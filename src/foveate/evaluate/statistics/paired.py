"""Two arms on the same items: exact McNemar, sign-flip test, and the difference with its interval.

Pairing removes what the items share, their difficulty, and so sees differences that two separate intervals hide.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from foveate.evaluate.statistics.bootstrap import RESAMPLES, Numbers, bootstrap_mean, gather

_ENUMERATED = 12  # up to 2^12 patterns of signs are all looked at
_AT_ONCE = 4_000_000


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Discordant pairs and what they tell.

    Attributes:
        only_first, only_second: items that one arm got right and the other wrong. Ties (both right, both wrong)
            say nothing about a difference and take no part.
        p_value: exact, two-sided: twice the smaller binomial tail, at most 1 (McNemar 1947). Never above its
            nominal error; it is the one to decide by.
        mid_p: counts the observed table half (Fagerland et al. 2013, doi 10.1186/1471-2288-13-91): less
            conservative, and now and then slightly above its nominal error. For reading, not for deciding.
    """

    only_first: int
    only_second: int
    p_value: float
    mid_p: float


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Exact McNemar test of two rows of right and wrong [N] on the same items.

    Raises:
        ValueError: different lengths, or values other than 0 and 1.
    """
    a, b = _pair(first, second)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test takes right (1) and wrong (0) only")
    only_first, only_second = int(np.sum(a > b)), int(np.sum(b > a))
    p_value, mid_p = _binomial_tails(min(only_first, only_second), only_first + only_second)
    return McNemar(only_first=only_first, only_second=only_second, p_value=p_value, mid_p=mid_p)


def _binomial_tails(smaller: int, trials: int) -> tuple[float, float]:
    """(two-sided exact p, mid-p) of `smaller` successes in `trials` fair throws; whole numbers until the end."""
    if 2 * smaller == trials:  # the two tails meet in the observed table, or there is none
        return 1.0, 1.0
    tail = observed = 1  # the binomial coefficients of 0 successes
    for count in range(smaller):
        observed = observed * (trials - count) // (count + 1)
        tail += observed
    total = 2**trials
    return min(1.0, 2 * tail / total), (2 * tail - observed) / total


def sign_flip_test(
    differences: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Two-sided p-value that the mean difference is 0, exact where arms are exchangeable within clusters.

    The signs of whole clusters are flipped: all patterns where there are few, else a random draw of which the
    observed one is a member, so p is never 0 (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).

    Args:
        differences: first minus second, one an item [N].
    """
    sums = gather(differences, clusters).sums
    sums = sums[np.abs(sums) > 0]  # a flipped zero is a zero
    observed = abs(float(sums.sum()))
    slack = 1e-9 * max(1.0, float(np.abs(sums).sum()))
    if len(sums) <= _ENUMERATED:
        patterns = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        totals = (1 - 2 * patterns) @ sums
        return float(np.mean(np.abs(totals) >= observed - slack))
    generator = np.random.default_rng(seed)
    extreme, step = 1, max(1, _AT_ONCE // len(sums))
    for start in range(0, resamples, step):
        signs = generator.integers(0, 2, size=(min(step, resamples - start), len(sums)), dtype=np.int8)
        extreme += int(np.sum(np.abs((1 - 2 * signs) @ sums) >= observed - slack))
    return extreme / (resamples + 1)


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[str, float]:
    """(name of the test, p-value) that two arms on the same items [N] do not differ.

    "exact McNemar" for independent items scored right or wrong, else "sign flip" over clusters.

    Raises:
        ValueError: different lengths, no items, or scores that are not finite.
    """
    a, b = _pair(first, second)
    independent = len(gather(a - b, clusters).sums) == len(a)
    if independent and np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all():
        return "exact McNemar", mcnemar(a, b).p_value
    return "sign flip", sign_flip_test(a - b, clusters, resamples=resamples, seed=seed)


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """First arm minus second on the same items, in the scores' unit.

    Attributes:
        test: which one gave the p-value, see `paired_test`.
        method: how the interval was made.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    test: str
    method: str
    items: int
    clusters: int

    @property
    def separated(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedDifference:
    """The difference of two arms with its interval and test; scores in [0, 1], one an item [N].

    Args:
        clusters: what each item belongs to, its picture as a rule; give it whenever pictures carry several questions.

    Raises:
        ValueError: different lengths, no items, or scores that are not finite.
    """
    a, b = _pair(first, second)
    interval = bootstrap_mean(a - b, clusters, level=level, resamples=resamples, seed=seed)
    test, p_value = paired_test(a, b, clusters, resamples=resamples, seed=seed)
    return PairedDifference(
        first=float(a.mean()),
        second=float(b.mean()),
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        test=test,
        method=interval.method,
        items=len(a),
        clusters=len(gather(a - b, clusters).sums),
    )


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Numbers, Numbers]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"arms of the shapes {a.shape} and {b.shape} cannot be paired")
    return a, b
