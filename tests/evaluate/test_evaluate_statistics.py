"""Statistics against slow references, published values and simulation: false positives, coverage."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluate.statistics import (
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_unpaired,
    compare_paired,
    detectable_difference,
    holm,
    items_needed,
    mcnemar,
    power_note,
    sign_flip_test,
    t_interval,
    t_quantile,
    tie_groups,
    wilson_interval,
)
from foveate.evaluate.statistics.bootstrap import gather, resampled_means

RIGHT_OR_WRONG = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=24)


def outcomes(both: int, only_first: int, only_second: int, neither: int) -> tuple[list[int], list[int]]:
    first = [1] * both + [1] * only_first + [0] * only_second + [0] * neither
    second = [1] * both + [0] * only_first + [1] * only_second + [0] * neither
    return first, second


# -- McNemar ----------------------------------------------------------------------------------------------


def test_mcnemar_matches_a_published_table():
    # Fagerland, Lydersen, Laake (2013): airway hyper-responsiveness in 21 children, 7 against 1 discordant.
    found = mcnemar(*outcomes(1, 1, 7, 12))
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)
    assert found.mid_p == pytest.approx(0.0391, abs=5e-5)


@given(RIGHT_OR_WRONG)
def test_mcnemar_equals_the_sum_over_all_tables(pairs):
    """The definition: the chance, under fair coins, of a split at least as uneven as the observed one."""
    first, second = zip(*pairs, strict=True)
    wins, losses = sum(a > b for a, b in pairs), sum(b > a for a, b in pairs)
    trials = wins + losses
    chances = [Fraction(math.comb(trials, k), 2**trials) for k in range(trials + 1)]
    uneven = [abs(2 * k - trials) for k in range(trials + 1)]
    observed = abs(wins - losses)
    exact = sum((c for c, u in zip(chances, uneven, strict=True) if u >= observed), Fraction(0))
    tied = sum((c for c, u in zip(chances, uneven, strict=True) if u == observed), Fraction(0))
    found = mcnemar(first, second)
    assert found.p_value == pytest.approx(float(exact), rel=1e-12)
    if wins != losses:
        assert found.mid_p == pytest.approx(float(exact - tied / 2), rel=1e-12)
    else:
        assert found.mid_p == 1.0
    swapped = mcnemar(second, first)
    assert (swapped.p_value, swapped.only_first) == (found.p_value, found.only_second)


def test_items_on_which_both_agree_change_no_p_value():
    assert mcnemar(*outcomes(0, 9, 2, 0)).p_value == mcnemar(*outcomes(500, 9, 2, 77)).p_value


def test_thousands_of_discordant_pairs_do_not_overflow():
    assert 0 < mcnemar(*outcomes(0, 3100, 2900, 0)).p_value < 0.011


def test_a_graded_score_is_no_mcnemar():
    with pytest.raises(ValueError, match="right"):
        mcnemar([0.5, 1], [0, 1])
    with pytest.raises(ValueError, match="cannot be paired"):
        mcnemar([1, 0], [1])


# -- sign flips -------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_sign_flips_equal_plain_enumeration(values):
    observed = abs(sum(values))
    flipped = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    expected = sum(total >= observed for total in flipped) / len(flipped)
    assert sign_flip_test(values) == pytest.approx(expected, abs=1e-12)


def test_drawn_sign_flips_come_near_the_exact_test():
    first, second = outcomes(30, 19, 6, 30)
    exact = mcnemar(first, second).p_value
    drawn = sign_flip_test(np.subtract(first, second), resamples=40_000)
    assert drawn == pytest.approx(exact, abs=0.004)


def test_a_cluster_flips_as_one():
    """Twenty copies of one disagreement are one piece of evidence, not twenty."""
    assert sign_flip_test([1.0] * 20, ["picture"] * 20) == 1.0
    assert sign_flip_test([1.0] * 20) < 1e-3


# -- bootstrap --------------------------------------------------------------------------------------------


def slow_bca(values, clusters, *, level, resamples, seed):
    """Efron (1987), item by item: clusters are drawn, their items copied, means taken one after another."""
    names = list(dict.fromkeys(clusters))
    members = {n: [v for v, c in zip(values, clusters, strict=True) if c == n] for n in names}
    generator = np.random.default_rng(seed)

    def mean(drawn):
        items = [value for name in drawn for value in members[name]]
        return sum(items) / len(items)

    estimate = mean(names)
    means = sorted(
        mean([names[i] for i in generator.integers(0, len(names), len(names))]) for _ in range(resamples)
    )
    below = sum((m < estimate - 1e-12) + 0.5 * (abs(m - estimate) <= 1e-12) for m in means) / resamples
    normal = NormalDist()
    bias = normal.inv_cdf(below)
    jackknife = [mean([n for n in names if n != left]) for left in names]
    centre = sum(jackknife) / len(jackknife)
    apart = [centre - j for j in jackknife]
    acceleration = sum(a**3 for a in apart) / (6 * sum(a**2 for a in apart) ** 1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(tail)
        ends.append(float(np.quantile(means, normal.cdf(bias + z / (1 - acceleration * z)))))
    return estimate, *ends


def test_the_bootstrap_comes_near_its_slow_reference():
    generator = np.random.default_rng(5)
    clusters = [int(c) for c in np.repeat(np.arange(25), generator.integers(1, 5, 25))]
    values = list(generator.lognormal(-2, 0.9, len(clusters)))  # skewed, so that both corrections matter
    estimate, low, high = slow_bca(values, clusters, level=0.9, resamples=20_000, seed=1)
    found = bootstrap_mean(values, clusters, level=0.9, resamples=40_000, seed=2)
    assert found.value == pytest.approx(estimate, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03 * (high - low))
    assert found.high - found.value > 1.1 * (found.value - found.low)  # leans to the side of the long tail


def test_resampled_means_have_the_variance_theory_gives():
    values = np.random.default_rng(0).normal(size=400)
    means = resampled_means(gather(values), resamples=20_000, seed=0)
    assert means.mean() == pytest.approx(values.mean(), abs=0.002)
    assert means.std() == pytest.approx(values.std() / math.sqrt(400), rel=0.03)


def test_a_seed_repeats_and_pieces_do_not_matter(monkeypatch):
    values = np.random.default_rng(0).normal(size=50)
    once = bootstrap_mean(values, seed=3)
    assert once == bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)
    monkeypatch.setattr("foveate.evaluate.statistics.bootstrap._AT_ONCE", 50 * 7)
    pieces = bootstrap_mean(values, seed=3)
    assert (pieces.low, pieces.high) == pytest.approx((once.low, once.high), rel=1e-12)


def test_clusters_widen_the_interval():
    """The same answers, once as 200 items and once as 40 pictures with five alike questions each."""
    right = np.repeat(np.random.default_rng(0).integers(0, 2, 40), 5).astype(float)
    alone, together = bootstrap_mean(right), bootstrap_mean(right, [i // 5 for i in range(200)])
    assert (together.high - together.low) > 1.9 * (alone.high - alone.low)  # theory: sqrt(5) = 2.2


def test_a_ratio_is_resampled_in_pairs():
    generator = np.random.default_rng(5)
    second = generator.random(300) < 0.8
    first = second & (generator.random(300) < 0.9)  # right only where the other is: a ratio of about 0.9
    found = bootstrap_ratio(first, second, level=0.9, resamples=20_000)
    # The delta method for a ratio r of means on the same items: the spread of a - r b over mean(b) sqrt(n).
    r = first.mean() / second.mean()
    half = 1.645 * np.std(first - r * second) / second.mean() / math.sqrt(300)
    assert found.value == pytest.approx(r)
    assert (found.low, found.high) == pytest.approx((r - half, r + half), abs=0.15 * half)
    assert found == bootstrap_ratio(first, second, level=0.9, resamples=20_000)
    twice = bootstrap_ratio(
        np.repeat(first, 2), np.repeat(second, 2), [i // 2 for i in range(600)], level=0.9
    )
    assert twice.high - twice.low == pytest.approx(2 * half, rel=0.1)  # two copies know no more than one


def test_a_ratio_to_nothing_is_refused():
    with pytest.raises(ValueError, match="no ratio"):
        bootstrap_ratio([1, 0, 1], [0, 0, 0])
    with pytest.raises(ValueError, match="no ratio"):
        bootstrap_ratio([1, 0, 1], [1, 0, 0])  # a resample without the one right answer
    with pytest.raises(ValueError, match="paired"):
        bootstrap_ratio([1, 0, 1], [1, 0])


def test_two_samples_have_the_spread_theory_gives():
    generator = np.random.default_rng(6)
    first, second = generator.normal(1.0, 1.0, 400), generator.normal(0.0, 2.0, 100)
    found = bootstrap_unpaired(first, second, level=0.95, resamples=20_000)
    half = 1.96 * math.sqrt(np.var(first) / 400 + np.var(second) / 100)
    value = first.mean() - second.mean()
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == pytest.approx((value - half, value + half), abs=0.1 * half)
    with pytest.raises(ValueError, match="share clusters"):
        bootstrap_unpaired([1, 0], [1, 1], ["a", "b"], ["b", "c"])


@pytest.mark.parametrize("value", [1.0, 0.0, -1.0, 0.25])
def test_alike_values_give_no_point(value):
    found = bootstrap_mean([value] * 30)
    assert found.low <= value <= found.high and found.high - found.low > 0.05
    assert found.low >= -1 and found.high <= 1 and "Wilson" in found.method


@pytest.mark.parametrize("value", [1.0, 0.9, 0.5, 0.0])
def test_alike_scores_keep_to_scores(value):
    """No score lies below 0, so none may pull the mean that far, not even from a single cluster."""
    for count in (1, 6, 30):
        found = bootstrap_mean([value] * count, bounds=(0, 1))
        _, differing = wilson_interval(0, count)
        assert found.low == pytest.approx(value * (1 - differing), abs=1e-6)
        assert found.high == pytest.approx(value + (1 - value) * differing, abs=1e-6)
    with pytest.raises(ValueError, match="beyond 0 to 1"):
        bootstrap_mean([-0.5] * 6, bounds=(0, 1))


def test_values_that_cannot_be_are_refused():
    for values, clusters in (
        ([], None),
        ([1.0, float("nan")], None),
        ([1.0, 2.0], ["a"]),
        ([7.0, 7.0], None),
    ):
        with pytest.raises(ValueError):
            bootstrap_mean(values, clusters)
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([0, 1], level=95)


# -- both together: false positives and coverage ------------------------------------------------------------


def draw_arms(generator, pictures, questions, *, gain):
    """Right or wrong of two arms that share pictures of different difficulty; the first is better by `gain`."""
    ease = generator.beta(3, 2, pictures).repeat(questions)
    count = pictures * questions
    second = generator.random(count) < np.clip(ease, 0, 1 - gain)
    first = generator.random(count) < np.clip(ease, 0, 1 - gain) + gain
    return first, second, [i // questions for i in range(count)]


@pytest.mark.parametrize("questions", [1, 4])
def test_alike_arms_are_told_apart_in_at_most_one_run_of_twenty(questions):
    """A/A: both arms are the same model. McNemar at one question a picture, sign flips at four."""
    generator, runs = np.random.default_rng(11), 400
    values = [
        compare_paired(*draw_arms(generator, 60, questions, gain=0.0), resamples=400, seed=run).p_value
        for run in range(runs)
    ]
    rejected = sum(value <= 0.05 for value in values)
    assert rejected <= 0.05 * runs + 2.6 * math.sqrt(0.05 * 0.95 * runs)  # 99.5 % of binomial draws
    assert min(values) < 0.2  # and it is not simply blind


@pytest.mark.parametrize("questions", [1, 4])
def test_intervals_cover_the_true_difference(questions):
    generator, runs, gain = np.random.default_rng(12), 400, 0.1
    covered = 0
    for run in range(runs):
        found = compare_paired(*draw_arms(generator, 60, questions, gain=gain), resamples=600, seed=run)
        covered += found.low <= gain <= found.high
    assert 0.91 <= covered / runs <= 0.985


def test_a_real_difference_is_found_as_often_as_the_power_note_says():
    """Two arms of 75 % and 65 %, correlation about 0: the planned sample finds the difference in 80 % of runs."""
    needed = items_needed(0.1, accuracy=0.7, correlation=0.0)
    generator = np.random.default_rng(13)
    found = [
        mcnemar(generator.random(needed) < 0.75, generator.random(needed) < 0.65).p_value <= 0.05
        for _ in range(500)
    ]
    assert 0.73 <= np.mean(found) <= 0.87  # the exact test is a little conservative


def test_compare_paired_says_what_it_did():
    plain = compare_paired([1, 1, 1, 1, 0], [0, 0, 1, 1, 0])
    assert (plain.test, plain.items, plain.clusters) == ("exact McNemar", 5, 5)
    assert (plain.first, plain.second) == (0.8, 0.4) and plain.difference == pytest.approx(0.4)
    grouped = compare_paired([1, 1, 1, 1, 0], [0, 0, 1, 1, 0], list("aabbc"))
    assert (grouped.test, grouped.clusters) == ("sign flip", 3)
    assert compare_paired([0.5, 0.25, 1], [0, 0, 0.5]).test == "sign flip"


# -- Holm, rankings, power, t -------------------------------------------------------------------------------


def test_holm_matches_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match="no p-value"):
        holm([1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, level):
    order = sorted(range(len(values)), key=lambda i: values[i])
    rejected = set()
    for rank, index in enumerate(order):
        if (len(values) - rank) * values[index] > level:
            break
        rejected.add(index)
    assert {i for i, value in enumerate(holm(values)) if value <= level} == rejected


def test_a_ranking_shows_ties_as_ties():
    generator = np.random.default_rng(0)
    ease = generator.random(400)
    scores = {
        "strong": ease < 0.9,
        "strong too": generator.permuted(ease) < 0.9,  # as many right, others
        "weak": ease < 0.6,
        "blind": generator.random(400) < 0.3,
    }
    groups = tie_groups(scores)
    assert [sorted(group) for group in groups] == [["strong", "strong too"], ["weak"], ["blind"]]
    few = tie_groups({name: row[:6] for name, row in scores.items()})
    assert [len(group) for group in few] == [4]  # six items separate nothing


def test_items_needed_are_those_of_the_formula_by_hand():
    # By hand, (1.960 + 0.842)^2 * 0.1875 / d^2: accuracy 75 %, power 80 %, correlation 0.5.
    assert [items_needed(d) for d in (0.02, 0.03, 0.05)] == [3680, 1636, 589]
    assert detectable_difference(589) == pytest.approx(0.05, abs=1e-4)
    assert "3,680" in power_note(100)
    with pytest.raises(ValueError, match="accuracy"):
        items_needed(0.02, accuracy=1.0)


def test_t_quantiles_are_those_of_the_tables():
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}
    for freedom, value in table.items():
        assert t_quantile(0.95, freedom) == pytest.approx(value, abs=6e-4)
    assert t_quantile(0.99, 4) == pytest.approx(4.604, abs=6e-4)


def test_t_intervals_of_three_runs_cover():
    generator = np.random.default_rng(1)
    found = [t_interval(generator.normal(3, 1, 3)) for _ in range(2000)]
    assert np.mean([i.low <= 3 <= i.high for i in found]) == pytest.approx(0.95, abs=0.02)
    alone = t_interval([2.0])
    assert (alone.value, alone.low, alone.high) == (2.0, -math.inf, math.inf)
