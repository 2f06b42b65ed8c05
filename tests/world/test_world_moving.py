"""Moving scenes: what is said about them is what their pixels show."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from foveate.errors import FoveateError
from foveate.media import open_live
from foveate.world import render
from foveate.world.moving import (
    ENTERS,
    LEAVES,
    SILENCE,
    TURNS,
    WATCH_QUESTION,
    instruction,
    sample_moving,
)
from foveate.world.vocabulary import COLOURS, HELD_OUT


def shown(scene, second):
    """{id: colour} of the objects whose pixels are seen, by the picture's own masks."""
    there = scene.at(second)
    ids = set(np.unique(render(there, 84).ids).tolist()) - {-1}
    assert ids == {item.id for item in there.objects}, "an object is hidden or is none"
    return {item.id: item.colour for item in there.objects}


def read(scene, colour, second):
    """What a reader of the picture says: shapes row by row, by where their pixels are."""
    there = scene.at(second)
    picture = render(there, 84)
    found = []
    for item in there.objects:
        if item.colour == colour:
            rows, columns = np.nonzero(picture.mask(item.id))
            found.append((int(rows.mean() // 28), int(columns.mean() // 28), item.shape))
    return ", ".join(shape for _, _, shape in sorted(found)) or SILENCE


def test_a_longer_stream_begins_as_a_shorter_one_and_splits_differ():
    long, short = (sample_moving("test", 3, seconds=seconds) for seconds in (200, 50))
    assert short.events == tuple(event for event in long.events if event.second < 50)
    assert all(long.at(t / 2) == short.at(t / 2) for t in range(100))
    assert sample_moving("train", 3, seconds=50).events != short.events
    assert long.at(7) != long.at(7.5), "nothing moves"


@pytest.mark.parametrize("index", range(4))
def test_events_and_comments_are_what_the_pixels_show(index):
    scene = sample_moving("train", index, seconds=80)
    seen = [shown(scene, second) for second in range(80)]
    kinds = set()
    for second, (before, after) in enumerate(itertools.pairwise(seen), start=1):
        event = scene.event(second)
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        assert len(changed) == (event is not None)
        for colour in COLOURS:
            now = [key for key, value in after.items() if value == colour]
            was = [key for key, value in before.items() if value == colour]
            assert scene.count(colour, second) == len(now)
            assert scene.changes(colour, second) == (now != was)
            assert scene.comment(colour, second) == read(scene, colour, second)
            assert colour not in scene.comment(colour, second), "it tells what only the start may tell"
        if event is not None:
            (key,) = changed
            kind = ENTERS if key not in before else LEAVES if key not in after else TURNS
            assert event.kind == kind
            assert (event.colour, event.turned) == (
                before.get(key, after.get(key)),
                after.get(key, before.get(key)),
            )
            kinds.add(kind)
    assert kinds == {ENTERS, LEAVES, TURNS}


def test_objects_keep_apart_inside_the_picture_and_off_the_held_out_kinds():
    for index, second in itertools.product(range(5), range(0, 60, 7)):
        scene = sample_moving("validation", index, seconds=60)
        boxes = []
        for item in scene.at(second + 0.3).objects:
            left, top, right, bottom = item.box()
            assert min(left, top) >= 0 and max(right, bottom) <= 1
            assert (item.colour, item.shape) not in HELD_OUT and item.colour in scene.palette
            assert all(right <= x0 or left >= x1 or bottom <= y0 or top >= y1 for x0, y0, x1, y1 in boxes), (
                "two objects overlap"
            )
            boxes.append((left, top, right, bottom))


def test_the_instruction_names_what_the_question_asks_for():
    assert instruction("red") == "Watch the red objects." and "colour" in WATCH_QUESTION


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sample_moving("tain", 0, seconds=5), "Did you mean 'train'"),
        (lambda: sample_moving("train", 0, seconds=0), "the least is 1"),
        (lambda: sample_moving("train", 0, seconds=5).at(5), "has 5, from 0"),
    ],
)
def test_what_is_not_there_is_refused(make, said):
    with pytest.raises(FoveateError) as caught:
        make()
    assert said in str(caught.value)


def test_the_example_is_what_its_script_makes(tmp_path):
    examples = Path(__file__).parents[2] / "examples"
    spec = importlib.util.spec_from_file_location("make_events", examples / "make_events.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    made.main(tmp_path / "events.mp4", seconds=6)
    with open_live(tmp_path / "events.mp4") as one, open_live(examples / "events.mp4") as other:
        for mine, kept in zip(one.frames(), other.frames(), strict=False):
            assert mine.seconds == kept.seconds
            assert np.abs(mine.pixels().astype(int) - kept.pixels().astype(int)).mean() < 8
    assert kept.seconds >= 5
