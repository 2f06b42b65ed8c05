"""One task in a report: its measures, groups, confusion matrix and worst answers with their pictures.

Owns that section's order and words. Figures come from the summary, pictures from the task's own items.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from foveate.evaluate.page import details, interval_bar, paragraph, photograph, shaded, table, text
from foveate.evaluate.run import tables
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.records import Row
from foveate.evaluate.run.summary import answer_of
from foveate.evaluate.run.worst import SAID_COLOUR, TRUE_COLOUR, Exhibit, exhibits, shapes_in


def task_section(folder: RunFolder, result: Mapping[str, Any], rows: list[Row], *, open_: bool) -> list[str]:
    """One task's part of the page.

    Args:
        result: of the task without variants, as the summary has it.
        rows: its samples.
        open_: whether its worst answers are unfolded.
    """
    parts = [
        f'<section id="{text(result["task"])}"><h2>{text(result["task"])}</h2>',
        paragraph(result["note"]),
    ]
    if result["cut_short"]:
        parts.append(
            paragraph(
                f"{result['cut_short']} replies were cut at the limit of tokens and scored as they are."
            )
        )
    if result["measures"]:
        measures = [
            (name, tables.DASH if value is None else f"{value:.4g}")
            for name, value in result["measures"].items()
        ]
        parts.append(table(("measure of all items", "value"), measures))
    if result["measures_missing"]:
        parts.append(paragraph(f"Measures of all items together are missing: {result['measures_missing']}"))
    parts += [_groups(result), _confusion(result)]
    shown = exhibits(folder, result["task"], result["variant"], rows)
    if shown:
        drawn = any(shapes_in(one.row["target"]) for one in shown)
        parts.append(
            details(
                f"Worst answers ({len(shown)})",
                [_SHAPES if drawn else "", f'<div class="exhibit">{"".join(map(_exhibit, shown))}</div>'],
                open_=open_,
            )
        )
    return [*parts, "</section>"]


_SHAPES = (
    f'<p class="key"><span><i style="background:{TRUE_COLOUR}"></i>true</span>'
    f'<span><i style="background:{SAID_COLOUR}"></i>said</span></p>'
)


def _groups(result: Mapping[str, Any]) -> str:
    rows: list[tuple[object, ...]] = []
    for tag, row in result["tags"].items():
        if "mean" in row:
            bar = interval_bar(row["mean"], *row["interval"])
            rows.append(
                (tag, row["items"], tables.percent(row["mean"]), tables.between(row["interval"]), bar)
            )
        else:
            rows.append((tag, row["items"], "too few", "", ""))
    if len(rows) < 2:
        return ""
    shown = f'<div class="bars">{table(("group", "items", "score", "95 %", "0 to 100"), rows)}</div>'
    return details(f"By group ({len(rows)})", [shown], open_=len(rows) <= 12)


def _confusion(result: Mapping[str, Any]) -> str:
    found = result["confusion"]
    if found is None:
        return ""
    extra = [
        name
        for name in ("other", "unparsed", "refused")
        if any(name in line for line in found["counts"].values())
    ]
    columns = [*found["classes"], *extra]
    head = "".join(f"<th>{text(name)}</th>" for name in ("true \\ said", *columns))
    lines = []
    for truth, counts in found["counts"].items():
        total = sum(counts.values())
        cells = "".join(shaded(counts.get(name, 0), counts.get(name, 0) / total) for name in columns)
        lines.append(f"<tr><td>{text(truth)}</td>{cells}</tr>")
    matrix = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return details("Confusion matrix", [f'<div class="scroll">{matrix}</div>'], open_=True)


def _exhibit(exhibit: Exhibit) -> str:
    row = exhibit.row
    score = row["score"]
    pictures = [photograph(picture, f"Picture of {row['item']}") for picture in exhibit.pictures]
    if len(pictures) > 1:
        pictures = [f'<div class="several">{"".join(pictures)}</div>']
    if exhibit.more:
        pictures.append(paragraph(f"and {exhibit.more} more pictures"))
    if exhibit.missing:
        pictures.append(paragraph(f"no picture: {exhibit.missing}"))
    facts = [
        ("asked", _short(row["question"])),
        ("said", _short(row["reply"]["text"])),
        ("true", "drawn" if shapes_in(row["target"]) else _short(answer_of(row["target"]))),
        ("verdict", f"{score['outcome']}, {score['value']:.2g}"),
        ("item", row["item"]),
    ]
    kind = "right" if score["outcome"] == "correct" else "wrong"
    listed = "".join(
        f"<dt>{name}</dt><dd{f' class={kind!r}' if name == 'verdict' else ''}>{text(value)}</dd>"
        for name, value in facts
    )
    return f"<figure>{''.join(pictures)}<figcaption><dl>{listed}</dl></figcaption></figure>"


def _short(value: object, most: int = 200) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= most else f"{shown[:most]} … ({len(shown)} characters)"
