"""Instability of one model along an axis, and of rankings: against counts by hand and against worlds without effect."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.perturb.instability import align, axis_instability, standard_error
from foveate.evaluate.perturb.rankings import exact_sign_flip, ranking_instability
from foveate.evaluate.statistics import compare_paired, mcnemar, sign_flip_test, wilson_interval


def rows(**scores: list[int | None]) -> list[dict[str, Any]]:
    """Samples of items i0, i1, ... by variant; None has no answer."""
    return [
        {"variant": name.replace("_", "-"), "item": f"i{n}", "cluster": f"i{n}", "score": {"value": value}}
        for name, values in scores.items()
        for n, value in enumerate(values)
        if value is not None
    ]


def test_flips_are_counted_both_ways() -> None:
    aligned = align(
        rows(
            baseline=[1, 1, 1, 0, 0, 1, None],
            square=[0, 0, 1, 1, 0, 1, 1],
            diamond=[1, 1, 1, 0, 0, 1, 1],
            jpeg_80=[0, 0, 0, 0, 0, 1, 1],
        )
    )
    assert (aligned.items, aligned.left_out) == (("i0", "i1", "i2", "i3", "i4", "i5"), 1)
    axes = {"square": "markers", "diamond": "markers", "jpeg-80": "codec"}
    markers, codec = axis_instability(aligned, axes)
    square, diamond = markers.effects
    assert (square.gained, square.lost, square.flip_rate) == (1, 2, 0.5)
    assert (diamond.gained, diamond.lost, diamond.adjusted) == (0, 0, 1.0)
    assert (markers.flip_rate, markers.ever_flipped) == (0.25, 0.5)
    assert markers.spread == pytest.approx(np.std([4 / 6, 3 / 6, 4 / 6], ddof=1))
    assert (markers.worst, codec.worst, codec.worst_score) == ("square", "jpeg-80", pytest.approx(1 / 6))
    assert square.difference.p_value == mcnemar(*(aligned.scores[n] for n in ("square", "baseline"))).p_value
    assert square.adjusted >= square.difference.p_value
    assert markers.moved == () == codec.moved
    # The error of a share of independent items, with the small-sample factor.
    assert markers.item_error == pytest.approx(math.sqrt(4 / 6 * 2 / 6 / 5))


def test_a_control_is_measured_and_counts_in_no_average() -> None:
    values = {"baseline": [1] * 20, "png": [1] * 20, "jpeg_70": [1] * 10 + [0] * 10, "jpeg_80": [1] * 20}
    aligned = align(rows(**values))
    axes = dict.fromkeys(("png", "jpeg-70", "jpeg-80"), "codec")
    (without,) = axis_instability(align(rows(**{n: v for n, v in values.items() if n != "png"})), axes)
    (axis,) = axis_instability(aligned, axes, controls=["png"])
    assert (axis.flip_rate, axis.spread, axis.moved) == (without.flip_rate, without.spread, without.moved)
    assert axis.effects == without.effects and axis.flip_rate == 0.25
    assert [(one.variant, one.flip_rate) for one in axis.controls] == [("png", 0.0)]
    (alone,) = axis_instability(align(rows(baseline=[1, 0], png=[1, 1])), axes, controls=["png"])
    assert alone.controls == () and alone.flip_rate == 0.5


def test_the_worst_may_be_the_baseline_and_clusters_widen_the_error() -> None:
    aligned = align(rows(baseline=[0, 0, 1, 1], green=[1, 1, 1, 1]))
    (axis,) = axis_instability(aligned, {"green": "markers"})
    assert (axis.worst, axis.worst_score) == ("baseline", 0.5)
    scores = np.array([0.0, 0.0, 1.0, 1.0] * 8)
    alone = standard_error(scores, range(32))
    paired = standard_error(scores, [n // 2 for n in range(32)])
    assert paired > 1.3 * alone
    assert math.isnan(standard_error(scores, ["one"] * 32))
    low, high = wilson_interval(20, 20)
    assert standard_error(np.ones(20), range(20)) == pytest.approx((high - low) / 2 / 1.96, rel=1e-3)


def test_an_effect_is_found_and_a_copy_is_not() -> None:
    generator = np.random.default_rng(0)
    plain = generator.random(400) < 0.8
    worse = plain & (generator.random(400) > 0.15)
    values = {"baseline": plain, "digits": worse, "green": plain}
    aligned = align(rows(**{name: [int(v) for v in of] for name, of in values.items()}))
    (axis,) = axis_instability(aligned, {"digits": "markers", "green": "markers"})
    assert axis.moved == ("digits",)
    difference = axis.effects[0].difference
    same = compare_paired(worse, plain)
    assert (difference.difference, difference.low, difference.high) == (same.difference, same.low, same.high)


def test_what_cannot_be_aligned_is_told() -> None:
    for bad, said in (
        ([], "No item has an answer"),
        (rows(baseline=[1, None], square=[None, 1]), "No item has an answer"),
        (rows(baseline=[1]) + rows(baseline=[0]), "two answers"),
    ):
        with pytest.raises(EvaluationError, match=said):
            align(bad)
    with pytest.raises(EvaluationError, match="no variant 'baseline'"):
        axis_instability(align(rows(square=[1])), {"square": "markers"})
    with pytest.raises(EvaluationError, match="only the baseline"):
        axis_instability(align(rows(baseline=[1])), {})
    with pytest.raises(EvaluationError, match="axis of the variant 'square'"):
        axis_instability(align(rows(baseline=[1], square=[1])), {})


# -- rankings -------------------------------------------------------------------------------------------


def scored(shares: dict[str, list[float]], items: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Models whose chance to be right is given by variant, on items of unequal difficulty that models share."""
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 0.15, items)
    names = ["baseline", "square", "green", "digits"]
    return {
        model: {
            name: (generator.random(items) < share + difficulty).astype(float)
            for name, share in zip(names, of, strict=False)
        }
        for model, of in shares.items()
    }


def test_signs_are_flipped_exactly() -> None:
    generator = np.random.default_rng(5)
    for count in (1, 3, 8, 12):
        sums = generator.integers(-2, 3, count).tolist()
        assert exact_sign_flip(sums) == pytest.approx(
            sign_flip_test(sums), abs=1e-12
        )  # all patterns looked at
    first, second = (generator.random((2, 300)) < 0.6).astype(int)
    assert exact_sign_flip((first - second).tolist()) == pytest.approx(mcnemar(first, second).p_value)
    assert exact_sign_flip([]) == exact_sign_flip([0, 0]) == 1.0
    assert 0 < exact_sign_flip([2] * 200) < 1e-50


def test_a_real_reversal_is_found_and_its_tests_are_corrected() -> None:
    shares = {"a": [0.9, 0.9, 0.9, 0.4], "b": [0.7, 0.7, 0.7, 0.7], "c": [0.2] * 4}
    found = ranking_instability(scored(shares, 300, 0), resamples=300)
    assert found.swapped_pairs == (("a", "b"),)
    (change,) = found.changes
    assert (change.ahead, change.behind, change.variant) == ("a", "b", "digits")
    assert change.at_baseline > 0.1 > -0.1 > change.in_variant
    assert change.separable() and change.reversed()
    raw = mcnemar(*(scored(shares, 300, 0)[m]["digits"] for m in "ab")).p_value
    assert change.reversal_p >= min(1.0, 2 * raw), "nine comparisons were made, not one"
    assert found.worst_tau == pytest.approx(1 / 3)
    assert "digits" in found.worst_pair
    assert found.by_exchange.observed == 1
    assert found.by_interaction.p_value < 0.01
    assert found.by_interaction.observed > 2 * found.by_interaction.high
    assert found.items == 300


def test_models_that_differ_by_nothing_swap_as_often_as_chance_says() -> None:
    """Over many worlds without any effect of the variant, the exchange test keeps its level."""
    rejected = changes = 0
    for seed in range(20):
        found = ranking_instability(
            scored({m: [0.7] * 4 for m in "abcd"}, 60, seed), resamples=100, seed=seed
        )
        rejected += (found.by_exchange.p_value <= 0.05) + (found.by_interaction.p_value <= 0.05)
        changes += sum(change.separable() for change in found.changes)
    assert rejected <= 6, "5 % of 40, and what chance adds to it in one run of 100"
    assert changes <= 3


def test_a_variant_that_is_harder_for_all_alike_changes_no_order() -> None:
    base = scored({"a": [0.9] * 4, "b": [0.75] * 4, "c": [0.6] * 4}, 500, 3)
    harder = {m: {**v, "digits": v["baseline"] * (np.arange(500) % 2)} for m, v in base.items()}
    found = ranking_instability(harder, resamples=200)
    assert found.mean_tau == 1.0
    assert found.changes == ()
    assert found.by_exchange.observed == 0
    assert found.by_interaction.observed < 0.1


def test_ties_are_no_order_and_clusters_move_together() -> None:
    same = np.array([1.0, 0.0, 1.0, 0.0])
    tied = ranking_instability({m: {"baseline": same, "x": same} for m in "ab"}, resamples=50)
    assert math.isnan(tied.mean_tau)
    assert (tied.changes, tied.by_exchange.mean, tied.by_resampling) == ((), 0.0, 0.0)
    generator = np.random.default_rng(1)
    once = {m: {v: (generator.random(40) < 0.6).astype(float) for v in ("baseline", "x")} for m in "abc"}
    doubled = {m: {v: np.repeat(s, 2) for v, s in of.items()} for m, of in once.items()}
    plain = ranking_instability(once, resamples=200)
    paired = ranking_instability(doubled, [n // 2 for n in range(80)], resamples=200)
    assert (plain.by_exchange, plain.by_resampling) == (paired.by_exchange, paired.by_resampling)


def test_scores_between_right_and_wrong_are_tested_too() -> None:
    generator = np.random.default_rng(2)
    noise = {m: generator.normal(0, 0.05, 80) for m in "ab"}
    scores = {
        "a": {"baseline": 0.6 + noise["a"], "x": 0.4 + noise["a"]},
        "b": {"baseline": 0.5 + noise["b"], "x": 0.5 + noise["b"]},
    }
    (change,) = ranking_instability(scores, resamples=50).changes
    assert change.separable()
    assert change.shift_p == pytest.approx(1 / 100_001), "of 100,000 patterns of signs none is as far apart"


def test_rankings_need_the_same_items_and_variants() -> None:
    one = {"baseline": [1, 0], "x": [1, 1]}
    for scores, said in (
        ({"a": one}, "1 models"),
        ({"a": one, "b": {"baseline": [1, 0]}}, "variants of 'b'"),
        ({"a": {"x": [1], "y": [1]}, "b": {"x": [1], "y": [1]}}, "baseline"),
        ({"a": one, "b": {"baseline": [1], "x": [1]}}, "not asked the same items"),
        ({m: {"baseline": [], "x": []} for m in "ab"}, "not asked the same items"),
    ):
        with pytest.raises(EvaluationError, match=said):
            ranking_instability(scores, resamples=10)
