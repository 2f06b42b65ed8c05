"""The two plots of a run: accuracy against kept tokens, and what each method loses on each kind of question.

Drawn from a summary alone, with matplotlib (the extra "plots"). The same summary gives the same file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.errors import MissingExtraError
from foveate.evaluate.bench.grid import FULL, NO_IMAGE, RANDOM
from foveate.evaluate.bench.tables import method_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASELINES = (RANDOM, "downsample", "strided", "average_pool", "pixel_shuffle")
_MARKERS = "osD^v<>phX*Pd8"
Summary = Mapping[str, Any]


def require_plots() -> None:
    """Says before a long run, not after it, that its plots could not be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots", "the report of a bench")


def front(summary: Summary) -> list[Mapping[str, Any]]:
    """Cells that no other beats with as few tokens or fewer, by tokens."""
    best, found = -1.0, []
    records = [*method_records(summary), *(r for r in summary["cells"] if r["method"] == FULL)]
    for record in sorted(records, key=lambda r: (r["kept"], -r["turns"]["1"]["accuracy"])):
        if record["turns"]["1"]["accuracy"] > best:
            best = record["turns"]["1"]["accuracy"]
            found.append(record)
    return found


def draw_pareto(summary: Summary, path: Path) -> None:
    """Accuracy of the first turn with Wilson intervals against mean kept tokens; the front as a line."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 4.6), layout="constrained")
    axes = figure.subplots()
    methods = list(dict.fromkeys(record["method"] for record in method_records(summary)))
    colours = colormaps["tab10"]
    named = [method for method in methods if method not in BASELINES]
    for place, method in enumerate(methods):
        mine = [record for record in method_records(summary) if record["method"] == method]
        # A few percent apart, or the intervals of one budget would hide each other.
        spread = 1.0 + 0.025 * (place - len(methods) / 2)
        tokens = [record["kept"] * spread for record in mine]
        accuracy, below, above = _with_interval(mine)
        baseline = method in BASELINES
        axes.errorbar(
            tokens,
            accuracy,
            yerr=[below, above],
            fmt=_MARKERS[place % len(_MARKERS)],
            color="#8a8a8a" if baseline else colours(named.index(method) % 10),
            markerfacecolor="white" if baseline else None,
            markersize=5,
            elinewidth=0.7,
            label=f"{method} (baseline)" if baseline else method,
        )
    best = front(summary)
    axes.plot(
        [record["kept"] for record in best],
        [100 * record["turns"]["1"]["accuracy"] for record in best],
        color="black",
        linewidth=1,
        zorder=0,
        label="front",
    )
    _ends(summary, axes)
    axes.set_xscale("log")
    ticks = sorted(
        {round(record["kept"]) for record in method_records(summary) if record["method"] == RANDOM}
    )
    total = summary["cells"][0]["total"]
    axes.set_xticks([*ticks, total], [*map(str, ticks), f"{total:.0f} (all)"])
    axes.minorticks_off()
    axes.set_xlabel("visual tokens kept of each picture (marks moved apart by a few percent)")
    axes.set_ylabel("right answers, %")
    axes.set_title(f"{summary['model']}, {summary['items']} questions, the same in every cell", fontsize=10)
    axes.grid(alpha=0.25)
    axes.spines[["right", "top"]].set_visible(False)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    _save(figure, path)


def _with_interval(records: list[Mapping[str, Any]]) -> tuple[list[float], list[float], list[float]]:
    """Accuracies in percent, and how far their intervals reach below and above."""
    turns = [record["turns"]["1"] for record in records]
    middle = [100 * turn["accuracy"] for turn in turns]
    below = [100 * (turn["accuracy"] - turn["interval"][0]) for turn in turns]
    above = [100 * (turn["interval"][1] - turn["accuracy"]) for turn in turns]
    return middle, below, above


def _ends(summary: Summary, axes: Axes) -> None:
    """Full tokens and no image as lines across, with their intervals as bands."""
    for name, style in ((FULL, "--"), (NO_IMAGE, ":")):
        (record,) = (r for r in summary["cells"] if r["cell"] == name)
        turn = record["turns"]["1"]
        low, high = (100 * end for end in turn["interval"])
        axes.axhspan(low, high, color="#c8c8c8", alpha=0.35, linewidth=0)
        axes.axhline(100 * turn["accuracy"], color="black", linestyle=style, linewidth=1, label=name)


def draw_heat_map(summary: Summary, path: Path) -> None:
    """Points lost or won against full tokens, a panel a budget, a row a method, a column a family."""
    from matplotlib.figure import Figure

    budgets = list(summary["ties"])
    records = method_records(summary)
    methods = list(dict.fromkeys(record["method"] for record in records))
    (full,) = (record for record in summary["cells"] if record["cell"] == FULL)
    families = list(full["turns"]["1"]["families"])
    columns = min(2, len(budgets))
    rows = -(-len(budgets) // columns)
    size = (columns * (1.6 + 0.5 * len(families)), rows * (1.4 + 0.3 * len(methods)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    shown = None
    for panel, budget in zip(panels, budgets, strict=False):
        mine = [record for record in records if record["budget"] == budget]
        points = [[family_points(record, full, family) for family in families] for record in mine]
        shown = panel.imshow(points, cmap="PuOr", vmin=-100, vmax=100, aspect="auto")
        for row, line in enumerate(points):
            for column, value in enumerate(line):
                shade = "white" if abs(value) > 65 else "black"
                panel.text(column, row, f"{value:+.0f}", ha="center", va="center", fontsize=6.5, color=shade)
        panel.set_xticks(range(len(families)), families, rotation=45, ha="right", fontsize=7)
        panel.set_yticks(range(len(mine)), [record["method"] for record in mine], fontsize=7)
        panel.set_title(f"budget {budget}: points from full tokens", fontsize=9)
    for panel in panels[len(budgets) :]:
        panel.set_axis_off()
    if shown is not None:
        figure.colorbar(shown, ax=panels.tolist(), shrink=0.5, label="points")
    _save(figure, path)


def family_points(record: Mapping[str, Any], full: Mapping[str, Any], family: str) -> float:
    """Points between a cell and full tokens on one family's questions."""
    mine, theirs = (one["turns"]["1"]["families"][family]["accuracy"] for one in (record, full))
    return 100 * float(mine - theirs)


def _save(figure: Any, path: Path) -> None:
    """Without a date or a version inside, the same result is the same file."""
    figure.savefig(path, dpi=120, metadata={"Software": None})
