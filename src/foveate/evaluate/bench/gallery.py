"""Pictures on which methods disagree: what each kept of them, and what the model then said.

Owns the choice and the drawing. The world draws the pictures again and the run's folder holds what was kept, so no
model is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.grid import FULL
from foveate.evaluate.bench.items import Item
from foveate.evaluate.nano import outcome
from foveate.evaluate.run_files import Row
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.overlay import draw_overlay

PICTURES, METHODS = 6, 4  # as many as one looks at
_WIDTH = 264


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One method's view: the overlay, the reply, and whether it is right."""

    method: str
    overlay: Image.Image
    reply: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One question with the answer that full tokens give, and the views of methods that differ."""

    item: Item
    full_reply: str
    panels: tuple[Panel, ...]


def middle_budget(summary: Mapping[str, Any]) -> str | None:
    """The budget whose pictures are shown: the one nearest the middle of those that were measured."""
    budgets = list(summary["ties"])
    return budgets[(len(budgets) - 1) // 2] if budgets else None


def exhibits(folder: RunFolder, summary: Mapping[str, Any], budget: str) -> list[Exhibit]:
    """Questions that full tokens get right and about half of the methods do not, of different families first."""
    cells = [record for record in summary["cells"] if record["budget"] == budget]
    ranked = []
    for item in folder.items.values():
        if not _right(item, folder.samples[FULL, item.id][0]):
            continue
        rows = {record["method"]: folder.samples[record["cell"], item.id][0] for record in cells}
        # A smaller picture has no tokens that stay: there is nothing to draw over.
        rows = {method: row for method, row in rows.items() if "mask" in row and row["stage"] != "input"}
        hits = [method for method, row in rows.items() if _right(item, row)]
        misses = [method for method in rows if method not in hits]
        if hits and misses:
            ranked.append((min(len(hits), len(misses)), item, hits, misses, rows))
    ranked.sort(key=lambda one: (-one[0], one[1].id))
    seen: dict[str, int] = {}
    order = []
    for one in ranked:  # the best of every family before the second best of any
        seen[one[1].family] = seen.get(one[1].family, 0) + 1
        order.append((seen[one[1].family], one))
    order.sort(key=lambda pair: pair[0])
    shown: list[Exhibit] = []
    for _, (_, item, hits, misses, rows) in order:
        picture = item.image()
        if picture is not None and len(shown) < PICTURES:
            shown.append(_exhibit(folder, item, picture, _some(hits, misses), rows))
    return shown


def _right(item: Item, row: Row) -> bool:
    return outcome(item.turns[0], row["reply"]) == "right"


def _some(hits: Sequence[str], misses: Sequence[str]) -> list[str]:
    """As many of each side, as far as they go; methods that papers propose before baselines, which come first."""
    half = METHODS // 2
    left = list(reversed(hits))[: max(half, METHODS - len(misses))]
    return left + list(reversed(misses))[: METHODS - len(left)]


def _exhibit(
    folder: RunFolder, item: Item, picture: Image.Image, methods: Sequence[str], rows: Mapping[str, Row]
) -> Exhibit:
    panels = []
    for method in methods:
        row = rows[method]
        keep = keep_map(folder, row, method)
        overlay = draw_overlay(picture, keep, cropped=folder.run["cropped"])
        size = (_WIDTH, round(overlay.height * _WIDTH / overlay.width))
        panels.append(
            Panel(
                method=method,
                overlay=overlay.resize(size, Image.Resampling.LANCZOS),
                reply=row["reply"].strip(),
                right=_right(item, row),
            )
        )
    full_reply = folder.samples[FULL, item.id][0]["reply"].strip()
    return Exhibit(item=item, full_reply=full_reply, panels=tuple(panels))


def keep_map(folder: RunFolder, row: Row, method: str) -> KeepMap:
    """The keep-map of a sample, from its bits and the layouts in run.json."""
    grid = folder.run["layouts"][row["layout"]]
    bits = f"{int(row['mask'], 16):b}".zfill(grid["tokens"])
    record = {
        "grid": grid,
        "kept": [index for index, bit in enumerate(bits) if bit == "1"],
        "asked": row["cell"].rpartition("@")[2],
        "reason": "",
        "method": method,
        "stage": row["stage"],
        "scores": None,
        "merge": None,
    }
    return KeepMap.from_json(json.dumps(record))
