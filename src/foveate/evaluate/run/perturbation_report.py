"""The part of a run's report about variants. Owns its order and words; figures come from the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.evaluate.page import details, difference_bar, paragraph, table, text
from foveate.evaluate.perturb.variant import BASELINE
from foveate.evaluate.run import tables

LEVEL = 0.05


def perturbation_parts(summary: Mapping[str, Any]) -> list[str]:
    """Variants beside the baseline; nothing where only that was asked."""
    varied = [row for row in summary["results"] if row["variant"] != BASELINE.name]
    if not varied:
        return []
    parts = [
        "<h2>Perturbations</h2>",
        paragraph(
            "The same items, asked in ways that should not change the answers. A flip is an item whose score changes. "
            "Spread is the standard deviation of the variants' scores in points; item error is what other items would "
            "have changed. The last column goes by paired tests, Holm-corrected over the task's variants. A control "
            "changes nothing on purpose: it shows what asking again does by itself, and no average has it."
        ),
    ]
    for record in summary["perturbations"]:
        parts.append(f"<h3>{text(record['task'])}</h3>")
        if "missing" in record:
            parts.append(paragraph(record["missing"]))
            continue
        parts.append(table(*tables.axes(record), words=True))
        if record["left_out"]:
            parts.append(
                paragraph(f"{record['left_out']} items without an answer in every variant take no part.")
            )
        parts.append(details("Every variant", [_variants(record)], open_=len(summary["perturbations"]) == 1))
    alone = {record["task"] for record in summary["perturbations"]}
    failed = [row for row in varied if row["task"] not in alone]
    return [
        *parts,
        *[paragraph(f"{tables.name_of(row)}: {tables.failures(row['failures'])}") for row in failed],
    ]


def _variants(record: Mapping[str, Any]) -> str:
    """Scores, paired differences to the baseline, and flips to and fro."""
    header = ("axis", "variant", "score", "to baseline", "95 %", "-100 to 100", "gained", "lost", "Holm")
    rows: list[tuple[object, ...]] = [("", BASELINE.name, tables.percent(record["baseline"]), *([""] * 6))]
    for axis in record["axes"]:
        rows += [
            (
                axis["axis"],
                one["variant"] + (" (control)" if one in axis["controls"] else ""),
                tables.percent(one["score"]),
                f"{100 * one['difference']:+.1f}",
                tables.between(one["interval"]),
                difference_bar(one["difference"], *one["interval"], clear=one["holm"] <= LEVEL),
                one["gained"],
                one["lost"],
                tables.p_value(one["holm"]),
            )
            for one in [*axis["controls"], *axis["variants"]]
        ]
    return f'<div class="bars">{table(header, rows)}</div>'
