"""report.html of a run: one file that opens anywhere, without a network, written from the folder alone.

Owns the page's order and words. Figures come from the summary, pictures from the task's own items; knows no model.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.evaluate.contract import OUTCOMES
from foveate.evaluate.page import (
    Markup,
    details,
    document,
    interval_bar,
    paragraph,
    photograph,
    shaded,
    share_bar,
    table,
    text,
)
from foveate.evaluate.perturb.variant import BASELINE
from foveate.evaluate.provenance import write_atomically
from foveate.evaluate.run import tables
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.perturbation_report import perturbation_parts
from foveate.evaluate.run.records import Row
from foveate.evaluate.run.summary import answer_of, grouped, summarise
from foveate.evaluate.run.worst import SAID_COLOUR, TRUE_COLOUR, Exhibit, exhibits, shapes_in

REPORT = "report.html"
OPEN = 4  # with more tasks than this, the worst answers of each wait for a click
# Okabe and Ito's blue and orange, grey and violet: told apart by colour-blind readers; the numbers stand beside them.
COLOURS = dict(zip(OUTCOMES, ("#0072b2", "#e69f00", "#8a8a8a", "#7a4fa3"), strict=True))
_STYLE = """
.bars td { vertical-align: middle; } .key span { white-space: nowrap; margin-right: 1rem; }
.key i { display: inline-block; width: .8rem; height: .8rem; margin-right: .3rem; }
.exhibit { margin: .5rem 0 1.5rem; } .exhibit figure { display: flex; flex-direction: column; gap: .3rem; }
.exhibit figcaption { font-size: 13px; } .exhibit dl, .exhibit dd { margin: 0; }
.exhibit dt { color: #555; float: left; margin-right: .4rem; }
.several { display: grid; grid-template-columns: 1fr 1fr; gap: .3rem; }
section { border-top: 1px solid #ddd; margin-top: 2rem; } details { margin: .5rem 0; }
@media (max-width: 40rem) { .exhibit figure { width: 100%; } }
"""


def write_report(folder: RunFolder | Path) -> Row:
    """Summarises the run and writes its page; returns the summary.

    Raises:
        EvaluationError: the folder holds no run, or one that cannot be read.
    """
    run = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    summary = summarise(run)
    write_atomically(run.path / REPORT, page(run, summary))
    return summary


def page(folder: RunFolder, summary: Mapping[str, Any]) -> str:
    """The whole document."""
    parts = [
        f"<h1>{text(summary['model'])}</h1>",
        paragraph(_introduction(folder, summary)),
        *_unfinished(summary),
        "<h2>Scores</h2>",
        _scores(summary),
        _key(),
        paragraph(_HOW_TO_READ),
        *perturbation_parts(summary),
        *_failures(folder),
    ]
    rows = grouped(folder)
    shown = [row for row in summary["results"] if row["variant"] == BASELINE.name and row["items"]]
    for result in shown:
        parts += _task(folder, result, rows[result["task"], BASELINE.name], open_=len(shown) <= OPEN)
    parts += _costs(folder)
    parts.append(_footer(folder))
    return document(f"foveate eval: {summary['model']}", parts, style=_STYLE)


_HOW_TO_READ = (
    "The score is the mean of the metric; unparsed and refused answers count as nothing and are shown. Intervals are "
    "95 %: Wilson's where every item is right or wrong and has a picture of its own, else a bootstrap over pictures. "
    "Failed items have no reply (a timeout, a broken row) and are in no score."
)


def _introduction(folder: RunFolder, summary: Mapping[str, Any]) -> str:
    tasks = len({row["task"] for row in summary["results"]})
    asked = f"{summary['items']} answers in {tasks} {'task' if tasks == 1 else 'tasks'}"
    sample = f"This is {summary['sample']}. " if summary["sample"] else ""
    failed = f" {summary['failed']} items failed." if summary["failed"] else ""
    given = [f"{name} {value}" for name, value in folder.run["parameters"].items() if value is not None]
    return f"{asked}, prompt style {summary['style']}; {', '.join(given)}. {sample}{failed}"


def _unfinished(summary: Mapping[str, Any]) -> list[str]:
    if not summary["unfinished"]:
        return []
    lines = "; ".join(tables.unfinished(summary["unfinished"]))
    return [f"<p><strong>{text(f'This run is not over: {lines}. --resume asks the rest.')}</strong></p>"]


def _scores(summary: Mapping[str, Any]) -> str:
    header = (
        "task",
        "items",
        "score",
        "95 %",
        "0 to 100",
        "metric",
        "outcomes",
        "unparsed",
        "refused",
        "failed",
    )
    rows: list[tuple[object, ...]] = []
    for row in summary["results"]:
        if row["variant"] != BASELINE.name:
            continue
        score: tuple[object, ...] = (tables.DASH,) * 3
        if row["items"]:
            score = (
                tables.percent(row["mean"]),
                tables.between(row["interval"]),
                interval_bar(row["mean"], *row["interval"]),
            )
        outcomes = row["outcomes"]
        rows.append(
            (
                Markup(f'<a href="#{text(row["task"])}">{text(row["task"])}</a>')
                if row["items"]
                else row["task"],
                row["items"],
                *score,
                row["metric"],
                _outcomes(row),
                outcomes["unparsed"],
                outcomes["refused"],
                tables.failures(row["failures"]),
            )
        )
    return f'<div class="bars">{table(header, rows)}</div>'


def _outcomes(row: Mapping[str, Any]) -> Markup | str:
    if not row["items"]:
        return tables.DASH
    return share_bar([(name, row["outcomes"][name] / row["items"], COLOURS[name]) for name in OUTCOMES])


def _key() -> str:
    return (
        '<p class="key">'
        + "".join(f'<span><i style="background:{COLOURS[name]}"></i>{name}</span>' for name in OUTCOMES)
        + "</p>"
    )


def _failures(folder: RunFolder) -> list[str]:
    if not folder.failures:
        return []
    counts = Counter(
        (row["task"], row["variant"], row["kind"], row["message"]) for row in folder.failures.values()
    )
    rows = [
        (tables.name_of({"task": task, "variant": variant}), kind, count, message)
        for (task, variant, kind, message), count in counts.most_common(40)
    ]
    rest = len(counts) - len(rows)
    return [
        "<h2>Failures</h2>",
        paragraph(
            "These items have no reply. They are not wrong answers and are in no score; --resume asks them again."
        ),
        table(("task", "kind", "items", "message"), rows, words=True),
        paragraph(f"{rest} more kinds are in failures.jsonl.") if rest else "",
    ]


def _task(folder: RunFolder, result: Mapping[str, Any], rows: list[Row], *, open_: bool) -> list[str]:
    """One task: groups, measures, confusion, the worst answers."""
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


def _costs(folder: RunFolder) -> list[str]:
    if not folder.samples:
        return []
    return [
        "<h2>What it took</h2>",
        table(*tables.costs(folder)),
        paragraph(
            "Pictures by their size and codec as the model's input was made from them; tokens are means a reply, "
            "seconds the median of replies that did not come from the cache, while others ran beside them."
        ),
    ]


def _footer(folder: RunFolder) -> str:
    """Where the numbers come from."""
    run = folder.run
    facts = {**run.get("machine", {}), **run.get("versions", {})}
    listed = ", ".join(f"{name} {value}" for name, value in facts.items())
    model = json.dumps(run["model"], ensure_ascii=False)
    command = f"<code>{text(run['command'])}</code> " if run.get("command") else ""
    return (
        f"<footer><p>{command}at commit {text(', '.join(run.get('commits', [])))}. {text(listed)}.</p>"
        f"{details('Model', [f'<pre>{text(model)}</pre>'])}</footer>"
    )
