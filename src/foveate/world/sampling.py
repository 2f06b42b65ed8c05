"""Draws scenes at random: which objects, words, tables and charts, and where.

Every scene is a pure function of (domain, split, index, difficulty). Splits draw from disjoint seed streams,
and training and validation never contain the held-out combinations of `vocabulary.HELD_OUT`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random

from foveate.errors import FoveateError, nearest
from foveate.world.aerial import aerial_scene
from foveate.world.scene import (
    Background,
    BarChart,
    Marker,
    MarkerStyle,
    Scene,
    SceneObject,
    Table,
    TextBlock,
)
from foveate.world.vocabulary import (
    COLOURS,
    HELD_OUT,
    MAX_ROTATION,
    RGB,
    SHAPES,
    SIZE_RADII,
    SIZES,
    TEST_ONLY_WORDS,
    TEXTURES,
    TRAIN_WORDS,
    WORDS,
)

DOMAINS = ("shapes", "page", "aerial")
SPLITS = ("train", "validation", "test")
MAX_DIFFICULTY = 3

# Objects per scene, and how near two centres may come as a share of the sum of their radii (1 = touching).
_OBJECTS = {1: (2, 4), 2: (3, 6), 3: (5, 9)}
_SPACING = {1: 1.12, 2: 0.9, 3: 0.75}
_BACKGROUNDS = {1: ("plain", "gradient"), 2: ("plain", "gradient", "weave", "speckle", "photo")}
_CONSONANTS, _VOWELS = "BCDFGHJKLMNPRSTVWXZ", "AEIOUY"


def scene_seed(domain: str, split: str, index: int, difficulty: int = 2) -> int:
    """A 64-bit seed; streams of different splits cannot meet because the split's name is hashed in."""
    text = f"foveate-world-1/{domain}/{split}/{difficulty}/{index}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def sample_scene(
    domain: str, split: str, index: int, *, difficulty: int = 2, marker_style: MarkerStyle | None = None
) -> Scene:
    """The scene with this index.

    Args:
        domain: "shapes", "page" or "aerial".
        split: "train", "validation" or "test".
        index: 0, 1, 2, ...
        difficulty: 1 (few objects, no overlap, plain ground), 2, or 3 (up to nine objects, more overlap).
        marker_style: how markers look, if the scene gets any.

    Raises:
        FoveateError: an unknown domain or split, or a difficulty out of range.
    """
    if domain not in DOMAINS:
        raise FoveateError(f"Unknown domain {domain!r}", fix=nearest(domain, DOMAINS))
    if split not in SPLITS:
        raise FoveateError(f"Unknown split {split!r}", fix=nearest(split, SPLITS))
    if not 1 <= difficulty <= MAX_DIFFICULTY:
        raise FoveateError(f"Difficulty {difficulty} is out of range", fix=f"Choose 1 to {MAX_DIFFICULTY}.")
    seed = scene_seed(domain, split, index, difficulty)
    rng = random.Random(seed)
    make = {"shapes": _shapes, "page": _page, "aerial": aerial_scene}[domain]
    return make(rng, seed, split, difficulty, marker_style or MarkerStyle())


def _jitter(rng: random.Random, shade: RGB, amount: int) -> RGB:
    r, g, b = (min(255, max(0, value + rng.randint(-amount, amount))) for value in shade)
    return r, g, b


def _background(rng: random.Random, difficulty: int) -> Background:
    level = rng.randint(118, 196)
    kind = rng.choice(_BACKGROUNDS[min(difficulty, 2)])
    return Background(kind=kind, shade=_jitter(rng, (level, level, level), 12), seed=rng.randrange(48))


def _word(rng: random.Random, split: str) -> str:
    """A printed word of three to five capitals; three in five in training are made up, against memorising."""
    if split == "test":
        return rng.choice(WORDS)
    if rng.random() < 0.4:
        return rng.choice(TRAIN_WORDS)
    while True:
        start = rng.random() < 0.8
        length = rng.choice((3, 4, 4, 5, 5))
        word = "".join(rng.choice(_CONSONANTS if start == (i % 2 == 0) else _VOWELS) for i in range(length))
        if rng.random() < 0.4:  # clusters, double letters and everything else that alternation misses
            place = rng.randrange(length)
            word = word[:place] + rng.choice(_CONSONANTS + _VOWELS + "Q") + word[place + 1 :]
        if word not in TEST_ONLY_WORDS:
            return word


def _number(rng: random.Random, digits: int) -> str:
    return str(rng.randint(10 ** (digits - 1), 10**digits - 1))


# -- shapes ---------------------------------------------------------------------------------------------


def _kinds(rng: random.Random, split: str, count: int) -> list[tuple[str, str]]:
    """(colour, shape) of each object. Some scenes repeat a colour or a shape, so that counts above two occur."""
    colours, shapes = list(COLOURS), list(SHAPES)
    mode = rng.random()
    if mode < 0.3:
        shapes = rng.sample(shapes, 2)
    elif mode < 0.55:
        colours = rng.sample(colours, 2)
    elif mode < 0.7:
        shapes, colours = rng.sample(shapes, 2), rng.sample(colours, 2)
    kinds: list[tuple[str, str]] = []
    favourite: tuple[str, str] | None = None
    for _ in range(count):
        while True:
            kind = rng.choice(colours), rng.choice(shapes)
            if favourite and rng.random() < 0.5:
                kind = rng.choice(colours), favourite[1]
            if split == "test" or kind not in HELD_OUT:
                break
            if all((c, s) in HELD_OUT for c in colours for s in shapes):
                colours = list(COLOURS)
        if mode < 0.3 and favourite is None:
            favourite = kind
        kinds.append(kind)
    return kinds


def _place(
    rng: random.Random, radii: list[float], spacing: float, aspect: float
) -> list[tuple[float, float]] | None:
    """Centres with pairwise distance of at least spacing * (r1 + r2); None when the picture is too full."""
    placed: list[tuple[float, float]] = []
    for i, radius in enumerate(radii):
        for _ in range(60):
            x = rng.uniform(radius * 1.12, aspect - radius * 1.12)
            y = rng.uniform(radius * 1.12, 1 - radius * 1.12)
            gaps = (
                (x - px) ** 2 + (y - py) ** 2 - (spacing * (radius + radii[j])) ** 2
                for j, (px, py) in enumerate(placed)
            )
            if all(gap > 0 for gap in gaps):
                placed.append((x, y))
                break
        if len(placed) <= i:
            return None
    return placed


def _label(rng: random.Random, split: str, size: str) -> str:
    if size == "small":
        return ""
    roll = rng.random()
    if roll < 0.5:
        return ""
    if roll < 0.75:
        return rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ")
    return _number(rng, rng.choice((1, 2)))


def _shapes(rng: random.Random, seed: int, split: str, difficulty: int, style: MarkerStyle) -> Scene:
    low, high = _OBJECTS[difficulty]
    count = rng.randint(low, high)
    sizes = [rng.choice(SIZES) for _ in range(count)]
    placed = None
    while placed is None:
        radii = [rng.uniform(*SIZE_RADII[size]) for size in sizes]
        placed = _place(rng, radii, _SPACING[difficulty], 1.0)
        if placed is None and "large" in sizes:  # too full: shrink one object rather than drop it
            sizes[sizes.index("large")] = "small"
    objects = []
    depths = rng.sample(range(100), count)
    for i, (colour, shape) in enumerate(_kinds(rng, split, count)):
        solid = shape not in ("ring", "crescent", "cross")
        turn = MAX_ROTATION[shape]
        objects.append(
            SceneObject(
                id=i,
                shape=shape,
                colour=colour,
                size=sizes[i],
                texture=rng.choice(TEXTURES) if difficulty > 1 else rng.choice(("plain", "plain", "striped")),
                x=placed[i][0],
                y=placed[i][1],
                radius=radii[i],
                rotation=rng.uniform(-turn, turn),
                depth=depths[i] / 100,
                text=_label(rng, split, sizes[i]) if solid else "",
                velocity=(rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)),
                shade=_jitter(rng, COLOURS[colour], 14),
            )
        )
    markers: tuple[Marker, ...] = ()
    if rng.random() < 0.3 and count >= 2:
        markers = _markers(rng, objects, style)
        marked = {m.object_id for m in markers}  # a marker would cover the print
        objects = [dataclasses.replace(o, text="") if o.id in marked else o for o in objects]
    return Scene(
        domain="shapes",
        seed=seed,
        difficulty=difficulty,
        background=_background(rng, difficulty),
        objects=tuple(objects),
        markers=markers,
        marker_style=style,
    )


def _markers(rng: random.Random, objects: list[SceneObject], style: MarkerStyle) -> tuple[Marker, ...]:
    chosen = rng.sample(objects, min(len(objects), rng.randint(2, 4)))
    labels = "ABCD" if style.labels == "letters" else "1234"
    return tuple(
        Marker(label=labels[i], x=item.x, y=item.y, object_id=item.id) for i, item in enumerate(chosen)
    )


# -- page -----------------------------------------------------------------------------------------------


def _page(rng: random.Random, seed: int, split: str, difficulty: int, style: MarkerStyle) -> Scene:
    level = rng.randint(225, 252)
    background = Background(
        kind=rng.choice(("plain", "plain", "gradient", "speckle")),
        shade=_jitter(rng, (level, level, level - 6), 4),
        seed=rng.randrange(48),
    )
    roll = rng.random()
    texts: tuple[TextBlock, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[BarChart, ...] = ()
    if roll < 0.6:
        texts = _lines(rng, split, difficulty)
    elif roll < 0.8:
        tables = (_table(rng, split, difficulty),)
    else:
        charts = (_chart(rng, difficulty),)
    return Scene(
        domain="page",
        seed=seed,
        difficulty=difficulty,
        background=background,
        texts=texts,
        tables=tables,
        charts=charts,
        marker_style=style,
    )


def _lines(rng: random.Random, split: str, difficulty: int) -> tuple[TextBlock, ...]:
    """One to five printed lines, each a word or a number, from top to bottom."""
    count = rng.randint(1, 2 + difficulty)
    tallest = {1: 0.26, 2: 0.22, 3: 0.18, 4: 0.16, 5: 0.14}[count]
    blocks = []
    step = 0.92 / count
    for i in range(count):
        text = _word(rng, split) if rng.random() < 0.6 else _number(rng, rng.choice((2, 3, 4)))
        height = rng.uniform(0.8 * tallest, tallest)
        width = 0.72 * height * len(text)  # capitals of this font are at most 0.72 em wide, W apart
        if width > 0.92:
            height *= 0.92 / width
            width = 0.92
        y = 0.04 + i * step + rng.uniform(0, max(0.0, step - height))
        shade = _jitter(rng, rng.choice(((25, 25, 25), (25, 25, 25), (150, 30, 30), (30, 50, 150))), 15)
        blocks.append(
            TextBlock(text=text, x=rng.uniform(0.03, 0.97 - width), y=y, height=height, shade=shade)
        )
    return tuple(blocks)


def _table(rng: random.Random, split: str, difficulty: int) -> Table:
    rows, columns = rng.randint(2, 2 + difficulty), rng.choice((2, 3))
    names: list[str] = []
    while len(names) < rows + columns:
        word = _word(rng, split)[:3]
        if word not in names and (split == "test" or word not in TEST_ONLY_WORDS):
            names.append(word)
    header = ("", *names[rows : rows + columns - 1])
    body = [(names[r], *(_number(rng, rng.choice((1, 2))) for _ in range(columns - 1))) for r in range(rows)]
    width, height = 0.92 / columns, min(0.2, 0.92 / (rows + 1))
    x = rng.uniform(0.03, 0.05)
    y = rng.uniform(0.03, 0.97 - height * (rows + 1))
    return Table(rows=(header, *body), x=x, y=y, column_width=width, row_height=height)


def _chart(rng: random.Random, difficulty: int) -> BarChart:
    count = rng.randint(2, 3 + difficulty)
    letters = "ABCDEFGH"[:count]
    maximum = 10
    values = tuple(rng.randint(1, maximum) for _ in range(count))
    named = rng.sample([c for c in COLOURS if c != "white"], count)
    return BarChart(
        labels=tuple(letters),
        values=values,
        shades=tuple(_jitter(rng, COLOURS[c], 14) for c in named),
        maximum=maximum,
        x=0.16,
        y=rng.uniform(0.05, 0.1),
        width=0.8,
        height=rng.uniform(0.7, 0.76),
    )
