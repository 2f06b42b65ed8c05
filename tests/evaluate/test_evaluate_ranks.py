"""Rankings: against a slow reference, and against what VPBench's published accuracies say."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluate.statistics import kendall_tau, order_changes, proportions_z, ranks

PUBLISHED = json.loads((Path(__file__).parent / "published" / "vpbench.json").read_text(encoding="utf-8"))
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=9)


@given(ROWS)
def test_tau_equals_its_definition_pair_by_pair(rows):
    first, second = zip(*rows, strict=True)
    agree = ties_first = ties_second = 0
    pairs = list(itertools.combinations(range(len(rows)), 2))
    for i, j in pairs:
        product = (first[i] - first[j]) * (second[i] - second[j])
        agree += (product > 0) - (product < 0)
        ties_first += first[i] == first[j]
        ties_second += second[i] == second[j]
    below = math.sqrt((len(pairs) - ties_first) * (len(pairs) - ties_second))
    found = kendall_tau(first, second)
    assert math.isnan(found) if below == 0 else found == pytest.approx(agree / below, abs=1e-12)


def test_tau_refuses_what_has_no_order():
    for rows in (([1], [1]), ([1, 2], [1, 2, 3]), ([1, math.nan], [1, 2])):
        with pytest.raises(ValueError, match=r"order|NaN"):
            kendall_tau(*rows)


def test_ranks_share_the_better_place():
    assert ranks([0.5, 0.9, 0.5, 0.1]).tolist() == [2, 1, 2, 4]


def test_a_pair_changes_order_only_when_each_is_ahead_once():
    assert order_changes({"a": [1, 2], "b": [2, 1], "c": [1, 1]}) == [("a", "b")]  # c ties, and is behind


def test_published_shares_that_are_alike_have_no_z():
    assert proportions_z((5, 5), (7, 7)) == 0
    # 60 of 100 against 40 of 100: pooled variance 0.25 * 2 / 100.
    assert proportions_z((60, 100), (40, 100)) == pytest.approx(0.2 / math.sqrt(0.005))
    with pytest.raises(ValueError, match="trials"):
        proportions_z((0, 0), (1, 2))


# set: tau-b worst and mean, pairs that swap, spread median and largest in points, rank range mean and largest,
# changes from the default marker with |z| > 1.96 of 45, neighbours of the default ranking that far apart of 8
TABLE = {
    "BLINK Relative Depth": (0.66, 0.78, 9, 8.2, 15.3, 2.1, 4, 1, 2),
    "BLINK Semantic Correspondence": (0.63, 0.80, 8, 11.5, 19.2, 1.9, 5, 2, 1),
    "DA-2K Relative Depth": (0.72, 0.85, 6, 3.5, 4.8, 1.1, 2, 1, 2),
    "SPair-71K Semantic Correspondence": (0.65, 0.85, 7, 6.1, 18.0, 1.6, 3, 5, 4),
}


@pytest.mark.parametrize("name", TABLE)
def test_published_marker_accuracies_give_the_instability_table(name):
    """docs/evaluate.md quotes it: the movement that a change of the marker makes, from published counts alone."""
    published = PUBLISHED["marker"][name]
    items, styles = published["items"], published["styles"]
    right = {model: np.array(counts) for model, counts in published["right"].items()}
    by_style = np.array(list(right.values())).T  # [styles, models]
    taus = [kendall_tau(a, b) for a, b in itertools.combinations(by_style, 2)]
    spread = 100 * np.ptp(by_style, axis=0) / items
    moved = np.ptp([ranks(row) for row in by_style], axis=0)
    default = by_style[styles.index("default")]
    assert styles[0] == "default"
    shifts = sum(
        abs(proportions_z((row[m], items), (default[m], items))) > 1.96
        for row in by_style[1:]
        for m in range(len(default))
    )
    best = sorted(default, reverse=True)
    apart = sum(abs(proportions_z((a, items), (b, items))) > 1.96 for a, b in itertools.pairwise(best))
    found = (
        *(round(value, 2) for value in (min(taus), float(np.mean(taus)))),
        len(order_changes(right)),
        *(round(float(value), 1) for value in (np.median(spread), spread.max(), moved.mean())),
        moved.max(),
        shifts,
        apart,
    )
    assert len(right) == 9 and found == TABLE[name]


def test_published_ranks_move_less_on_the_larger_set():
    means = {
        name: np.mean([np.ptp(row) for row in rows.values()])
        for name, rows in PUBLISHED["jpeg_ranks"].items()
    }
    assert {name: round(float(value), 1) for name, value in means.items()} == {"BLINK_RD": 1.9, "MME": 0.4}
