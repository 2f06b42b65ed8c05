"""What is in a picture: frozen, resolution-free descriptions of scenes.

Lengths are in units of the image height: y runs from 0 (top) to 1, x from 0 (left) to `aspect`. Depth runs
from 0 (nearest) to 1 (farthest). Owns no pixels (see `render`) and no questions (see `questions`).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from foveate.world.aerial_kinds import AERIAL_OUTLINES
from foveate.world.vocabulary import OUTLINES, RGB, Point

_ALL_OUTLINES = OUTLINES | AERIAL_OUTLINES

Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """One flat object. `shade` is its actual RGB, a jittered version of the named `colour`."""

    id: int
    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    radius: float
    rotation: float = 0.0
    depth: float = 0.5
    text: str = ""
    velocity: tuple[float, float] = (0.0, 0.0)
    shade: RGB = (128, 128, 128)

    def outline(self) -> list[Point]:
        """Polygon corners in scene units."""
        angle = math.radians(self.rotation)
        cos, sin = self.radius * math.cos(angle), self.radius * math.sin(angle)
        return [
            (self.x + cos * px - sin * py, self.y + sin * px + cos * py)
            for px, py in _ALL_OUTLINES[self.shape]
        ]

    def box(self) -> Box:
        """Smallest axis-aligned box (left, top, right, bottom) of the whole outline, hidden parts too."""
        xs, ys = zip(*self.outline(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def distance(self, other: SceneObject) -> float:
        return math.hypot(self.x - other.x, self.y - other.y)


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """`kind` is plain, gradient, weave, speckle or photo (many-octave noise with sensor grain)."""

    kind: str
    shade: RGB
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class MarkerStyle:
    """How lettered markers look. The defaults follow VPBench's: a small red circle, label above it.

    `radius` and `font_size` are in units of the image height.
    """

    shape: str = "circle"
    colour: str = "red"
    radius: float = 0.03
    label_position: str = "above"
    font_size: float = 0.095
    labels: str = "letters"


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker:
    label: str
    x: float
    y: float
    object_id: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TextBlock:
    """One printed line; (x, y) is its left top corner, `height` its font size."""

    text: str
    x: float
    y: float
    height: float
    shade: RGB = (20, 20, 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A grid of printed cells; the first row is the header and the first column names the rows."""

    rows: tuple[tuple[str, ...], ...]
    x: float
    y: float
    column_width: float
    row_height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BarChart:
    """Vertical bars over lettered labels, with an axis from 0 to `maximum` and a grid line per unit step."""

    labels: tuple[str, ...]
    values: tuple[int, ...]
    shades: tuple[RGB, ...]
    maximum: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Patch:
    """A piece of ground seen from above; `furrows` is their direction in degrees, None for none."""

    ground: str
    corners: tuple[Point, ...]
    shade: RGB
    furrows: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything that a renderer draws and a question may ask about. `place` and `patches`: aerial scenes only."""

    domain: str
    seed: int
    background: Background
    aspect: float = 1.0
    difficulty: int = 2
    objects: tuple[SceneObject, ...] = ()
    texts: tuple[TextBlock, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[BarChart, ...] = ()
    markers: tuple[Marker, ...] = ()
    marker_style: MarkerStyle = MarkerStyle()
    place: str = ""
    patches: tuple[Patch, ...] = ()

    def far_to_near(self) -> list[SceneObject]:
        return sorted(self.objects, key=lambda o: (-o.depth, o.id))

    def at(self, seconds: float) -> Scene:
        """The scene after `seconds`: objects move by their velocity (units per second) and bounce off the edges."""
        moved = []
        for o in self.objects:
            x = _bounce(o.x + seconds * o.velocity[0], o.radius, self.aspect - o.radius)
            y = _bounce(o.y + seconds * o.velocity[1], o.radius, 1 - o.radius)
            moved.append(dataclasses.replace(o, x=x, y=y))
        centres = {o.id: o for o in moved}
        markers = tuple(
            dataclasses.replace(m, x=centres[m.object_id].x, y=centres[m.object_id].y) for m in self.markers
        )
        return dataclasses.replace(self, objects=tuple(moved), markers=markers)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-ready values; what only aerial scenes have is absent from others."""
        values = dataclasses.asdict(self)
        if self.domain != "aerial":
            del values["place"], values["patches"]
        return values


def _bounce(position: float, low: float, high: float) -> float:
    span = high - low
    if span <= 0:
        return position
    offset = (position - low) % (2 * span)
    return low + (offset if offset <= span else 2 * span - offset)
