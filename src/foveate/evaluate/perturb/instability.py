"""How much one model's answers move along a perturbation axis, every variant on the same items as the baseline.

An item whose score changes is a flip; flips to and fro cancel in a mean and are counted all the same. The spread of
variants' scores stands beside the standard error of the items, for published means cannot tell the two apart. Pure
functions over plain rows, those of samples.jsonl; several models are compared in `rankings`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.perturb.variant import BASELINE
from foveate.evaluate.statistics import PairedDifference, compare_paired, holm, wilson_interval
from foveate.evaluate.statistics.bootstrap import gather
from foveate.evaluate.statistics.proportions import NORMAL_95

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """Scores of the items [N] that have one in every variant.

    Attributes:
        items: their ids, in order of first appearance.
        clusters: what each belongs to.
        scores: by variant, each [N].
        left_out: items that some variant has no answer to, a failure for example.
    """

    items: tuple[str, ...]
    clusters: tuple[Hashable, ...]
    scores: Mapping[str, Scores]
    left_out: int


def align(rows: Iterable[Mapping[str, Any]]) -> Aligned:
    """Samples of one task (keys "item", "variant", "cluster" and "score" with its "value") brought into one order.

    Raises:
        EvaluationError: no rows, no item that every variant has, or two rows of one item and variant.
    """
    values: dict[str, dict[str, float]] = {}
    clusters: dict[str, Hashable] = {}
    for row in rows:
        of_variant = values.setdefault(row["variant"], {})
        if row["item"] in of_variant:
            raise EvaluationError(
                f"The item {row['item']!r} has two answers in the variant {row['variant']!r}",
                why="rows of several tasks or runs are mixed",
            )
        of_variant[row["item"]] = float(row["score"]["value"])
        clusters.setdefault(row["item"], row["cluster"])
    items = tuple(item for item in clusters if all(item in of_variant for of_variant in values.values()))
    if not items:
        raise EvaluationError(
            "No item has an answer in every variant", why=f"{len(clusters)} items, {len(values)} variants"
        )
    return Aligned(
        items=items,
        clusters=tuple(clusters[item] for item in items),
        scores={name: np.array([found[item] for item in items]) for name, found in values.items()},
        left_out=len(clusters) - len(items),
    )


@dataclass(frozen=True, kw_only=True)
class VariantEffect:
    """One variant beside the baseline.

    Attributes:
        gained, lost: items that score higher, and lower, than at the baseline.
        flip_rate: share of items of either kind.
        difference: variant minus baseline, paired by item, with interval and test.
        adjusted: the test's p-value, corrected by Holm over all variants of the task but controls, whose own is not.
    """

    variant: str
    score: float
    gained: int
    lost: int
    flip_rate: float
    difference: PairedDifference
    adjusted: float


@dataclass(frozen=True, kw_only=True)
class AxisInstability:
    """All variants of one axis.

    Attributes:
        effects: in the run's order, without controls.
        controls: variants that change nothing on purpose; no figure below has them, unless the axis has no others.
        flip_rate: mean over the variants.
        ever_flipped: share of items that flip in at least one.
        spread: standard deviation of the scores, the baseline's among them.
        item_error: standard error of the baseline's score, over clusters: what other items would have changed.
        worst: the variant with the lowest score, which may be the baseline.
        worst_score: its score.
    """

    axis: str
    effects: tuple[VariantEffect, ...]
    flip_rate: float
    ever_flipped: float
    spread: float
    item_error: float
    worst: str
    worst_score: float
    controls: tuple[VariantEffect, ...] = ()

    @property
    def moved(self) -> tuple[str, ...]:
        """Variants whose score differs from the baseline's by more than chance at 5 %, corrected by Holm."""
        return tuple(effect.variant for effect in self.effects if effect.adjusted <= 0.05)


def axis_instability(
    aligned: Aligned,
    axes: Mapping[str, str],
    *,
    controls: Collection[str] = (),
    baseline: str = BASELINE.name,
    seed: int = 0,
) -> tuple[AxisInstability, ...]:
    """Each axis with its variants, in the run's order.

    Args:
        axes: the axis of each variant but the baseline, as run.json's list of variants has it.
        controls: variants that change nothing on purpose. Those of an axis that has no others count as any variant.

    Raises:
        EvaluationError: there is no baseline or nothing but it, or a variant whose axis is not told.
    """
    if baseline not in aligned.scores:
        raise EvaluationError(
            f"There is no variant {baseline!r} to compare with", fix="Run it beside the others."
        )
    varied = [name for name in aligned.scores if name != baseline]
    if not varied:
        raise EvaluationError("There is only the baseline", fix="Run with --variants, markers for example.")
    if unknown := [name for name in varied if name not in axes]:
        raise EvaluationError(f"The axis of the variant {unknown[0]!r} is not told")
    plain = aligned.scores[baseline]
    compared = {
        name: compare_paired(aligned.scores[name], plain, aligned.clusters, seed=seed) for name in varied
    }
    beside = {axes[name] for name in varied if name not in controls}
    apart = [name for name in varied if name in controls and axes[name] in beside]
    tested = [name for name in varied if name not in apart]
    adjusted = dict(zip(tested, holm([compared[name].p_value for name in tested]), strict=True))
    effects = {
        name: _effect(
            name, aligned.scores[name] - plain, compared[name], adjusted.get(name, compared[name].p_value)
        )
        for name in varied
    }
    error = standard_error(plain, aligned.clusters)
    return tuple(
        _axis(
            axis,
            aligned.scores,
            baseline,
            [effects[name] for name in tested if axes[name] == axis],
            [effects[name] for name in apart if axes[name] == axis],
            error,
        )
        for axis in dict.fromkeys(axes[name] for name in varied)
    )


def standard_error(scores: Scores, clusters: Sequence[Hashable]) -> float:
    """Of a mean, items of one cluster not taken as independent; NaN of a single cluster.

    Where every cluster has the same score, all right for example, that tells no error of 0: it is taken from the width
    of Wilson's interval then.
    """
    groups = gather(scores, clusters)
    count = len(groups.sums)
    if count < 2:
        return math.nan
    if np.ptp(groups.sums / groups.sizes) < 1e-12:
        low, high = wilson_interval(0, count)
        return (high - low) / (2 * NORMAL_95)
    apart = groups.sums - groups.mean * groups.sizes
    return float(math.sqrt(count / (count - 1) * np.sum(apart**2)) / groups.sizes.sum())


def _effect(name: str, change: Scores, difference: PairedDifference, adjusted: float) -> VariantEffect:
    gained, lost = int(np.sum(change > 0)), int(np.sum(change < 0))
    return VariantEffect(
        variant=name,
        score=difference.first,
        gained=gained,
        lost=lost,
        flip_rate=(gained + lost) / len(change),
        difference=difference,
        adjusted=adjusted,
    )


def _axis(
    axis: str,
    scores: Mapping[str, Scores],
    baseline: str,
    effects: Sequence[VariantEffect],
    controls: Sequence[VariantEffect],
    item_error: float,
) -> AxisInstability:
    means = {baseline: float(scores[baseline].mean())} | {e.variant: e.score for e in effects}
    worst = min(means, key=lambda name: means[name])
    changed = np.array([scores[e.variant] != scores[baseline] for e in effects])
    return AxisInstability(
        axis=axis,
        effects=tuple(effects),
        controls=tuple(controls),
        flip_rate=float(np.mean([e.flip_rate for e in effects])),
        ever_flipped=float(changed.any(axis=0).mean()),
        spread=float(np.std(list(means.values()), ddof=1)),
        item_error=item_error,
        worst=worst,
        worst_score=means[worst],
    )
