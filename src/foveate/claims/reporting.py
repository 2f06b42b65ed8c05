"""A result as a page and a plot: what was claimed, what was measured, and how sure that is.

Works from the recorded document alone, so that a page can be made again without a run.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.errors import MissingExtraError

_HIDDEN = ("arm", "seed")


def require_plots() -> None:
    """Says before a long run, not after it, that the plot could not be drawn.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots", "the plot of a claim")


def number(value: float | None) -> str:
    """Three figures; an open end of an interval is a dash."""
    return "-" if value is None else f"{value:.3g}"


def estimate_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """(quantity, measured, 95 % interval, margin, met) of each estimate."""
    return [
        (
            one["quantity"],
            number(one["value"]),
            f"{number(one['interval'][0])} to {number(one['interval'][1])}",
            f"at {'least' if one['at_least'] else 'most'} {one['threshold']:g}",
            "yes" if one["passed"] else "no",
        )
        for one in result["verdict"]["estimates"]
    ]


def arm_rows(result: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(header, rows): means over all rows of each arm, of the columns that hold plain numbers."""
    rows: Sequence[Mapping[str, Any]] = result["rows"]
    names = [
        name
        for name in dict.fromkeys(key for row in rows for key in row)
        if name not in _HIDDEN and all(_is_number(row.get(name)) for row in rows)
    ]
    lines = []
    for arm in result["arms"]:
        mine = [row for row in rows if row["arm"] == arm["name"]]
        means = [math.fsum(row[name] for row in mine) / len(mine) for name in names]
        lines.append((arm["name"], *(f"{mean:.4g}" for mean in means)))
    return ("arm", *(name.replace("_", " ") for name in names)), lines


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])


def markdown(result: Mapping[str, Any]) -> str:
    """The page beside the result file."""
    verdict, machine = result["verdict"], result["machine"]
    paper = result["paper"]
    reference = paper["title"] + (f" (arXiv {paper['arxiv']})" if paper["arxiv"] else "")
    arms = "\n".join(f"- **{arm['name']}**: {arm['description']}" for arm in result["arms"])
    facts = ", ".join(f"{key} {value}" for key, value in {**machine, **result["versions"]}.items())
    return f"""# {result["claim"]}: {verdict["outcome"]}

{result["statement"]}

{result["system"]}: {reference}. Not shown here: {result["limits"]}

{_table(("quantity", "measured", "95 % interval", "margin", "met"), estimate_rows(result))}

Arms:

{arms}

Means over {len(result["seeds"])} seeds:

{_table(*arm_rows(result))}

![measured values with intervals beside their margins]({result["claim"]}.png)

Reason: {verdict["reason"]}.

`{result["command"]}` at commit {result["commit"]}; seeds {", ".join(map(str, result["seeds"]))}. {facts}.
"""


def draw(result: Mapping[str, Any], path: Path) -> None:
    """One panel a quantity: its interval, its threshold (dashed) and its value at every seed is in the JSON."""
    require_plots()
    from matplotlib.figure import Figure

    estimates = result["verdict"]["estimates"]
    figure = Figure(figsize=(7, 0.6 + 1.1 * len(estimates)), layout="constrained")
    panels = figure.subplots(len(estimates), 1, squeeze=False)[:, 0]
    for panel, one in zip(panels, estimates, strict=True):
        low, high = (one["value"] if end is None else end for end in one["interval"])
        colour = "#1b7837" if one["passed"] else "#b35806"
        panel.plot([low, high], [0, 0], color=colour, linewidth=3, solid_capstyle="butt")
        panel.plot([one["value"]], [0], "o", color=colour)
        panel.axvline(one["threshold"], color="black", linestyle="--", linewidth=1)
        side = "≥" if one["at_least"] else "≤"
        panel.set_title(f"{one['quantity']} (margin {side} {one['threshold']:g})", fontsize=9, loc="left")
        panel.set_yticks([])
        panel.margins(x=0.25, y=1)
        panel.spines[["left", "right", "top"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a date inside, the same result is the same file.
    figure.savefig(path, dpi=120, metadata={"Software": None})
