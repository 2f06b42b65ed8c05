"""A comparison of runs as a page of its own. Owns its order and words; every figure comes from the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.evaluate.page import Markup, document, paragraph, table, text
from foveate.evaluate.run import tables

_WIDTH = 220


def page(result: Mapping[str, Any]) -> str:
    """The whole document."""
    names = [run["name"] for run in result["runs"]]
    header, rows = tables.comparison(result)
    drawn = [
        (*cells[:6], difference_bar(row), *cells[6:]) if row["items"] else (*cells[:6], "", *cells[6:])
        for row, cells in zip(result["comparisons"], rows, strict=True)
    ]
    parts = [
        f"<h1>{text(' against '.join(names))}</h1>",
        *[paragraph(f"Asked differently: {line}") for line in result["differences"]],
        table((*header[:6], "-100 to 100", *header[6:]), drawn),
        paragraph(_HOW_TO_READ),
    ]
    if result["ties"]:
        parts += ["<h2>Who is best</h2>", table(*tables.ties(result), words=True), paragraph(_TIES)]
    if result["left_out"]:
        parts += ["<h2>Left out</h2>", *[paragraph(line) for line in tables.left_out(result)]]
    notes = [(tables.name_of(row), row["note"]) for row in result["comparisons"] if row["items"]]
    parts += ["<h2>What this size can show</h2>", table(("task", "power"), notes, words=True)]
    parts.append(_runs(result))
    return document(f"foveate eval compare: {', '.join(names)}", parts)


_HOW_TO_READ = (
    "Points are the first run's mean minus the second's on the items that both answered, with the 95 % interval of a "
    "bootstrap over pictures. p: exact McNemar where every item is right or wrong and has a picture of its own, else "
    "sign flips over pictures. Holm: p corrected for every comparison in this table; the verdict goes by it."
)
_TIES = (
    "Best first. Members of a group (=) are not told apart from its best, by paired tests with Holm's correction over "
    "all pairs of the task. A group is no order."
)


def difference_bar(row: Mapping[str, Any]) -> Markup:
    """A difference with its interval about a line at none."""

    def place(share: float) -> str:
        return f"{_WIDTH / 2 + max(-1.0, min(1.0, share)) * (_WIDTH / 2 - 4):.1f}"

    low, high = row["interval"]
    colour = "#0072b2" if row["different"] else "#8a8a8a"
    said = f"{100 * row['difference']:+.1f} points, {tables.between(row['interval'])}"
    return Markup(
        f'<svg width="{_WIDTH}" height="16" role="img" aria-label="{text(said)}">'
        f'<path d="M{place(0)} 1v14" stroke="#1b1b1b"/>'
        f'<path d="M{place(low)} 8H{place(high)}" stroke="{colour}" stroke-width="3" stroke-opacity=".5"/>'
        f'<circle cx="{place(row["difference"])}" cy="8" r="3.5" fill="{colour}"/></svg>'
    )


def _runs(result: Mapping[str, Any]) -> str:
    header = ("run", "folder", "style", "answered", "failed", "commits")
    rows = [
        (run["name"], run["folder"], run["style"], run["answered"], run["failed"], ", ".join(run["commits"]))
        for run in result["runs"]
    ]
    return f"<footer>{table(header, rows)}</footer>"
