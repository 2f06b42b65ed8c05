"""Summaries and comparisons as rows that people read, for terminal and report alike. Knows no HTML and no terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.records import Row

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
DASH = "-"


def percent(share: float | None) -> str:
    """A share as 81.2 %."""
    return DASH if share is None else f"{100 * share:.1f} %"


def between(interval: Sequence[float] | None) -> str:
    """An interval of shares, in percent."""
    return DASH if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def p_value(value: float) -> str:
    """Three digits, and no more zeros than one can read."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def name_of(row: Mapping[str, Any]) -> str:
    """Task and variant; the baseline goes without saying."""
    return row["task"] if row["variant"] == "baseline" else f"{row['task']}, {row['variant']}"


def failures(counts: Mapping[str, int]) -> str:
    """How many items have no reply, by kind."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "0"


def unfinished(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each task and variant of a run that was stopped before all was asked."""
    return [
        f"unfinished: of {name_of(part)} {part['asked']} of {part['planned']} items were asked"
        for part in parts
    ]


def unfinished_runs(result: Mapping[str, Any]) -> list[str]:
    """The same for each run of a comparison, by its name."""
    return [f"{run['name']}, {line}" for run in result["runs"] for line in unfinished(run["unfinished"])]


def overview(summary: Mapping[str, Any]) -> Table:
    """A row for each task and variant."""
    header = ("task", "items", "score", "95 %", "metric", "wrong", "unparsed", "refused", "failed")
    rows: list[tuple[str, ...]] = []
    for row in summary["results"]:
        outcomes = row["outcomes"]
        rows.append(
            (
                name_of(row),
                str(row["items"]),
                percent(row.get("mean")),
                between(row.get("interval")),
                row["metric"],
                *(str(outcomes[name]) for name in ("wrong", "unparsed", "refused")),
                failures(row["failures"]),
            )
        )
    return header, rows


def axes(record: Mapping[str, Any]) -> Table:
    """One task's axes: how many answers flip, and the spread of scores beside what other items would have changed."""
    header = (
        "axis",
        "variants",
        "flips",
        "items that ever flip",
        "spread",
        "item error",
        "worst variant",
        "its score",
        "moved by more than chance",
    )
    rows: list[tuple[str, ...]] = [
        (
            axis["axis"],
            str(len(axis["variants"])),
            percent(axis["flip_rate"]),
            percent(axis["ever_flipped"]),
            f"{100 * axis['spread']:.1f}",
            DASH if axis["item_error"] is None else f"{100 * axis['item_error']:.1f}",
            axis["worst"],
            percent(axis["worst_score"]),
            ", ".join(axis["moved"]) or "none",
        )
        for axis in record["axes"]
    ]
    return header, rows


def costs(folder: RunFolder) -> Table:
    """For each task and variant the pictures as the model saw them, its tokens, and how long a reply took."""
    header = ("task", "pictures as seen", "prompt", "image tokens", "kept", "generated", "seconds", "asked")
    groups: dict[str, list[Row]] = {}
    times: dict[str, list[float]] = {}
    for place, row in folder.samples.items():
        groups.setdefault(name_of(row), []).append(row["reply"])
        timing = folder.timings.get(place)
        if timing is not None and not timing["from_cache"] and "total" in timing["seconds"]:
            times.setdefault(name_of(row), []).append(timing["seconds"]["total"])
    rows: list[tuple[str, ...]] = []
    for name, replies in groups.items():
        mine = times.get(name, [])
        rows.append(
            (
                name,
                pictures_seen(replies),
                *(
                    _mean([reply[key] for reply in replies])
                    for key in ("prompt_tokens", "image_tokens", "image_tokens_kept", "generated_tokens")
                ),
                f"{statistics.median(mine):.2f}" if mine else DASH,
                f"{len(mine)}, {len(replies) - len(mine)} from the cache",
            )
        )
    return header, rows


def pictures_seen(replies: Sequence[Mapping[str, Any]]) -> str:
    """Sizes and codecs of all pictures, the commonest first."""
    kinds = Counter(
        f"{picture['width']}x{picture['height']} {picture['codec']}"
        for reply in replies
        for picture in reply["pictures"]
    )
    shown = [kind for kind, _ in kinds.most_common(3)]
    return ", ".join(shown) + (f" and {len(kinds) - 3} more" if len(kinds) > 3 else "") or DASH


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.0f}" if known else DASH


def rankings(result: Mapping[str, Any]) -> Table:
    """For each task what its variants do to the order of the runs."""
    header = (
        "task",
        "items",
        "tau mean",
        "tau worst",
        "between",
        "pairs that swap",
        "changes",
        "by chance",
        "p",
    )
    rows: list[tuple[str, ...]] = []
    for row in result["rankings"]:
        by_chance = row["by_exchange"]
        rows.append(
            (
                row["task"],
                str(row["items"]),
                *(DASH if row[name] is None else f"{row[name]:.2f}" for name in ("mean_tau", "worst_tau")),
                " and ".join(row["worst_pair"]),
                str(len(row["swapped_pairs"])),
                f"{by_chance['observed']:.0f}",
                f"{by_chance['mean']:.1f} ({by_chance['low']:.0f} to {by_chance['high']:.0f})",
                p_value(by_chance["p_value"]),
            )
        )
    return header, rows


def comparison(result: Mapping[str, Any]) -> Table:
    """A row for each task and two runs."""
    header = (
        "task",
        "items",
        "first",
        "second",
        "points",
        "95 %",
        "p",
        "Holm",
        "test",
        "only first : only second",
        "verdict",
    )
    rows: list[tuple[str, ...]] = []
    for row in result["comparisons"]:
        names = [row["first"], row["second"]]
        if not row["items"]:
            rows.append((name_of(row), "0", *names, *(DASH for _ in range(6)), "no items in common"))
            continue
        first, second = (f"{name} {percent(mean)}" for name, mean in zip(names, row["means"], strict=True))
        rows.append(
            (
                name_of(row),
                str(row["items"]),
                first,
                second,
                f"{100 * row['difference']:+.1f}",
                between(row["interval"]),
                p_value(row["p_value"]),
                p_value(row["holm"]),
                row["test"],
                " : ".join(map(str, row["discordant"])) if "discordant" in row else DASH,
                verdict(row),
            )
        )
    return header, rows


def verdict(row: Mapping[str, Any]) -> str:
    """What the corrected test says in words."""
    if not row["different"]:
        return "cannot be separated"
    return f"{row['first'] if row['difference'] > 0 else row['second']} is ahead"


def ties(result: Mapping[str, Any]) -> Table:
    """For each task the runs as groups, best first; members of a group are not told apart from its best."""
    rows: list[tuple[str, ...]] = [
        (
            name_of(row),
            str(row["items"]),
            " > ".join(
                " = ".join(f"{name} {percent(row['means'][name])}" for name in group)
                for group in row["groups"]
            )
            or "no items in common",
        )
        for row in result["ties"]
    ]
    return ("task", "items", "groups"), rows


def left_out(result: Mapping[str, Any]) -> list[str]:
    """A line for each run that answered items another did not."""
    lines = []
    for row in result["left_out"]:
        listed = ", ".join(row["named"])
        more = row["items"] - len(row["named"])
        lines.append(
            f"{name_of(row)}: {row['items']} items of {row['run']} are not in every run and take no part: {listed}"
            + (f" and {more} more" if more else "")
        )
    return lines
