"""What stands on the ground of an aerial scene: kinds of objects with outlines, sizes and colours; names of places.

Only names and constants; where things stand is in `aerial`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from foveate.world.vocabulary import RGB, Point

PLACES = ("airport", "car park", "farmland", "harbour", "industrial area", "residential area")
RURAL = frozenset({"farmland"})
# Colour and kind that only the test split shows.
AERIAL_HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {("yellow", "vehicle"), ("orange", "ship"), ("blue", "building")}
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of object.

    Attributes:
        radii: of "small" and "large" ones, in the scene's unit of length; the gap keeps the two words exact.
        colours: that occur, chosen to stand out from the ground that this kind stands on.
    """

    radii: dict[str, tuple[float, float]]
    colours: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "vehicle": Kind(
        radii={"small": (0.95, 1.1), "large": (1.6, 1.8)}, colours=("white", "black", "red", "blue", "yellow")
    ),
    "ship": Kind(
        radii={"small": (1.8, 2.2), "large": (4.0, 4.8)}, colours=("white", "black", "red", "orange")
    ),
    "plane": Kind(radii={"small": (2.2, 2.6), "large": (4.2, 4.8)}, colours=("white", "blue", "red")),
    "building": Kind(
        radii={"small": (2.4, 3.0), "large": (4.6, 5.4)}, colours=("red", "orange", "white", "blue", "black")
    ),
    "storage tank": Kind(
        radii={"small": (1.5, 1.8), "large": (2.8, 3.2)}, colours=("white", "orange", "blue")
    ),
    "pool": Kind(radii={"small": (1.1, 1.3), "large": (1.1, 1.3)}, colours=("blue",)),
    "tree": Kind(radii={"small": (1.0, 1.3), "large": (1.0, 1.3)}, colours=("green",)),
}
# Trees stand about unnamed: nobody would agree on how many there are.
NAMED_KINDS = tuple(kind for kind in KINDS if kind != "tree")
PLURALS = {kind: f"{kind}s" for kind in KINDS}

GROUND: dict[str, RGB] = {
    "grass": (112, 140, 84),
    "water": (58, 98, 132),
    "tarmac": (104, 105, 110),
    "concrete": (172, 170, 164),
    "dirt": (164, 138, 104),
    "crop": (150, 160, 74),
    "soil": (140, 112, 82),
    "meadow": (92, 128, 66),
    "line": (226, 226, 220),
}


def _rectangle(width: float, height: float) -> tuple[Point, ...]:
    scale = 1 / math.hypot(width, height)
    w, h = width * scale, height * scale
    return ((-w, -h), (w, -h), (w, h), (-w, h))


def _circle(count: int) -> tuple[Point, ...]:
    angles = [2 * math.pi * i / count for i in range(count)]
    return tuple((math.cos(a), math.sin(a)) for a in angles)


def _mirrored(half: list[Point]) -> tuple[Point, ...]:
    """An outline from its lower half, nose to the right."""
    return (*half, *((x, -y) for x, y in reversed(half)))


AERIAL_OUTLINES: dict[str, tuple[Point, ...]] = {
    "vehicle": _rectangle(2.1, 1),
    "ship": _mirrored([(1.0, 0.0), (0.55, 0.26), (-0.85, 0.26), (-1.0, 0.18)]),
    "plane": _mirrored(
        [(1.0, 0.02), (0.85, 0.1), (0.3, 0.11), (-0.25, 0.95), (-0.42, 0.95), (-0.18, 0.11),
         (-0.7, 0.08), (-0.9, 0.38), (-1.0, 0.38), (-0.92, 0.04)]
    ),
    "building": _rectangle(1.35, 1),
    "storage tank": _circle(24),
    "pool": _rectangle(1.7, 1),
    "tree": tuple((x * (1, 0.8)[i % 2], y * (1, 0.8)[i % 2]) for i, (x, y) in enumerate(_circle(14))),
}  # fmt: skip
