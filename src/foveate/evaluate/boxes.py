"""How models write boxes and polygons, by name: read into fractions of the picture, and written.

Reading never guesses: a list with one unreadable entry is unreadable as a whole, and the part that was to blame is
told. Formats are in `box_formats`, overlaps in `overlap`; knows no task, no picture and no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from foveate.evaluate.box_formats import FORMATS, BoxFormat, get_format, instruction
from foveate.evaluate.reply_text import says_nothing

__all__ = [
    "FORMATS",
    "Box",
    "BoxFormat",
    "Polygon",
    "Reading",
    "get_format",
    "instruction",
    "read_boxes",
    "read_polygons",
    "write_boxes",
    "write_polygons",
]

Box = tuple[float, float, float, float]
Polygon = tuple[tuple[float, float], ...]
Shape = TypeVar("Shape", Box, Polygon)
Size = tuple[int, int]

# Coordinates this far outside the picture come from rounding and are clipped; farther ones use another scale.
_EDGE = 0.02
_MOST = 10_000  # entries of one reply; no picture has more, and a reply that repeats itself ends somewhere


@dataclass(frozen=True, kw_only=True)
class Reading(Generic[Shape]):
    """What was read from a reply.

    Attributes:
        entries: (label, shape) in the reply's order, coordinates from 0 to 1, an empty label where none was written;
            None where the reply, or any part of it, is unreadable. An empty tuple is the clear answer "nothing".
        broken: why, with the part that was to blame.
    """

    entries: tuple[tuple[str, Shape], ...] | None
    broken: tuple[str, ...] = ()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Without labels; empty where unreadable."""
        return tuple(shape for _, shape in self.entries or ())


class _UnreadableError(Exception):
    """Raised inside this file only."""


# -- reading ----------------------------------------------------------------------------------------------


def read_boxes(text: str, name: str, *, size: Size, asked: Sequence[str] = ()) -> Reading[Box]:
    """Every box of a reply.

    Args:
        text: the reply.
        name: of the format, a key of `FORMATS`.
        size: width and height of the picture as the model saw it; matters for pixels only.
        asked: classes that were asked for; "there is no car" is an answer only where cars were.

    Raises:
        EvaluationError: no such format. Never for what the reply says.
    """
    kind = get_format(name)
    return _read(text, kind, lambda values: _box(values, kind, size), asked, key=kind.key, nested=False)


def read_polygons(text: str, name: str, *, size: Size, asked: Sequence[str] = ()) -> Reading[Polygon]:
    """Every polygon of a reply, in `label [[x, y], ...]` or JSON with the key "polygon"; arguments as `read_boxes`."""
    kind = get_format(name)
    return _read(text, kind, lambda values: _polygon(values, kind, size), asked, key="polygon", nested=True)


def _read(
    text: str, kind: BoxFormat, shape: Callable[[Any], Shape], asked: Sequence[str], *, key: str, nested: bool
) -> Reading[Shape]:
    # Reasoning is not the answer; where it was never closed there is none.
    stripped = text.rsplit("</think>", 1)[-1].strip() if "</think>" in text else text.strip()
    if "<think>" in stripped:
        stripped = ""
    if says_nothing(stripped, asked):
        return Reading(entries=())
    try:
        if kind.notation == "json":
            found = _json_entries(stripped, key)
        elif nested or kind.notation == "brackets":
            found = _bracket_entries(stripped, nested=nested)
        else:
            found = _tagged_entries(stripped, kind.notation)
        if len(found) > _MOST:
            raise _UnreadableError(f"{len(found)} entries")
    except _UnreadableError as problem:
        return Reading(entries=None, broken=(str(problem),))
    entries, broken = [], []
    for label, values in found:
        try:
            entries.append((label, shape(values)))
        except _UnreadableError as problem:
            broken.append(f"{_short(label)} {_short(json.dumps(values))}: {problem}".strip())
    return Reading(entries=None if broken else tuple(entries), broken=tuple(broken))


_NUMBER = r"-?\d{1,9}(?:\.\d{1,20})?"
_NUMBERS = re.compile(_NUMBER)
_FLAT = re.compile(rf"\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*\]")
_POINT = rf"\[\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\]"
_NESTED = re.compile(rf"\[\s*{_POINT}(?:\s*,\s*{_POINT})*\s*\]")
_BARE = re.compile(rf"{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}")


def _bracket_entries(text: str, *, nested: bool) -> list[tuple[str, Any]]:
    """`label [..]` with anything between that has no bracket of its own; four bare numbers as the whole reply."""
    if not nested and _BARE.fullmatch(text):
        text = f"[{text}]"

    def values(match: re.Match[str]) -> list[Any]:
        numbers = [float(v) if "." in v else int(v) for v in _NUMBERS.findall(match[0])]
        return [list(pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)] if nested else numbers

    return _scan(text, _NESTED if nested else _FLAT, "[]", values, label_after=False)


_PAIR = r"\(\s*(\d{1,9})\s*,\s*(\d{1,9})\s*\)"
_TAGGED: dict[str, tuple[re.Pattern[str], str, bool]] = {
    # pattern, brackets that may not stand outside of it, whether the label follows
    "tags": (re.compile(rf"(?:<box>)?{_PAIR}\s*,\s*{_PAIR}(?:</box>)?"), "()", False),
    "locations": (re.compile(r"<loc(\d{4})>" * 4), "<>", True),
    "angles": (re.compile(r"\{" + r"<(\d{1,9})>" * 4 + r"\}"), "{}<>", False),
}
_REFERENCE = re.compile(r"</?ref>|<\|(?:object_ref|box)_(?:start|end)\|>")


def _tagged_entries(text: str, notation: str) -> list[tuple[str, Any]]:
    pattern, brackets, label_after = _TAGGED[notation]
    if notation == "tags":
        text = _REFERENCE.sub(" ", text)
    return _scan(
        text, pattern, brackets, lambda match: [int(v) for v in match.groups()], label_after=label_after
    )


def _scan(
    text: str,
    pattern: re.Pattern[str],
    brackets: str,
    values: Callable[[re.Match[str]], Any],
    *,
    label_after: bool,
) -> list[tuple[str, Any]]:
    """Matches with the text before (or after) each as its label; brackets in what is left over are broken entries."""
    matches = list(pattern.finditer(text))
    if not matches:
        raise _UnreadableError(f"no box in {_short(text)!r}" if text else "empty")
    edges = [0, *(edge for match in matches for edge in match.span()), len(text)]
    between = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    for part in between:
        if any(bracket in part for bracket in brackets):
            raise _UnreadableError(f"cannot read {_short(part)!r}")
    labels = between[1:] if label_after else between[:-1]
    return [
        (label.strip(" \t\r\n,;:.-*"), values(match)) for label, match in zip(labels, matches, strict=True)
    ]


_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)


def _json_entries(text: str, key: str) -> list[tuple[str, Any]]:
    fenced = _FENCE.findall(text)
    if len(fenced) > 1:
        raise _UnreadableError(f"{len(fenced)} blocks of JSON")
    try:
        data = json.loads(fenced[0] if fenced else text)
    except (ValueError, RecursionError) as problem:  # ValueError also for a number of thousands of digits
        raise _UnreadableError(f"not JSON: {problem}" if text else "empty") from problem
    rows = [data] if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise _UnreadableError(f"not a list: {_short(text)!r}")
    found = []
    for row in rows:
        if not isinstance(row, dict) or key not in row or not isinstance(row.get("label", ""), str):
            raise _UnreadableError(f"no {key!r} in {_short(json.dumps(row))}")
        found.append((row.get("label", "").strip(), row[key]))
    return found


def _number(value: Any, kind: BoxFormat) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e9 < value < 1e9:
        raise _UnreadableError("not numbers of a picture")
    if kind.whole and not isinstance(value, int):
        raise _UnreadableError("not whole numbers")
    return float(value)


def _fraction(value: Any, kind: BoxFormat, pixels: int) -> float:
    fraction = _number(value, kind) / (kind.divisor or pixels)
    if not -_EDGE <= fraction <= 1 + _EDGE:
        raise _UnreadableError("outside the picture")
    return min(1.0, max(0.0, fraction))


def _box(values: Any, kind: BoxFormat, size: Size) -> Box:
    if not isinstance(values, list) or len(values) != 4:
        raise _UnreadableError("not four numbers")
    if kind.upright:
        values = [values[1], values[0], values[3], values[2]]
    left, top, right, bottom = (_fraction(v, kind, size[i % 2]) for i, v in enumerate(values))
    if right <= left or bottom <= top:
        raise _UnreadableError("no area")
    return left, top, right, bottom


def _polygon(values: Any, kind: BoxFormat, size: Size) -> Polygon:
    if not isinstance(values, list) or len(values) < 3:
        raise _UnreadableError("fewer than three corners")
    if not all(isinstance(point, list) and len(point) == 2 for point in values):
        raise _UnreadableError("corners are not pairs")
    return tuple((_fraction(x, kind, size[0]), _fraction(y, kind, size[1])) for x, y in values)


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


# -- writing ----------------------------------------------------------------------------------------------


def write_boxes(entries: Iterable[tuple[str, Box]], name: str, *, size: Size) -> str:
    """The reply of a model that found these boxes; the inverse of `read_boxes` up to the format's precision."""
    kind = get_format(name)
    rows = []
    for label, box in entries:
        left, right = _span(box[0], box[2], kind, size[0])
        top, bottom = _span(box[1], box[3], kind, size[1])
        values = [top, left, bottom, right] if kind.upright else [left, top, right, bottom]
        rows.append((label, values))
    if kind.notation == "json":
        return json.dumps([{kind.key: values, "label": label} for label, values in rows])
    if not rows:
        return "none"
    return _SEPARATORS.get(kind.notation, "; ").join(
        _WRITERS[kind.notation](label, values) for label, values in rows
    )


_SEPARATORS = {"locations": " ; ", "tags": ""}
_WRITERS: dict[str, Callable[[str, list[Any]], str]] = {
    "brackets": lambda label, v: f"{label} {json.dumps(v)}".strip(),
    "tags": lambda label, v: f"<ref>{label}</ref><box>({v[0]},{v[1]}),({v[2]},{v[3]})</box>",
    "locations": lambda label, v: "".join(f"<loc{n:04d}>" for n in v) + f" {label}".rstrip(),
    "angles": lambda label, v: f"{label} {{{''.join(f'<{n}>' for n in v)}}}".strip(),
}


def write_polygons(entries: Iterable[tuple[str, Polygon]], name: str, *, size: Size) -> str:
    """The inverse of `read_polygons` up to the format's precision."""
    kind = get_format(name)
    rows = [
        (label, [[_written(x, kind, size[0]), _written(y, kind, size[1])] for x, y in polygon])
        for label, polygon in entries
    ]
    if kind.notation == "json":
        return json.dumps([{"polygon": points, "label": label} for label, points in rows])
    return "; ".join(f"{label} {json.dumps(points)}".strip() for label, points in rows) or "none"


def _span(low: float, high: float, kind: BoxFormat, pixels: int) -> tuple[float | int, float | int]:
    """Both ends; what is thinner than the format's step becomes one step wide, so that it can be read back."""
    start, end = _written(low, kind, pixels), _written(high, kind, pixels)
    if start < end:
        return start, end
    step = 1e-4 if kind.divisor == 1 else 1
    full = start + step <= _written(1.0, kind, pixels)
    return (start, round(start + step, 4)) if full else (round(start - step, 4), start)


def _written(fraction: float, kind: BoxFormat, pixels: int) -> float | int:
    value = fraction * (kind.divisor or pixels)
    if kind.whole:
        # PaliGemma's last bin is 1023, and four digits are all it has.
        return min(round(value), 1023) if kind.notation == "locations" else round(value)
    return round(value, 4 if kind.divisor == 1 else 1)
