"""Moving scenes that never end: objects enter, leave and turn colour, and the truth about every second.

Owns what happens when, what is seen at any time, and what somebody who watches objects of one colour should say:
which colour is told only at the start, and no later picture or comment names it. Objects keep to the cells of a
3 x 3 raster, so none hides another and every count can be seen. Draws no pixels (see `render`) and knows no model.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from foveate.errors import FoveateError, nearest
from foveate.world.sampling import SPLITS, scene_seed
from foveate.world.scene import Background, Scene, SceneObject
from foveate.world.vocabulary import COLOURS, HELD_OUT, MAX_ROTATION, RGB, SHAPES, SIZE_RADII, SIZES, TEXTURES

ENTERS, LEAVES, TURNS = "enters", "leaves", "turns"
SILENCE = "..."
WATCH_QUESTION = "Which colour do you watch?"
CELLS, FEWEST, MOST, PALETTE = 9, 2, 6, 3
_SIDE = 3
_EVENT_SHARE = 0.45  # of the seconds
_REACH = 1.15  # of the radius: how far the widest outline comes


@dataclass(frozen=True, kw_only=True, slots=True)
class MovingEvent:
    """What happens at the start of a second: it is seen from then on.

    Attributes:
        kind: "enters", "leaves" or "turns".
        shape: of the object.
        colour: it has before, or enters with.
        turned: the colour it has afterwards; the same where it does not turn.
    """

    second: int
    kind: str
    shape: str
    colour: str
    turned: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stay:
    """One object of one colour in one cell, from a second up to another."""

    item: SceneObject
    cell: int
    first: int
    last: int
    pace: tuple[float, float]
    phase: tuple[float, float]

    def at(self, seconds: float) -> SceneObject:
        """The object swings about the middle of its cell."""
        room = 0.5 / _SIDE - _REACH * self.item.radius
        x, y = (
            (place + 0.5) / _SIDE + room * math.sin(pace * seconds + phase)
            for place, pace, phase in zip(
                (self.cell % _SIDE, self.cell // _SIDE), self.pace, self.phase, strict=True
            )
        )
        return dataclasses.replace(self.item, x=x, y=y)


@dataclass(frozen=True, kw_only=True)
class MovingScene:
    """A stream of `seconds` seconds; at most one thing happens in each.

    Attributes:
        palette: the colours that occur.
        events: in their order, the first second's none.
    """

    seed: int
    seconds: int
    background: Background
    palette: tuple[str, ...]
    events: tuple[MovingEvent, ...]
    stays: tuple[_Stay, ...]

    def at(self, seconds: float) -> Scene:
        """What is seen at a time from 0.

        Raises:
            FoveateError: a time outside the stream.
        """
        if not 0 <= seconds < self.seconds:
            raise FoveateError(
                f"There is no second {seconds:g}", why=f"the stream has {self.seconds}, from 0"
            )
        there = [stay.at(seconds) for stay in self._there(int(seconds))]
        return Scene(domain="shapes", seed=self.seed, background=self.background, objects=tuple(there))

    def _there(self, second: int) -> list[_Stay]:
        last = bisect.bisect_right(self._firsts, second)
        # Stays are in the order of their beginnings; only the newest of each cell can still be there.
        return [stay for stay in self.stays[self._oldest[second] : last] if stay.first <= second < stay.last]

    @cached_property
    def _firsts(self) -> list[int]:
        return [stay.first for stay in self.stays]

    @cached_property
    def _oldest(self) -> list[int]:
        """By second, the first stay that has not ended before it."""
        oldest, index = [], 0
        for second in range(self.seconds):
            while self.stays[index].last <= second:
                index += 1
            oldest.append(index)
        return oldest

    @cached_property
    def _by_second(self) -> dict[int, MovingEvent]:
        return {event.second: event for event in self.events}

    def event(self, second: int) -> MovingEvent | None:
        """What happens at the start of a second."""
        return self._by_second.get(second)

    def count(self, colour: str, second: int) -> int:
        """Objects of a colour that are seen in a second."""
        return sum(stay.item.colour == colour for stay in self._there(second))

    def comment(self, colour: str, second: int) -> str:
        """What somebody says who watches a colour: the shapes of its objects as one reads them, row by row, or "..."
        where there are none. The colour itself is never named."""
        watched = [stay for stay in self._there(second) if stay.item.colour == colour]
        return ", ".join(stay.item.shape for stay in sorted(watched, key=lambda stay: stay.cell)) or SILENCE

    def changes(self, colour: str, second: int) -> bool:
        """Whether what happens at the start of a second is about objects of a colour."""
        event = self.event(second)
        return event is not None and colour in (event.colour, event.turned)


def instruction(colour: str) -> str:
    """What is said once, before the first second."""
    return f"Watch the {colour} objects."


def sample_moving(split: str, index: int, *, seconds: int) -> MovingScene:
    """The stream with this index; the same arguments give the same stream, a longer one begins as a shorter does.

    Args:
        split: "train", "validation" or "test": streams of different splits have different seeds.
        index: 0, 1, 2, ...

    Raises:
        FoveateError: an unknown split, or no second.
    """
    if split not in SPLITS:
        raise FoveateError(f"Unknown split {split!r}", fix=nearest(split, SPLITS))
    if seconds < 1:
        raise FoveateError(f"A stream of {seconds} seconds", why="the least is 1")
    seed = scene_seed("moving", split, index)
    rng = random.Random(seed)
    level = rng.randint(118, 196)
    background = Background(
        kind=rng.choice(("plain", "gradient")), shade=_jittered(rng, (level, level, level), 12)
    )
    palette = tuple(rng.sample(list(COLOURS), PALETTE))
    course = _Course(rng, palette)
    for second in range(1, seconds):
        course.go_on(second)
    return MovingScene(
        seed=seed,
        seconds=seconds,
        background=background,
        palette=palette,
        events=tuple(course.events),
        stays=tuple(course.ended(seconds)),
    )


def _jittered(rng: random.Random, shade: RGB, amount: int) -> RGB:
    red, green, blue = (min(255, max(0, value + rng.randint(-amount, amount))) for value in shade)
    return red, green, blue


class _Course:
    """What happens, drawn second by second."""

    def __init__(self, rng: random.Random, palette: tuple[str, ...]) -> None:
        self._rng, self._palette = rng, palette
        self._there: dict[int, _Stay] = {}  # by cell
        self._gone: list[_Stay] = []
        self._made = 0
        self.events: list[MovingEvent] = []
        for _ in range(rng.randint(FEWEST + 1, MOST - 1)):
            self._enter(0)

    def go_on(self, second: int) -> None:
        """One second."""
        if self._rng.random() >= _EVENT_SHARE:
            return
        kinds = [TURNS]
        kinds += [ENTERS] if len(self._there) < MOST else []
        kinds += [LEAVES] if len(self._there) > FEWEST else []
        kind = self._rng.choice(kinds)
        if kind == ENTERS:
            item = self._enter(second)
            self._tell(second, kind, item, item.colour)
            return
        stay = self._there[self._rng.choice(sorted(self._there))]
        self._end(stay, second)
        turned = stay.item.colour
        if kind == TURNS:
            turned = self._rng.choice([c for c in self._colours(stay.item.shape) if c != turned])
            item = dataclasses.replace(stay.item, colour=turned, shade=self._shade(turned))
            self._there[stay.cell] = dataclasses.replace(stay, item=item, first=second)
        self._tell(second, kind, stay.item, turned)

    def ended(self, second: int) -> Iterator[_Stay]:
        """All stays, in the order of their beginnings, the last up to this second."""
        for stay in list(self._there.values()):
            self._end(stay, second)
        return iter(sorted(self._gone, key=lambda stay: (stay.first, stay.item.id)))

    def _end(self, stay: _Stay, second: int) -> None:
        del self._there[stay.cell]
        self._gone.append(dataclasses.replace(stay, last=second))

    def _tell(self, second: int, kind: str, item: SceneObject, turned: str) -> None:
        self.events.append(
            MovingEvent(second=second, kind=kind, shape=item.shape, colour=item.colour, turned=turned)
        )

    def _colours(self, shape: str) -> list[str]:
        return [colour for colour in self._palette if (colour, shape) not in HELD_OUT]

    def _shade(self, colour: str) -> RGB:
        return _jittered(self._rng, COLOURS[colour], 14)

    def _enter(self, second: int) -> SceneObject:
        rng = self._rng
        shape = rng.choice(SHAPES)
        colour, size = rng.choice(self._colours(shape)), rng.choice(SIZES)
        turn = MAX_ROTATION[shape]
        item = SceneObject(
            id=self._made,
            shape=shape,
            colour=colour,
            size=size,
            texture=rng.choice(TEXTURES),
            x=0.0,
            y=0.0,
            radius=min(rng.uniform(*SIZE_RADII[size]), 0.5 / _SIDE / _REACH),
            rotation=rng.uniform(-turn, turn),
            shade=self._shade(colour),
        )
        self._made += 1
        cell = rng.choice([cell for cell in range(CELLS) if cell not in self._there])
        first, second_axis = ((rng.uniform(0.3, 1.2), rng.uniform(0, math.tau)) for _ in range(2))
        self._there[cell] = _Stay(
            item=item,
            cell=cell,
            first=second,
            last=second,
            pace=(first[0], second_axis[0]),
            phase=(first[1], second_axis[1]),
        )
        return item
