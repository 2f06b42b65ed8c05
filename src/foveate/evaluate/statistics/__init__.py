"""Statistics of comparisons: intervals, paired tests, corrections, sample sizes. numpy and the standard library.

One home for every room that compares anything. The defaults: proportions by Wilson; two models on the same items
by `compare_paired`; a handful of paired runs (seeds) by `t_interval`; many comparisons by `holm`; rankings as tie
groups. Knows no tasks and no models: it is handed numbers.
"""

from foveate.evaluate.statistics.bootstrap import (
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_unpaired,
)
from foveate.evaluate.statistics.multiple import holm, tie_groups
from foveate.evaluate.statistics.paired import (
    McNemar,
    PairedDifference,
    compare_paired,
    mcnemar,
    paired_test,
    sign_flip_test,
)
from foveate.evaluate.statistics.power import detectable_difference, items_needed, power_note
from foveate.evaluate.statistics.proportions import proportions_z, wilson_interval
from foveate.evaluate.statistics.ranks import kendall_tau, order_changes, ranks
from foveate.evaluate.statistics.runs import t_interval, t_quantile

__all__ = [
    "Interval",
    "McNemar",
    "PairedDifference",
    "bootstrap_mean",
    "bootstrap_ratio",
    "bootstrap_unpaired",
    "compare_paired",
    "detectable_difference",
    "holm",
    "items_needed",
    "kendall_tau",
    "mcnemar",
    "order_changes",
    "paired_test",
    "power_note",
    "proportions_z",
    "ranks",
    "sign_flip_test",
    "t_interval",
    "t_quantile",
    "tie_groups",
    "wilson_interval",
]
