"""Whether a ranking of models depends on the variant they were asked in, and by more than chance.

Each model answers the same items in the same variants. A change of order between two models and a variant is tested by
item; all changes together are held against what exchanging a question's variants among themselves would give, which is
what a variant without any effect of its own does. Pure functions over scores; one model alone is in `instability`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.perturb.variant import BASELINE
from foveate.evaluate.statistics import holm, paired_test
from foveate.evaluate.statistics.bootstrap import gather
from foveate.evaluate.statistics.ranks import kendall_tau, order_changes

Table = NDArray[np.float64]  # [models, variants, items]
Scores = NDArray[np.float64]  # [items]
_MANY = (
    100_000  # patterns of signs: the smallest p-value must survive Holm's correction over hundreds of tests
)


@dataclass(frozen=True, kw_only=True)
class OrderChange:
    """Two models whose order in a variant is the reverse of that at the baseline. A tie is no order.

    Attributes:
        ahead: at the baseline; `behind` is ahead in the variant.
        at_baseline, in_variant: score of `ahead` minus that of `behind`: above 0, and below.
        shift_p: that the difference did not move from baseline to variant; paired by item, corrected by Holm over
            all pairs of models and all variants.
        reversal_p: that it was not a real order in the baseline or not a real reverse in the variant: the larger of
            both tests' p-values, likewise corrected.
    """

    ahead: str
    behind: str
    variant: str
    at_baseline: float
    in_variant: float
    shift_p: float
    reversal_p: float

    def separable(self, level: float = 0.05) -> bool:
        """Whether more than chance moved the two against each other."""
        return self.shift_p <= level

    def reversed(self, level: float = 0.05) -> bool:
        """Whether each order would also hold on its own."""
        return self.reversal_p <= level


@dataclass(frozen=True, kw_only=True)
class ByChance:
    """A count, and what chance alone gives: mean and the middle 95 %.

    Attributes:
        p_value: one-sided, that chance gives as many or more; the observed count is one of the draws.
    """

    observed: float
    mean: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class RankingInstability:
    """Rankings of the same models in several variants.

    Attributes:
        scores: by model and variant.
        mean_tau, worst_tau: Kendall's tau-b between the rankings of two variants, over all pairs of variants.
        worst_pair: of variants.
        swapped_pairs: models of which each is ahead of the other in some variant.
        changes: against the baseline, strongest first.
        by_exchange: how many changes against the baseline there are, and how many if, question by question, variants
            had been exchanged among themselves. A count of few is a coarse measure; the next one is not.
        by_interaction: standard deviation of what a variant does to a model beyond what it does to all of them and
            beyond the model's own level; likewise exchanged.
        by_resampling: how many pairs of models change order between two draws of the items at the baseline (mean).
        items: that every model answered in every variant.
    """

    scores: Mapping[str, Mapping[str, float]]
    mean_tau: float
    worst_tau: float
    worst_pair: tuple[str, str]
    swapped_pairs: tuple[tuple[str, str], ...]
    changes: tuple[OrderChange, ...]
    by_exchange: ByChance
    by_interaction: ByChance
    by_resampling: float
    items: int


def ranking_instability(
    scores: Mapping[str, Mapping[str, ArrayLike]],
    clusters: Sequence[Hashable] | None = None,
    *,
    baseline: str = BASELINE.name,
    resamples: int = 2_000,
    seed: int = 0,
) -> RankingInstability:
    """Several models' scores, by model and variant, each [N] on the same items in the same order.

    Raises:
        EvaluationError: fewer than two models or two variants, other variants or items of one model than of another,
            or no baseline.
    """
    models, variants, table = _table(scores, baseline)
    means = table.mean(axis=2)
    taus = {
        (variants[u], variants[v]): kendall_tau(means[:, u], means[:, v])
        for u, v in combinations(range(len(variants)), 2)
    }
    known = {pair: tau for pair, tau in taus.items() if not math.isnan(tau)}
    worst = min(known, key=lambda pair: known[pair]) if known else (variants[0], variants[1])
    groups = _groups(table.shape[2], clusters)
    by_exchange, by_interaction = _exchanged(table, groups, resamples, seed)
    return RankingInstability(
        scores={
            model: dict(zip(variants, row, strict=True))
            for model, row in zip(models, means.tolist(), strict=True)
        },
        mean_tau=float(np.mean(list(known.values()))) if known else math.nan,
        worst_tau=known.get(worst, math.nan),
        worst_pair=worst,
        swapped_pairs=tuple(order_changes(dict(zip(models, means.tolist(), strict=True)))),
        changes=_changes(models, variants, table, clusters, seed),
        by_exchange=by_exchange,
        by_interaction=by_interaction,
        by_resampling=_by_resampling(table[:, 0], groups, resamples, seed),
        items=table.shape[2],
    )


def _table(
    scores: Mapping[str, Mapping[str, ArrayLike]], baseline: str
) -> tuple[list[str], list[str], Table]:
    """Models, variants with the baseline first, and all scores."""
    models = list(scores)
    if len(models) < 2:
        raise EvaluationError(f"{len(models)} models make no ranking", fix="Compare two runs or more.")
    first = scores[models[0]]
    variants = [baseline, *(name for name in first if name != baseline)]
    for model, by_variant in scores.items():
        if set(by_variant) != set(variants) or len(variants) < 2:
            raise EvaluationError(
                f"The variants of {model!r} are {', '.join(by_variant)}",
                why=f"{', '.join(variants)} are needed of every model",
            )
    rows = [[np.asarray(scores[model][name], dtype=np.float64) for name in variants] for model in models]
    shapes = {row.shape for of_model in rows for row in of_model}
    if len(shapes) != 1 or not next(iter(shapes)) or next(iter(shapes))[0] == 0:
        raise EvaluationError("Models were not asked the same items", why=f"rows of the shapes {shapes}")
    return models, variants, np.array(rows)


def _changes(
    models: list[str], variants: list[str], table: Table, clusters: Sequence[Hashable] | None, seed: int
) -> tuple[OrderChange, ...]:
    """Every change of order against the baseline. Pairs that keep their order count in the correction with p = 1."""
    found: list[tuple[OrderChange, int]] = []
    shifts: list[float] = []
    reversals: list[float] = []
    for (a, b), v in _comparisons(len(models), len(variants)):
        before, after = table[a, 0] - table[b, 0], table[a, v] - table[b, v]
        if np.sign(before.sum()) * np.sign(after.sum()) >= 0:
            shifts.append(1.0)
            reversals.append(1.0)
            continue
        ahead, behind = (a, b) if before.sum() > 0 else (b, a)
        sign = 1 if ahead == a else -1
        shifts.append(_test(before, after, clusters, seed))
        orders = [_test(table[a, at], table[b, at], clusters, seed) for at in (0, v)]
        reversals.append(max(orders))
        change = OrderChange(
            ahead=models[ahead],
            behind=models[behind],
            variant=variants[v],
            at_baseline=sign * float(before.mean()),
            in_variant=sign * float(after.mean()),
            shift_p=1.0,
            reversal_p=1.0,
        )
        found.append((change, len(shifts) - 1))
    shift_p, reversal_p = holm(shifts), holm(reversals)
    changes = [
        OrderChange(**{**vars(change), "shift_p": shift_p[at], "reversal_p": reversal_p[at]})
        for change, at in found
    ]
    return tuple(sorted(changes, key=lambda c: (c.shift_p, c.in_variant - c.at_baseline)))


def _test(first: Scores, second: Scores, clusters: Sequence[Hashable] | None, seed: int) -> float:
    """p-value of a paired test: that of `paired_test`, but exact wherever scores are right or wrong.

    Drawn patterns of signs are too few for what Holm's correction over hundreds of tests leaves of a level.
    """
    sums = gather(first - second, clusters).sums
    if np.array_equal(sums, np.round(sums)):
        return exact_sign_flip(sums.astype(np.int64).tolist())
    return paired_test(first, second, clusters, resamples=_MANY, seed=seed)[1]


def exact_sign_flip(sums: Sequence[int]) -> float:
    """Two-sided p-value of a sum of whole numbers whose signs are fair coins, all patterns counted by convolution.

    Of numbers that are 1 and -1 only it is McNemar's exact test.
    """
    reach = sum(abs(value) for value in sums)
    chances = np.ones(1)  # of the sums -reach, -reach + 2, ..., reach
    for value in sums:
        step = abs(value)
        chances = 0.5 * (np.pad(chances, (0, step)) + np.pad(chances, (step, 0)))
    totals = np.arange(-reach, reach + 1, 2)
    return min(1.0, float(chances[np.abs(totals) >= abs(sum(sums))].sum()))


def _comparisons(models: int, variants: int) -> Iterator[tuple[tuple[int, int], int]]:
    for pair in combinations(range(models), 2):
        for variant in range(1, variants):
            yield pair, variant


def _groups(items: int, clusters: Sequence[Hashable] | None) -> NDArray[np.int64]:
    """The number of each item's cluster [N]."""
    if clusters is None:
        return np.arange(items)
    places: dict[Hashable, int] = {}
    return np.array([places.setdefault(cluster, len(places)) for cluster in clusters])


def _membership(groups: NDArray[np.int64]) -> Table:
    """[items, clusters] of 0 and 1."""
    return (groups[:, None] == np.arange(int(groups.max()) + 1)).astype(np.float64)


def _count_changes(means: Table) -> int:
    """Pairs of models and variants, [models, variants] with the baseline first, whose order is the reverse."""
    upper = np.triu_indices(means.shape[0], 1)
    signs = np.sign(means[:, None, :] - means[None, :, :])[upper]
    # A difference of nothing but rounding is a tie.
    close = np.abs(means[:, None, :] - means[None, :, :])[upper] < 1e-12
    signs[close] = 0
    return int(np.sum(signs[:, :1] * signs[:, 1:] < 0))


def _interaction(means: Table) -> float:
    """Root mean square of [models, variants] with the means of both taken out."""
    rest = means - means.mean(axis=0, keepdims=True) - means.mean(axis=1, keepdims=True) + means.mean()
    return float(np.sqrt(np.mean(rest**2)))


def _exchanged(
    table: Table, groups: NDArray[np.int64], resamples: int, seed: int
) -> tuple[ByChance, ByChance]:
    """Changes of order and interaction against those of variants exchanged within each cluster.

    All models' answers move together from variant to variant, so what models share stays shared.
    """
    generator = np.random.default_rng(seed)
    # Sums by cluster are all that a mean needs: [models, variants, clusters].
    sums = table @ _membership(groups)
    drawn = np.empty((resamples, 2))
    columns = np.arange(sums.shape[2])
    for number in range(resamples):
        order = np.argsort(generator.random(sums.shape[1:]), axis=0)
        means = sums[:, order, columns].sum(axis=2) / table.shape[2]
        drawn[number] = _count_changes(means), _interaction(means)
    means = table.mean(axis=2)
    return _against(_count_changes(means), drawn[:, 0]), _against(_interaction(means), drawn[:, 1])


def _against(observed: float, drawn: NDArray[np.float64]) -> ByChance:
    low, high = np.quantile(drawn, (0.025, 0.975))
    # Equal but for rounding counts as equal, and so for chance.
    as_many = 1 + int(np.sum(drawn >= observed - 1e-12))
    return ByChance(
        observed=float(observed),
        mean=float(drawn.mean()),
        low=float(low),
        high=float(high),
        p_value=as_many / (len(drawn) + 1),
    )


def _by_resampling(scores: Table, groups: NDArray[np.int64], resamples: int, seed: int) -> float:
    """Mean count of pairs [models, items] in reverse order between two independent draws of as many clusters."""
    generator = np.random.default_rng(seed + 1)
    clusters = int(groups.max()) + 1
    sums = scores @ _membership(groups)
    sizes = np.bincount(groups, minlength=clusters).astype(np.float64)
    total = 0
    for _ in range(resamples):
        drawn = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=2).astype(np.float64)
        total += _count_changes((sums @ drawn.T) / (drawn @ sizes))
    return total / resamples
