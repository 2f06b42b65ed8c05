"""Boxes and polygons as models write them: read exactly or reported as unreadable, never guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.evaluate.boxes import (
    FORMATS,
    instruction,
    read_boxes,
    read_polygons,
    write_boxes,
    write_polygons,
)
from foveate.evaluate.contract import EvaluationError

SIZE = (640, 480)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hundredths", "[25, 50, 75, 100]"),
        ("hundredths", "25, 50, 75, 100"),
        ("hundredths", "The red star is at [25, 50, 75, 100]."),
        ("thousandths", "[250, 500, 750, 1000]"),
        ("pixels", "[160, 240.0, 480, 480]"),
        ("unit", "[0.25, 0.5, 0.75, 1.0]"),
        ("json-thousandths", '```json\n[{"bbox_2d": [250, 500, 750, 1000], "label": "star"}]\n```'),
        ("json-pixels", '{"bbox_2d": [160, 240, 480, 480]}'),
        ("gemini", '[{"box_2d": [500, 250, 1000, 750], "label": "star"}]'),
        ("qwen", "<ref>star</ref><box>(250,500),(750,1000)</box>"),
        (
            "qwen",
            "<|object_ref_start|>star<|object_ref_end|><|box_start|>(250,500),(750,1000)<|box_end|>",
        ),
        ("qwen", "star (250, 500), (750, 1000)"),
        ("paligemma", "<loc0512><loc0256><loc1024><loc0768> star"),
        ("minigpt", "{<25><50><75><100>}"),
    ],
)
def test_each_notation_gives_the_same_box(name, text):
    reading = read_boxes(text, name, size=SIZE)
    assert reading.broken == ()
    assert reading.shapes == ((0.25, 0.5, 0.75, 1.0),)


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("thousandths", "star [1, 2, 3, 4]; red circle: [5, 6, 7, 8].", ["star", "red circle"]),
        ("thousandths", "- star [1, 2, 3, 4]\n- cross [5, 6, 7, 8]\n", ["star", "cross"]),
        ("paligemma", "<loc0001><loc0002><loc0003><loc0004> a cat ; <loc0001><loc0002><loc0003><loc0004> dog",
         ["a cat", "dog"]),
        ("qwen", "<ref>cat</ref><box>(1,2),(3,4)</box><ref>dog</ref><box>(1,2),(3,4)</box>", ["cat", "dog"]),
        ("json-thousandths", '[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [1, 2, 3, 4]}]', ["cat", ""]),
        ("thousandths", "none", []),
        ("thousandths", "There is no red star.", []),
        ("thousandths", "There are no red stars visible in the image.", []),
        ("thousandths", "There are no such objects", []),
        ("qwen", "<think>[1, 2</think>None", []),
        ("json-pixels", "[]", []),
    ],
)  # fmt: skip
def test_labels_stay_with_their_boxes(name, text, labels):
    reading = read_boxes(text, name, size=SIZE, asked=("red star",))
    assert reading.entries is not None and [label for label, _ in reading.entries] == labels


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("thousandths", "", "empty"),
        ("thousandths", "I cannot see it", "no box in"),
        ("thousandths", "no idea", "no box in"),
        ("thousandths", "<think>perhaps [1, 2, 3, 4]", "empty"),
        ("thousandths", "star [1, 2, 3, 4]; circle [5, 6, 7", "cannot read"),
        ("thousandths", "star [1, 2, 3, 4]; circle [5, 6, 7]", "not four numbers"),
        ("thousandths", "[0.1, 0.2, 0.3, 0.4]", "not whole numbers"),
        ("thousandths", "[100, 200, 90, 400]", "no area"),
        ("thousandths", "[100, 200, 1900, 2400]", "outside the picture"),
        ("hundredths", "[100, 200, 300, 400]", "outside the picture"),
        ("unit", "[12, 20, 30, 40]", "outside the picture"),
        ("thousandths", "[999999999999, 2, 3, 4]", "no box in"),
        ("json-thousandths", '[{"bbox_2d": [1, 2, 3, 4], "label": "a"}, {"bbox_2d": [5, 6', "not JSON"),
        ("json-thousandths", '[{"bbox_2d": [1, 2, 3, "4"]}]', "not numbers"),
        ("json-thousandths", '[{"bbox_2d": [1, 2, NaN, 4]}]', "not numbers"),
        ("json-thousandths", '[{"bbox_2d": [1, 2, true, 4]}]', "not numbers"),
        ("json-thousandths", '[{"box": [1, 2, 3, 4]}]', "no 'bbox_2d'"),
        ("json-thousandths", "7", "not a list"),
        ("json-thousandths", "[" * 100_000, "not JSON"),
        ("json-thousandths", f'[{{"bbox_2d": [{"9" * 5000}, 2, 3, 4]}}]', "not JSON"),
        ("json-thousandths", "```json\n[]\n```\n```json\n[]\n```", "2 blocks"),
        ("qwen", "<box>(1,2),(3,4", "no box in"),
        ("qwen", "(1,2),(3,4) and (5,6)", "cannot read"),
        ("paligemma", "<loc0001><loc0002><loc0003> cat", "no box in"),
        ("minigpt", "{<1><2><3>}", "no box in"),
    ],
)
def test_half_broken_replies_are_unreadable_as_a_whole_and_say_why(name, text, reason):
    reading = read_boxes(text, name, size=SIZE)
    assert reading.entries is None and reading.shapes == ()
    assert any(reason in part for part in reading.broken), reading.broken
    assert all(len(part) < 300 for part in reading.broken)


def test_rounding_beyond_the_edge_is_clipped():
    assert read_boxes("[630, 470, 645, 481]", "pixels", size=SIZE).shapes[0][2:] == (1.0, 1.0)


fractions = st.floats(0, 1, allow_nan=False)
boxes = st.tuples(fractions, fractions, fractions, fractions).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)
labels = st.sampled_from(["", "star", "red striped star"])


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.tuples(labels, boxes), max_size=5))
@settings(max_examples=200, deadline=None)
def test_what_is_written_reads_back_within_a_step_and_a_half_of_the_format(name, entries):
    reading = read_boxes(write_boxes(entries, name, size=SIZE), name, size=SIZE)
    assert reading.entries is not None, reading.broken
    assert [label for label, _ in reading.entries] == [label for label, _ in entries]
    step = 1 / min(FORMATS[name].divisor or 480, 480)
    for (_, box), (_, read) in zip(entries, reading.entries, strict=True):
        assert all(abs(a - b) <= 1.51 * step for a, b in zip(box, read, strict=True))
        assert read[2] > read[0] and read[3] > read[1]


@given(
    st.sampled_from(sorted(FORMATS)),
    st.lists(
        st.tuples(labels, st.lists(st.tuples(fractions, fractions), min_size=3, max_size=9)), max_size=3
    ),
)
@settings(max_examples=100, deadline=None)
def test_polygons_read_back(name, entries):
    entries = [(label, tuple(points)) for label, points in entries]
    reading = read_polygons(write_polygons(entries, name, size=SIZE), name, size=SIZE)
    assert reading.entries is not None, reading.broken
    step = 1.01 / min(FORMATS[name].divisor or 480, 480)
    for (label, points), (read_label, read) in zip(entries, reading.entries, strict=True):
        assert label == read_label
        assert all(
            abs(a - b) <= step for p, q in zip(points, read, strict=True) for a, b in zip(p, q, strict=True)
        )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("star [[1, 2], [3, 4]]", "fewer than three"),
        ("star [[1, 2], [3, 4], [5]]", "no box in"),
        ("star [[1, 2], [3, 4], [5, 6]]; ring [[1, 2], [3", "cannot read"),
        ("star [1, 2, 3, 4]", "no box in"),
    ],
)
def test_broken_polygons_say_why(text, reason):
    reading = read_polygons(text, "thousandths", size=SIZE)
    assert reading.entries is None and reason in reading.broken[0]
    rows = json.dumps([{"polygon": [[1, 2], [3, 4], 5], "label": "a"}])
    assert "not pairs" in read_polygons(rows, "json-unit", size=SIZE).broken[0]


@given(
    st.sampled_from(sorted(FORMATS)),
    st.text(alphabet='[](){}<>,.;:0123456789 -\n"`aeloc/bx_2drtjsn', max_size=60),
)
@settings(max_examples=300, deadline=None)
def test_garbage_never_raises(name, text):
    for reading in (read_boxes(text, name, size=SIZE), read_polygons(text, name, size=SIZE)):
        assert (reading.entries is None) == bool(reading.broken)


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(EvaluationError, match="Did you mean 'thousandths'"):
        read_boxes("[1, 2, 3, 4]", "thousands", size=SIZE)


def test_instructions_name_the_scale():
    assert "0 to 1000" in instruction("json-thousandths") and "bbox_2d" in instruction("json-thousandths")
    assert "pixels" in instruction("pixels") and "[[x, y], ...]" in instruction("pixels", polygons=True)


@pytest.mark.parametrize(
    ("text", "asked", "nothing"),
    [
        ("There are no people or buses.", ("person", "bus"), True),
        ("There is no salt and pepper shaker", ("salt and pepper shaker",), True),
        ("There are no people.", ("person", "bus"), False),
        ("There are no cats.", ("dog",), False),
        ("There is no cat.", (), False),
        ("There is no image provided.", ("cat",), False),
        ("There are no clear boundaries", ("cat",), False),
    ],
)
def test_nothing_is_an_answer_only_about_what_was_asked(text, asked, nothing):
    for read in (read_boxes, read_polygons):
        entries = read(text, "thousandths", size=SIZE, asked=asked).entries
        assert entries == (() if nothing else None)
