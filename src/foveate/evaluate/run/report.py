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
from foveate.evaluate.run.summary import grouped, summarise
from foveate.evaluate.run.task_section import task_section

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
        parts += task_section(folder, result, rows[result["task"], BASELINE.name], open_=len(shown) <= OPEN)
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
