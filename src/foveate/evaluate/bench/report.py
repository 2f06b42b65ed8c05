"""report.html of a run: one file that opens anywhere, without a network; beside it the plots and summary.json.

Owns the page. Everything in it comes from the summary and the gallery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from foveate.evaluate.bench import tables
from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.gallery import Exhibit, Panel, exhibits, middle_budget
from foveate.evaluate.bench.grid import FULL
from foveate.evaluate.bench.plots import draw_heat_map, draw_pareto, family_points, require_plots
from foveate.evaluate.bench.summary import summarise
from foveate.evaluate.page import document, figure, paragraph, photograph, table, text
from foveate.evaluate.provenance import write_atomically

__all__ = ["require_plots", "write_report"]
SUMMARY, REPORT, PARETO, HEAT_MAP = "summary.json", "report.html", "pareto.png", "families.png"


def write_report(folder: RunFolder) -> dict[str, Any]:
    """Scores the run and writes its summary, plots and page; returns the summary.

    Raises:
        BenchError: full tokens or the empty picture were not measured to the end.
    """
    summary = summarise(folder)
    write_atomically(
        folder.path / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    draw_pareto(summary, folder.path / PARETO)
    draw_heat_map(summary, folder.path / HEAT_MAP)
    budget = middle_budget(summary)
    shown = [] if budget is None else exhibits(folder, summary, budget)
    write_atomically(folder.path / REPORT, page(folder, summary, shown, budget))
    return summary


def page(folder: RunFolder, summary: Mapping[str, Any], shown: Sequence[Exhibit], budget: str | None) -> str:
    """The whole document."""
    run = folder.run
    parts = [
        f"<h1>Visual-token reduction on {text(summary['model'])}</h1>",
        paragraph(
            f"{summary['items']} questions about as many held-out pictures, the same in every cell, answered "
            f"greedily. Pictures: the procedural world, difficulty {folder.grid.difficulty}. {summary['note']}"
        ),
        "<h2>Accuracy against kept tokens</h2>",
        figure(
            (folder.path / PARETO).read_bytes(),
            "Right answers in percent against visual tokens kept, with 95 % intervals",
        ),
        table(*tables.overview(summary)),
        paragraph(_HOW_TO_READ),
        _stand_in(run),
        "<h2>What cannot be told apart</h2>",
        table(*tables.ties(summary), words=True),
        paragraph(
            "Members of a group are not separated from its best by McNemar's exact test, Holm-corrected over "
            "all pairs of the budget."
        ),
        "<h2>By kind of question</h2>",
        paragraph("Points from full tokens, of the first question on each picture."),
        _heat_table(summary),
        "<h2>Questions that a smaller picture gets wrong</h2>",
        table(*tables.hard_questions(summary)),
        paragraph(f"At the cell's own budget; the smaller picture is {summary['downsampling']}."),
    ]
    if summary["turns"] > 1:
        parts += [
            "<h2>Second turn</h2>",
            table(*tables.later_turns(summary)),
            paragraph(
                "The world's own follow-up about the same picture (“And what is its colour?”), asked after the "
                "model's own first answer. The picture is not encoded again."
            ),
        ]
    parts += _costs(run, summary)
    parts += [*_left_out(summary), *_gallery(shown, budget), _footer(run)]
    return document(f"foveate bench: {summary['model']}", parts)


_HOW_TO_READ = (
    "Accuracy with Wilson's 95 % interval; unparsed answers (no possible answer at all) count as wrong. Retained: "
    "mean of the share of full tokens' accuracy over the kinds of questions that these answer in a quarter of cases or "
    "more. The columns “to …” are paired differences in "
    "points with bootstrap intervals; a star marks those whose p-value (exact McNemar) stays at or below 0.05 after "
    "Holm's correction over all cells."
)


def _heat_table(summary: Mapping[str, Any]) -> str:
    """A table a budget; colour and number say the same."""
    (full,) = (record for record in summary["cells"] if record["cell"] == FULL)
    families = list(full["turns"]["1"]["families"])
    parts = []
    for budget in summary["ties"]:
        head = "".join(f"<th>{text(name)}</th>" for name in (f"at {budget}", *families))
        lines = []
        for record in tables.method_records(summary):
            if record["budget"] == budget:
                values = [family_points(record, full, family) for family in families]
                cells = "".join(f'<td style="background:{_shade(v)}">{v:+.0f}</td>' for v in values)
                lines.append(f"<tr><td>{text(record['method'])}</td>{cells}</tr>")
        parts.append(f"<table><thead><tr>{head}</tr></thead>\n<tbody>{''.join(lines)}</tbody></table><br>")
    return f'<div class="scroll">{"".join(parts)}</div>'


def _shade(points: float) -> str:
    """Orange for losses, violet for gains, paler towards none; told apart by colour-blind readers too."""
    hue = (224, 130, 20) if points < 0 else (128, 115, 172)
    share = min(1.0, abs(points) / 100)
    return "#" + "".join(f"{round(255 + share * (one - 255)):02x}" for one in hue)


def _stand_in(run: Mapping[str, Any]) -> str:
    if not run["stands_in"]:
        return ""
    return paragraph(f"average_pool stands for a smaller picture, because: {run['stands_in']}")


def _costs(run: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    """Times and memory, one request at a time and many at once."""
    parts = [
        "<h2>Times and memory</h2>",
        table(*tables.costs(summary)),
        paragraph(
            f"Medians in milliseconds of {run['clock']}, one request at a time, threads: {run['threads']}, processor: "
            f"{run['machine'].get('processor', 'an unnamed processor')}. Cache: key-value blocks in use at "
            "their peak. Resident: the whole process so far, weights and libraries included."
        ),
    ]
    if summary["speed"]:
        parts += [
            "<h2>Many at once</h2>",
            table(*tables.speed(summary)),
            paragraph(
                f"As soon as one request ends the next begins; every answer is {summary['speed'][0]['answer_tokens']} "
                f"tokens long. Medians of whole passes, {run['clock']}."
            ),
        ]
    return parts


def _left_out(summary: Mapping[str, Any]) -> list[str]:
    """Cells that were refused, with the reason, and cells that are not done."""
    parts = []
    if summary["equal_tiles"]:
        parts.append(
            paragraph(
                "The model writes text between tiles, so these share the budget among them equally instead of as they "
                f"do by default: {', '.join(summary['equal_tiles'])}."
            )
        )
    if summary["refused"]:
        parts += [
            "<h2>Refused</h2>",
            table(("cells", "reason"), _by_reason(summary["refused"]), words=True),
        ]
    if summary["unfinished"]:
        parts += ["<h2>Not finished</h2>", paragraph(", ".join(summary["unfinished"]))]
    return parts


def _by_reason(refused: Mapping[str, str]) -> list[tuple[str, ...]]:
    """A row a reason: a method is refused at every budget alike."""
    cells: dict[str, list[str]] = {}
    for cell, reason in refused.items():
        cells.setdefault(reason, []).append(cell)
    return [(", ".join(names), reason) for reason, names in cells.items()]


def _gallery(shown: Sequence[Exhibit], budget: str | None) -> list[str]:
    if not shown:
        return []
    parts = [
        "<h2>Where methods disagree</h2>",
        paragraph(
            f"Budget {budget}; bright and framed are the tokens that stayed; methods that merge put "
            "what they drop into these."
        ),
    ]
    for exhibit in shown:
        question = exhibit.item.turns[0]
        parts.append(
            f"<h3>{text(question.text)}</h3>"
            + paragraph(
                f"True answer: {question.answer}. Full tokens: {exhibit.full_reply}. ({exhibit.item.id})"
            )
        )
        parts.append(f'<div class="exhibit">{"".join(_panel(one) for one in exhibit.panels)}</div>')
    return parts


def _panel(panel: Panel) -> str:
    kind = "right" if panel.right else "wrong"
    return (
        f"<figure>{photograph(panel.overlay, f'What {panel.method} kept')}"
        f'<figcaption>{text(panel.method)}: <span class="{kind}">{text(panel.reply)} ({kind})</span>'
        "</figcaption></figure>"
    )


def _footer(run: Mapping[str, Any]) -> str:
    facts = {**run["machine"], **run["versions"]}
    listed = ", ".join(f"{name} {value}" for name, value in facts.items())
    return (
        f"<footer><p><code>{text(run['command'])}</code> at commit {text(', '.join(run['commits']))}. "
        f"{text(listed)}. Weights {text(run['model']['weights_sha256'][:16])}, {text(run['model']['dtype'])}."
        "</p></footer>"
    )
