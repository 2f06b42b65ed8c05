"""The answers that are most worth looking at: which, and the pictures that they are about.

Owns the choice. Knows no HTML; pictures come from the task again, and what cannot be had is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw

from foveate.errors import FoveateError
from foveate.evaluate.contract import Item, Picture
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.rebuild import items_of, task_of
from foveate.evaluate.run.records import Row

ITEMS, PICTURES = 6, 4  # of a task, and of an item
WIDTH = 264  # of a picture, pixels
TRUE_COLOUR, SAID_COLOUR = "#0072b2", "#e69f00"
# Among answers worth nothing: those that say something about the model before those that say it about parsing.
_ORDER = {"wrong": 0, "unparsed": 1, "refused": 2, "correct": 3}


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """One answer to look at.

    Attributes:
        row: its line of samples.jsonl.
        pictures: the first of the item's, as the task has them and `WIDTH` wide; a variant's change of pixels is not
            in them. Boxes and outlines, where the item asks for some, are drawn: true ones and those that were said.
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
    return [exhibit_of(row, items[row["item"]]) for row in chosen]


def exhibit_of(row: Row, item: Item) -> Exhibit:
    """One answer with its pictures, opened."""
    pictures = pictures_of(item)
    try:
        opened = [_resized(picture.open()) for picture in pictures[:PICTURES]]
    except FoveateError as error:
        return Exhibit(row=row, missing=str(error))
    if item.form in ("boxes", "polygons") and len(opened) == 1:
        for value, colour in ((row["target"], TRUE_COLOUR), (row["score"]["parsed"], SAID_COLOUR)):
            for shape in shapes_in(value):
                _draw(opened[0], shape, colour)
    return Exhibit(row=row, pictures=tuple(opened), more=max(0, len(pictures) - PICTURES))


def _resized(picture: Image.Image) -> Image.Image:
    return picture.resize(
        (WIDTH, max(1, round(picture.height * WIDTH / picture.width))), Image.Resampling.LANCZOS
    )


def shapes_in(value: Any) -> list[Any]:
    """Boxes [x1, y1, x2, y2] and outlines [[x, y], ...] in shares of the picture, wherever they stand in a value."""
    if isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, list | tuple):
        if len(value) == 4 and all(_is_share(one) for one in value):
            return [list(value)]
        if len(value) > 2 and all(_is_point(one) for one in value):
            return [[list(point) for point in value]]
        inside = value  # type: ignore[assignment]
    else:
        return []
    return [shape for one in inside for shape in shapes_in(one)]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_point(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_is_share(one) for one in value)


def _draw(picture: Image.Image, shape: Sequence[Any], colour: str) -> None:
    """An outline of two pixels; a box without extent is a line."""
    if isinstance(shape[0], list):
        corners = [(x * picture.width, y * picture.height) for x, y in shape]
    else:
        left, top, right, bottom = shape
        sides = (left * picture.width, right * picture.width)
        ends = (top * picture.height, bottom * picture.height)
        corners = [(sides[i], ends[j]) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    ImageDraw.Draw(picture).line([*corners, corners[0]], fill=colour, width=2)


def pictures_of(item: Item) -> list[Picture]:
    """All pictures of an item's messages, in order."""
    parts: list[Any] = [
        part
        for message in item.messages
        if not isinstance(message["content"], str)
        for part in message["content"]
    ]
    return [part["image"] for part in parts if part["type"] == "image"]
