"""The answers that are most worth looking at: which, and the pictures that they are about.

Owns the choice. Knows no HTML; pictures come from the task again, and what cannot be had is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from foveate.errors import FoveateError
from foveate.evaluate.contract import Item, Picture
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.rebuild import items_of, task_of
from foveate.evaluate.run.records import Row

ITEMS, PICTURES = 6, 4  # of a task, and of an item
# Among answers worth nothing: those that say something about the model before those that say it about parsing.
_ORDER = {"wrong": 0, "unparsed": 1, "refused": 2, "correct": 3}


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One answer to look at.

    Attributes:
        row: its line of samples.jsonl.
        pictures: the first of the item's, as the task has them; a variant's change of pixels is not in them.
        more: how many pictures are not shown.
        missing: why there are none; empty where there are, or where the item has none.
    """

    row: Row
    pictures: tuple[Image.Image, ...] = field(default=(), repr=False)
    more: int = 0
    missing: str = ""


def worst_rows(rows: Sequence[Row], *, most: int = ITEMS) -> list[Row]:
    """The lowest values first, none that is fully right; every group of items before any group's second."""
    ranked = sorted(
        (row for row in rows if row["score"]["outcome"] != "correct" or row["score"]["value"] < 1),
        key=lambda row: (row["score"]["value"], _ORDER[row["score"]["outcome"]]),
    )
    seen: dict[str, int] = {}
    turns = []
    for row in ranked:
        group = row["tags"][0] if row["tags"] else ""
        seen[group] = seen.get(group, 0) + 1
        turns.append(seen[group])
    order = sorted(range(len(ranked)), key=lambda place: turns[place])
    return [ranked[place] for place in order[:most]]


def exhibits(folder: RunFolder, task: str, variant: str, rows: Sequence[Row]) -> list[Exhibit]:
    """The worst answers of one task with their pictures."""
    chosen = worst_rows(rows)
    if not chosen:
        return []
    try:
        items = items_of(task_of(folder, task, variant), {row["item"] for row in chosen})
    except FoveateError as error:
        return [Exhibit(row=row, missing=str(error)) for row in chosen]
    return [_exhibit(row, items[row["item"]]) for row in chosen]


def _exhibit(row: Row, item: Item) -> Exhibit:
    pictures = pictures_of(item)
    try:
        opened = tuple(picture.open() for picture in pictures[:PICTURES])
    except FoveateError as error:
        return Exhibit(row=row, missing=str(error))
    return Exhibit(row=row, pictures=opened, more=max(0, len(pictures) - PICTURES))


def pictures_of(item: Item) -> list[Picture]:
    """All pictures of an item's messages, in order."""
    parts: list[Any] = [
        part
        for message in item.messages
        if not isinstance(message["content"], str)
        for part in message["content"]
    ]
    return [part["image"] for part in parts if part["type"] == "image"]
