"""Families and quantised weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from foveate.models.registry import FAMILIES
from foveate.models.table import render as parity_table
from sections.markdown import percent, read, spread, table


def families_short() -> str:
    figures = read("results/parity.json")["families"]
    rows = [
        (
            f.name,
            ", ".join(f"`{t}`" for t in f.model_types),
            f.positions,
            f"{figures[f.name]['logit_difference']:.0e}",
        )
        for f in FAMILIES
    ]
    return table(("family", "`model_type`", "positions", "largest logit difference from transformers"), rows)


_QUANTISATION_SPEED = "results/benchmarks/quantisation.json"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def quantisation_accuracy() -> str:
    result = read("results/quantisation.json")
    rows = []
    for name, row in result["rows"].items():
        low, high = row["interval"]
        compared = ["", "", "", ""]
        if "difference" in row:
            first, last = row["difference_interval"]
            compared = [
                f"{_points(row['difference'])} ({_points(first)} to {_points(last)})",
                percent(row["same_replies"]),
                f"{row['logits_largest_difference']:.2f}",
                percent(row["logits_relative_difference"]),
            ]
        size = f"{row['weight_bytes'] / 1e6:.1f} MB"
        rows.append([name, size, percent(row["accuracy"]), f"{100 * low:.1f} to {100 * high:.1f}", *compared])
    header = (
        "weights",
        "memory",
        "accuracy",
        "95 % interval",
        "points from float32 (95 % interval)",
        "same replies",
        "largest logit difference",
        "logits: norm of the difference",
    )
    asked = (
        f"{next(iter(result['rows'].values()))['questions']} questions of difficulty {result['difficulty']}"
    )
    return f"{table(header, rows)}\n\n{result['model']}, {asked}, all families alike. `{result['command']}`."


def quantisation_models() -> str:
    result = read(_QUANTISATION_SPEED)
    rows = [
        [row["model"], spread(row["decode"]), spread(row["prompt"]), row["weights"]]
        for row in result["rows"]["models"]
    ]
    header = ("dtype and weights", "decoding one answer", "reading its prompt", "what became of the weights")
    return f"{table(header, rows)}\n\n`{result['command']}`, one thread of {result['machine']['processor']}."


def quantisation_kernels() -> str:
    """Medians over all shapes, a line for each number of rows."""
    by_rows: dict[int, dict[str, list[float]]] = {}
    for row in read(_QUANTISATION_SPEED)["rows"]["kernels"]:
        for name, arm in row["arms"].items():
            by_rows.setdefault(row["rows"], {}).setdefault(name, []).append(arm["median"])
    names = [name for name in next(iter(by_rows.values())) if name != "float32"]
    rows = [
        [str(n), *(f"{statistics.median(arms[name]):.2f}" for name in names)] for n, arms in by_rows.items()
    ]
    return table(("rows", *names), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "families": lambda: parity_table(read("results/parity.json")),
    "families-short": families_short,
    "quantisation-accuracy": quantisation_accuracy,
    "quantisation-models": quantisation_models,
    "quantisation-kernels": quantisation_kernels,
}
