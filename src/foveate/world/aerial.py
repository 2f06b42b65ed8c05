"""Large scenes from above: a place with its ground, and many small objects whose every detail is known.

The scene's unit of length is a share of the picture's height that shrinks with difficulty: a car is 2 units long, which
on 1024 pixels is 33, 20 or 13. Owns the six layouts; drawing is in `ground` and `render`, questions in
`aerial_questions`.
"""

from __future__ import annotations

import itertools
import math
import random

from foveate.world.aerial_kinds import AERIAL_HELD_OUT, GROUND, KINDS, PLACES
from foveate.world.scene import Background, MarkerStyle, Patch, Scene, SceneObject
from foveate.world.vocabulary import COLOURS, RGB, Point

_UNITS = {1: 0.016, 2: 0.010, 3: 0.0065}


def aerial_scene(rng: random.Random, seed: int, split: str, difficulty: int, style: MarkerStyle) -> Scene:
    """A scene of any place; the arguments are those of the other domains' makers."""
    place = rng.choice(PLACES)
    site = _Site(rng, split, _UNITS[difficulty])
    _LAYOUTS[place](site)
    ground = "concrete" if place in ("car park", "industrial area") else "grass"
    return Scene(
        domain="aerial",
        seed=seed,
        difficulty=difficulty,
        background=Background(kind="photo", shade=site.shade(GROUND[ground]), seed=rng.randrange(48)),
        objects=tuple(site.objects),
        marker_style=style,
        place=place,
        patches=tuple(site.patches),
    )


class _Site:
    """A scene in the making."""

    def __init__(self, rng: random.Random, split: str, unit: float) -> None:
        self.rng, self.split, self.unit = rng, split, unit
        self.patches: list[Patch] = []
        self.objects: list[SceneObject] = []

    def shade(self, base: RGB) -> RGB:
        """The same colour in another light."""
        light = self.rng.uniform(0.9, 1.07)
        r, g, b = (min(255, max(0, round(light * v + self.rng.uniform(-4, 4)))) for v in base)
        return r, g, b

    def patch(self, ground: str, corners: list[Point], *, furrows: float | None = None) -> None:
        """Ground of one kind."""
        self.patches.append(
            Patch(ground=ground, corners=tuple(corners), shade=self.shade(GROUND[ground]), furrows=furrows)
        )

    def rectangle(self, ground: str, left: float, top: float, right: float, bottom: float) -> None:
        """Upright ground."""
        self.patch(ground, [(left, top), (right, top), (right, bottom), (left, bottom)])

    def stand(
        self,
        kind: str,
        x: float,
        y: float,
        *,
        turn: float = 0.0,
        size: str | None = None,
        spread: float = 2.0,
        apart: float = 0.95,
    ) -> None:
        """An object with its centre there, turned by `turn` degrees and a little more, unless there is no room.

        `apart` is the least distance to others as a share of both radii; long things side by side need little.
        """
        size = size or self.rng.choice(("small", "small", "large"))
        radius = self.unit * self.rng.uniform(*KINDS[kind].radii[size])
        if not all(radius < v < 1 - radius for v in (x, y)):
            return
        if any(math.hypot(o.x - x, o.y - y) < apart * (o.radius + radius) for o in self.objects):
            return
        colour = self.colour(kind)
        self.objects.append(
            SceneObject(
                id=len(self.objects),
                shape=kind,
                colour=colour,
                size=size,
                texture="plain",
                x=x,
                y=y,
                radius=radius,
                rotation=turn + self.rng.uniform(-spread, spread),
                shade=self.shade(COLOURS[colour]),
            )
        )

    def colour(self, kind: str) -> str:
        """One that this kind has, pairs of the test split left to it."""
        return self.rng.choice(
            [c for c in KINDS[kind].colours if self.split == "test" or (c, kind) not in AERIAL_HELD_OUT]
        )

    def scatter(self, kind: str, count: int, area: tuple[float, float, float, float]) -> None:
        """Objects anywhere in an area (left, top, right, bottom) and turned anyhow, as far as there is room."""
        for _ in range(count):
            x, y = self.rng.uniform(area[0], area[2]), self.rng.uniform(area[1], area[3])
            self.stand(kind, x, y, turn=self.rng.uniform(0, 360))


def _car_park(site: _Site) -> None:
    rng, u = site.rng, site.unit
    left, top = rng.uniform(0.06, 0.14), rng.uniform(0.08, 0.2)
    rows = min(8, int((0.78 - top) / (7 * u)))
    right, bottom = rng.uniform(0.8, 0.94), top + rows * 7 * u
    site.rectangle("tarmac", left, top, right, bottom)
    occupied, pitch = rng.uniform(0.2, 0.5), 1.7 * u
    for row in range(rows):
        y = top + (row * 7 + 2.2) * u
        for stall in range(int((right - left) / pitch)):
            x = left + (stall + 0.5) * pitch
            site.rectangle("line", x - 0.5 * pitch, y - 1.5 * u, x - 0.44 * pitch, y + 1.5 * u)
            if rng.random() < occupied:
                site.stand("vehicle", x, y, turn=90, size="small", apart=0.62)
        if rng.random() < 0.4:
            site.stand("vehicle", rng.uniform(left + 0.1, right - 0.1), y + 3.8 * u, size="small")
    for _ in range(rng.randint(1, 3)):
        site.stand("building", rng.uniform(0.12, 0.88), rng.uniform(bottom + 6 * u, 0.97), size="large")
    site.scatter("tree", 12, (0, bottom, 1, 1))


def _harbour(site: _Site) -> None:
    rng, u = site.rng, site.unit
    coast = rng.uniform(0.3, 0.45)
    line = [(coast + rng.uniform(-0.015, 0.015), i / 8) for i in range(9)]
    site.patch("water", [*line, (1.0, 1.0), (1.0, 0.0)])
    quay = coast - 0.02
    site.rectangle("concrete", quay - 7 * u, 0, quay, 1)
    y = rng.uniform(0.06, 0.14)
    while y < 0.95:
        length = rng.uniform(12, 20) * u
        site.rectangle("concrete", quay, y - 0.8 * u, quay + length, y + 0.8 * u)
        x = quay + 4 * u
        while x < quay + length:
            for side in (-1, 1):
                if rng.random() < 0.55:
                    site.stand(
                        "ship", x, y + side * 1.6 * u, turn=rng.choice((0, 180)), size="small", apart=0.62
                    )
            x += 4.8 * u
        y += rng.uniform(9, 14) * u
    site.scatter("ship", rng.randint(2, 7), (min(0.8, quay + 24 * u), 0.05, 0.97, 0.95))
    for _ in range(rng.randint(3, 14)):
        site.stand("vehicle", quay - rng.uniform(2, 6) * u, rng.uniform(0.03, 0.97), turn=90)
    for _ in range(rng.randint(2, 6)):
        site.stand("building", rng.uniform(5 * u, max(6 * u, quay - 13 * u)), rng.random(), turn=90)
    site.scatter("tree", 15, (0, 0, max(0.05, quay - 9 * u), 1))


def _airport(site: _Site) -> None:
    rng, u = site.rng, site.unit
    runway = rng.uniform(0.1, 0.2)
    site.rectangle("tarmac", 0, runway - 3.5 * u, 1, runway + 3.5 * u)
    for dash in range(int(1 / (6 * u))):
        site.rectangle("line", (6 * dash + 1) * u, runway - 0.2 * u, (6 * dash + 4) * u, runway + 0.2 * u)
    apron = rng.uniform(0.42, 0.5)
    across = rng.uniform(0.2, 0.8)
    site.rectangle("tarmac", across - 2 * u, runway, across + 2 * u, apron)
    site.rectangle("concrete", 0.05, apron, 0.95, 0.86)
    if rng.random() < 0.5:
        site.stand("plane", rng.uniform(0.1, 0.9), runway, turn=rng.choice((0, 180)))
    y = apron + 6 * u
    while y < 0.86 - 6 * u:
        x = 0.05 + 7 * u
        while x < 0.95 - 6 * u:
            if rng.random() < 0.4:
                site.stand("plane", x, y, turn=rng.choice((90, 270)), spread=8)
            x += 11 * u
        y += 16 * u
    site.scatter("vehicle", rng.randint(3, 12), (0.06, apron, 0.94, 0.85))
    for x in range(rng.randint(2, 5)):
        site.stand("building", 0.14 + 0.18 * x, 0.93, size="large" if u < 0.012 else "small")


def _farmland(site: _Site) -> None:
    rng, u = site.rng, site.unit
    columns = [0.0, rng.uniform(0.25, 0.4), rng.uniform(0.55, 0.75), 1.0]
    for left, right in itertools.pairwise(columns):
        rows = sorted([0.0, 1.0, *(rng.uniform(0.1, 0.9) for _ in range(rng.randint(1, 3)))])
        for top, bottom in itertools.pairwise(rows):
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            site.patch(rng.choice(("crop", "soil", "meadow")), corners, furrows=rng.choice((None, 0.0, 90.0)))
    lane = rng.choice(columns[1:3])
    site.rectangle("dirt", lane - 1.2 * u, 0, lane + 1.2 * u, 1)
    farm = rng.uniform(0.2, 0.8)
    for _ in range(rng.randint(1, 5)):
        x = lane + rng.choice((-1, 1)) * rng.uniform(5, 12) * u
        site.stand("building", x, farm + rng.uniform(-14, 14) * u, turn=rng.choice((0, 90)))
    for _ in range(rng.randint(1, 4)):
        site.stand("vehicle", lane, rng.uniform(0.05, 0.95), turn=90)
    site.scatter("tree", 25, (0, 0, 1, 1))


def _industrial_area(site: _Site) -> None:
    rng, u = site.rng, site.unit
    road = rng.uniform(0.42, 0.56)
    site.rectangle("tarmac", 0, road - 2.4 * u, 1, road + 2.4 * u)
    for _ in range(rng.randint(3, 12)):
        site.stand("vehicle", rng.uniform(0.03, 0.97), road + rng.choice((-1.1, 1.1)) * u)
    for _ in range(rng.randint(1, 3)):
        x0, y0 = rng.uniform(0.05, 0.7), rng.choice((rng.uniform(0.05, 0.2), rng.uniform(0.64, 0.75)))
        size = rng.choice(("small", "large"))
        pitch = (4.6 if size == "small" else 7.6) * u
        for row in range(rng.randint(1, 3)):
            for column in range(rng.randint(2, 5)):
                x, y = x0 + column * pitch, y0 + row * pitch
                if abs(y - road) > 6.5 * u:
                    site.stand("storage tank", x, y, size=size)
    for _ in range(rng.randint(3, 9)):
        y = rng.choice((rng.uniform(0.05, road - 9 * u), rng.uniform(road + 9 * u, 0.95)))
        site.stand("building", rng.random(), y, turn=rng.choice((0, 90)))


def _residential_area(site: _Site) -> None:
    rng, u = site.rng, site.unit
    across, down = rng.uniform(17, 21) * u, rng.uniform(26, 32) * u
    first_column, first_row = rng.uniform(0, across), rng.uniform(0, 0.3 * down)
    columns = [first_column + i * across for i in range(1 + int(1 / across))]
    rows = [first_row + i * down for i in range(1 + int(1 / down))]
    for x in columns:
        site.rectangle("tarmac", x - 1.6 * u, 0, x + 1.6 * u, 1)
    for y in rows:
        site.rectangle("tarmac", 0, y - 1.6 * u, 1, y + 1.6 * u)
    for x in columns:
        for side in (-1, 1):
            y = rng.uniform(2, 5) * u
            while y < 1:
                clear = all(abs(y - row) > 5 * u for row in rows)
                if clear and rng.random() < 0.55:
                    site.stand("building", x + side * 5 * u, y, turn=90, size="small")
                    if rng.random() < 0.2:
                        site.stand("pool", x + side * 8.9 * u, y + rng.uniform(-1, 1) * u)
                y += 7 * u
        for _ in range(rng.randint(0, 3)):
            site.stand("vehicle", x + rng.choice((-0.8, 0.8)) * u, rng.random(), turn=90, size="small")
    for y in rows:
        for _ in range(rng.randint(0, 3)):
            site.stand("vehicle", rng.random(), y + rng.choice((-0.8, 0.8)) * u, size="small")
    site.scatter("tree", 20, (0, 0, 1, 1))


_LAYOUTS = {
    "airport": _airport,
    "car park": _car_park,
    "farmland": _farmland,
    "harbour": _harbour,
    "industrial area": _industrial_area,
    "residential area": _residential_area,
}
