"""A comparison of runs as a page of its own. Owns its order and words; every figure comes from the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.evaluate.page import difference_bar, document, paragraph, table, text
from foveate.evaluate.run import tables


def page(result: Mapping[str, Any]) -> str:
    """The whole document."""
    names = [run["name"] for run in result["runs"]]
    header, rows = tables.comparison(result)
    drawn = [
        (*cells[:6], _bar(row), *cells[6:]) if row["items"] else (*cells[:6], "", *cells[6:])
        for row, cells in zip(result["comparisons"], rows, strict=True)
    ]
    parts = [
        f"<h1>{text(' against '.join(names))}</h1>",
        *[paragraph(f"Asked differently: {line}") for line in result["differences"]],
        *[paragraph(line) for line in tables.unfinished_runs(result)],
        table((*header[:6], "-100 to 100", *header[6:]), drawn),
        paragraph(_HOW_TO_READ),
    ]
    if result["ties"]:
        parts += ["<h2>Who is best</h2>", table(*tables.ties(result), words=True), paragraph(_TIES)]
    if result["rankings"]:
        parts += ["<h2>Rankings between variants</h2>", table(*tables.rankings(result)), paragraph(_RANKINGS)]
        parts += _order_changes(result)
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

_RANKINGS = (
    "Kendall's tau-b between the rankings of two variants. Changes are runs whose order in a variant is the reverse of "
    "the baseline's; beside them how many there are when each question's variants are exchanged among themselves, as "
    "if no variant had an effect of its own (mean and middle 95 %), and how often chance gives as many. Shift p: that "
    "the two did not move against each other. Both orders p: that one of the two orders would not hold on its own. "
    "Both are corrected over all pairs and variants of the task."
)


def _order_changes(result: Mapping[str, Any]) -> list[str]:
    """Each change of order, and whether paired tests hold it up."""
    header = (
        "task",
        "variant",
        "ahead at the baseline",
        "ahead here",
        "points there",
        "points here",
        "shift p",
        "both orders p",
    )
    rows = [
        (
            row["task"],
            change["variant"],
            change["ahead"],
            change["behind"],
            f"{100 * change['at_baseline']:+.1f}",
            f"{100 * change['in_variant']:+.1f}",
            tables.p_value(change["shift_p"]),
            tables.p_value(change["reversal_p"]),
        )
        for row in result["rankings"]
        for change in row["changes"]
    ]
    return [table(header, rows)] if rows else []


def _bar(row: Mapping[str, Any]) -> str:
    return difference_bar(row["difference"], *row["interval"], clear=row["different"])


def _runs(result: Mapping[str, Any]) -> str:
    header = ("run", "folder", "style", "pictures sent", "answered", "failed", "commits")
    rows = [
        (
            run["name"],
            run["folder"],
            run["style"],
            run["pictures_sent"],
            run["answered"],
            run["failed"],
            ", ".join(run["commits"]),
        )
        for run in result["runs"]
    ]
    return f"<footer>{table(header, rows)}</footer>"
