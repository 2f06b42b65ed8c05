"""The rows of a summary as people read them, for the terminal and the report alike. Knows no HTML and no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveate.evaluate.bench.grid import FULL, NO_IMAGE, RANDOM

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
DASH = "-"


def percent(share: float | None) -> str:
    """A share as 81.2 %."""
    return DASH if share is None else f"{100 * share:.1f} %"


def between(interval: Sequence[float]) -> str:
    """An interval of shares in points."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def milliseconds(value: float | None) -> str:
    """A time."""
    return DASH if value is None else f"{value:.1f}"


def compared(summary: Mapping[str, Any], cell: str, against: str, turn: int = 1) -> Mapping[str, Any] | None:
    """A cell's paired difference to an opponent; None where it is the opponent or nothing was compared."""
    for row in summary["comparisons"]:
        if (row["turn"], row["cell"], row["against"]) == (turn, cell, against):
            return row
    return None


def points(row: Mapping[str, Any] | None) -> str:
    """A paired difference in points with its interval; a star where Holm's correction leaves it below 5 %."""
    if row is None:
        return DASH
    star = " *" if row["holm"] <= 0.05 else ""
    return f"{100 * row['difference']:+.1f} ({between(row['interval'])}){star}"


def overview(summary: Mapping[str, Any]) -> Table:
    """What a run is about: a row a cell, the first turn."""
    smaller = summary["downsampling"]
    header = (
        "cell",
        "kept",
        "accuracy",
        "95 %",
        "unparsed",
        "retained",
        "to full",
        f"to {RANDOM}",
        f"to {smaller}",
        "first token, ms",
    )
    rows: list[tuple[str, ...]] = []
    for record in summary["cells"]:
        turn, name = record["turns"]["1"], record["cell"]
        rows.append(
            (
                name,
                f"{record['kept']:.0f}",
                percent(turn["accuracy"]),
                between(turn["interval"]),
                str(turn["unparsed"]),
                percent(turn["retained"]),
                *(points(compared(summary, name, other)) for other in (FULL, RANDOM, smaller)),
                milliseconds(record["milliseconds"]["first_token"]),
            )
        )
    return header, rows


def later_turns(summary: Mapping[str, Any]) -> Table:
    """The second turn, beside the first on the same items' first questions."""
    header = ("cell", "second answers", "accuracy", "95 %", "unparsed", "to full", "first token, ms")
    rows: list[tuple[str, ...]] = []
    for record in summary["cells"]:
        turn = record["turns"].get("2")
        if turn is not None:
            rows.append(
                (
                    record["cell"],
                    str(turn["items"]),
                    percent(turn["accuracy"]),
                    between(turn["interval"]),
                    str(turn["unparsed"]),
                    points(compared(summary, record["cell"], FULL, 2)),
                    milliseconds(record["milliseconds"]["second_turn_first_token"]),
                )
            )
    return header, rows


def costs(summary: Mapping[str, Any]) -> Table:
    """Times of each stage (medians) and peaks of memory."""
    header = (
        "cell",
        "prepare",
        "encode",
        "of it beyond full",
        "prefill",
        "decode",
        "first token",
        "peak cache, KiB",
        "resident, MiB",
    )
    rows: list[tuple[str, ...]] = []
    for record in summary["cells"]:
        times, resident = record["milliseconds"], record["peak_resident_bytes"]
        stages = ("prepare", "encode", "encode_beyond_full", "prefill", "decode", "first_token")
        rows.append(
            (
                record["cell"],
                *(milliseconds(times[stage]) for stage in stages),
                f"{record['peak_cache_bytes'] / 1024:,.0f}",
                DASH if resident is None else f"{resident / 2**20:,.0f}",
            )
        )
    return header, rows


def hard_questions(summary: Mapping[str, Any]) -> Table:
    """Accuracy on the questions that a smaller picture of the same budget gets wrong."""
    rows: list[tuple[str, ...]] = []
    for record in summary["cells"]:
        found = record["turns"]["1"]["where_downsampling_fails"]
        if found is not None and found["items"] and record["method"] != summary["downsampling"]:
            rows.append(
                (record["cell"], str(found["items"]), percent(found["accuracy"]), between(found["interval"]))
            )
    return ("cell", "questions", "accuracy", "95 %"), rows


def speed(summary: Mapping[str, Any]) -> Table:
    """Concurrent requests."""
    header = (
        "cell",
        "at once",
        "requests/s",
        "first token, ms: median",
        "95th percentile",
        "peak cache, KiB",
    )
    rows: list[tuple[str, ...]] = [
        (
            row["cell"],
            str(row["concurrency"]),
            f"{row['requests_per_second']:.1f}",
            milliseconds(row["milliseconds"]["first_token_median"]),
            milliseconds(row["milliseconds"]["first_token_95"]),
            f"{row['peak_cache_bytes'] / 1024:,.0f}",
        )
        for row in summary["speed"]
    ]
    return header, rows


def ties(summary: Mapping[str, Any]) -> Table:
    """Methods that a budget's answers cannot tell from the best of their group."""
    return ("budget", "groups, best first"), [
        (budget, "  >  ".join(", ".join(group) for group in groups))
        for budget, groups in summary["ties"].items()
    ]


def plan_rows(found: Mapping[str, Any]) -> Table:
    """The candidates of a plan, cheapest first."""
    header = ("model", "cell", "visual tokens", "billion operations", "accuracy", "to full")
    rows: list[tuple[str, ...]] = [
        (
            one["model"],
            one["cell"],
            f"{one['kept']:.0f}",
            f"{one['compute']:.3g}",
            percent(one["accuracy"]),
            DASH
            if one["cell"] == FULL
            else f"{100 * one['difference']:+.1f} ({between((one['low'], one['high']))})",
        )
        for one in found["choices"]
    ]
    return header, rows


def method_records(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Cells that are no end."""
    return [record for record in summary["cells"] if record["method"] not in (FULL, NO_IMAGE)]
