"""Answers are checked against pixels, not against the code that wrote them."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import FoveateError
from foveate.world import FAMILIES, ask, make_example, render, render_frames, sample_scene, to_svg
from foveate.world.asking import MAX_COUNT
from foveate.world.vocabulary import COLOURS, HELD_OUT, SHAPES, TEST_ONLY_WORDS

indices = st.integers(0, 5000)
difficulties = st.integers(1, 3)
splits = st.sampled_from(["train", "validation", "test"])


@given(indices, difficulties, splits)
@settings(max_examples=60, deadline=None)
def test_a_scene_is_a_function_of_its_index(index, difficulty, split):
    first = sample_scene("shapes", split, index, difficulty=difficulty)
    assert first == sample_scene("shapes", split, index, difficulty=difficulty)
    assert first != sample_scene("shapes", split, index + 1, difficulty=difficulty)
    assert np.array_equal(render(first).rgb, render(first).rgb)


def test_splits_share_no_scene():
    seeds = [
        {sample_scene("shapes", split, i).seed for i in range(300)}
        for split in ("train", "validation", "test")
    ]
    assert all(len(s) == 300 for s in seeds)
    assert not seeds[0] & seeds[1] and not seeds[0] & seeds[2] and not seeds[1] & seeds[2]


@given(indices, difficulties, st.sampled_from([96, 168, 251]))
@settings(max_examples=60, deadline=None)
def test_every_object_can_be_seen_inside_its_box(index, difficulty, size):
    scene = sample_scene("shapes", "train", index, difficulty=difficulty)
    picture = render(scene, size)
    for item in scene.objects:
        mask = picture.mask(item.id)
        assert mask.sum() >= 0.3 * _alone(scene, item, size).sum(), "an object is mostly hidden"
        left, top, right, bottom = picture.visible_box(item.id)
        x0, y0, x1, y1 = (size * v for v in item.box())
        assert left >= x0 - 1.5 and top >= y0 - 1.5 and right <= x1 + 1.5 and bottom <= y1 + 1.5
        assert np.allclose(picture.depth[mask], item.depth)


def _alone(scene, item, size):
    import dataclasses

    return render(dataclasses.replace(scene, objects=(item,), markers=()), size).mask(item.id)


@given(indices)
@settings(max_examples=40, deadline=None)
def test_plain_objects_have_their_colour_in_the_picture(index):
    scene = sample_scene("shapes", "train", index, difficulty=1)
    picture = render(scene, 168)
    for item in scene.objects:
        if item.texture != "plain" or item.text or scene.markers:
            continue
        seen = np.median(picture.rgb[picture.mask(item.id)], axis=0)
        nearest = min(COLOURS, key=lambda name: np.abs(seen - np.array(COLOURS[name])).sum())
        assert nearest == item.colour


@given(indices, splits, difficulties)
@settings(max_examples=150, deadline=None)
def test_counting_and_existence_agree_with_the_list_of_objects(index, split, difficulty):
    scene = sample_scene("shapes", split, index, difficulty=difficulty)
    rng = random.Random(index)
    question = ask(scene, "count", rng)
    words = question.text.rstrip("?.").split()
    matching = [
        o
        for o in scene.objects
        if all(_singular(w) in (o.colour, o.shape, o.texture) for w in words if _names_something(w))
    ]
    assert int(question.answer) == len(matching) <= MAX_COUNT
    question = ask(scene, "existence", rng)
    if question is not None:
        wanted = {w.rstrip("?") for w in question.text.split() if _names_something(w.rstrip("?"))}
        there = any(wanted <= {o.colour, o.shape, o.texture} for o in scene.objects)
        assert question.answer == ("yes" if there else "no")


def _singular(word: str) -> str:
    plurals = {**{f"{shape}s": shape for shape in SHAPES}, "crosses": "cross"}
    return plurals.get(word, word)


def _names_something(word: str) -> bool:
    return _singular(word) in (*COLOURS, *SHAPES, "plain", "striped", "dotted")


@given(indices, st.sampled_from(["left of", "right of", "above", "below"]))
@settings(max_examples=100, deadline=None)
def test_one_hop_relations_agree_with_pixels(index, word):
    scene = sample_scene("shapes", "train", index)
    picture = render(scene, 168)
    rng = random.Random(index)
    for _ in range(10):
        question = ask(scene, "relation", rng)
        if question is None or "one-hop" not in question.tags or f" {word} " not in question.text:
            continue
        first, second = (_centre(picture, scene, i) for i in question.object_ids)
        axis = 0 if word in ("left of", "right of") else 1
        before = first[axis] < second[axis]
        assert question.answer == ("yes" if before == (word in ("left of", "above")) else "no")


def _centre(picture, scene, object_id):
    item = next(o for o in scene.objects if o.id == object_id)
    ys, xs = np.nonzero(_alone(scene, item, picture.rgb.shape[0]))
    return (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_asks_and_is_not_one_sided(family):
    answers: dict[str, int] = {}
    domain = FAMILIES[family][0]
    for index in range(500):
        example = make_example(domain, "test", index, questions=1, families=[family])
        for question in example.questions():
            if question.family == family:
                assert not question.choices or question.answer in question.choices
                answers[question.answer] = answers.get(question.answer, 0) + 1
    total = sum(answers.values())
    assert total >= 60, f"{family} is hardly ever possible"
    assert max(answers.values()) / total <= 0.62, f"{family} is one-sided: {answers}"


def test_training_never_shows_what_is_held_out():
    for index in range(1500):
        for split in ("train", "validation"):
            scene = sample_scene("shapes", split, index)
            assert not any((o.colour, o.shape) in HELD_OUT for o in scene.objects)
            page = sample_scene("page", split, index)
            assert not any(t.text in TEST_ONLY_WORDS for t in page.texts)
    tested = [sample_scene("shapes", "test", i) for i in range(300)]
    assert {(o.colour, o.shape) for s in tested for o in s.objects} >= HELD_OUT


def test_printed_characters_lie_where_the_truth_says():
    for index in range(60):
        example = make_example("page", "test", index)
        if not example.scene.texts:
            continue
        picture = example.rendering
        assert "".join(g.character for g in picture.glyphs) == "".join(t.text for t in example.scene.texts)
        for glyph in picture.glyphs:
            left, top, right, bottom = (round(v) for v in glyph.box)
            patch = picture.rgb[max(0, top) : bottom, max(0, left) : right].astype(int)
            assert patch.size and np.ptp(patch.sum(axis=2)) > 150, "no ink under a glyph box"
            assert right <= 168 and bottom <= 170


@given(indices)
@settings(max_examples=40, deadline=None)
def test_the_svg_is_the_same_scene(index):
    scene = sample_scene("shapes", "train", index)
    tree = ElementTree.fromstring(to_svg(scene, 200))
    polygons = tree.findall("{http://www.w3.org/2000/svg}polygon")
    assert [p.get("data-shape") for p in polygons] == [o.shape for o in scene.far_to_near()]
    for polygon, item in zip(polygons, scene.far_to_near(), strict=True):
        xs = [float(pair.split(",")[0]) / 200 for pair in polygon.get("points").split()]
        assert min(xs) == pytest.approx(item.box()[0], abs=1e-3)
        assert max(xs) == pytest.approx(item.box()[2], abs=1e-3)


@given(indices, st.floats(0, 60))
@settings(max_examples=60, deadline=None)
def test_moving_objects_stay_in_the_picture(index, seconds):
    moved = sample_scene("shapes", "train", index).at(seconds)
    for item in moved.objects:
        assert item.radius - 1e-9 <= item.x <= 1 - item.radius + 1e-9
        assert item.radius - 1e-9 <= item.y <= 1 - item.radius + 1e-9


def test_frames_start_at_the_scene_and_change():
    scene = sample_scene("shapes", "train", 3)
    frames = list(render_frames(scene, size=96, seconds=1, frames_per_second=4))
    assert len(frames) == 4
    assert np.array_equal(frames[0].rgb, render(scene, 96).rgb)
    assert not np.array_equal(frames[0].ids, frames[3].ids)


def test_wide_scenes_are_wider_than_high():
    import dataclasses

    scene = dataclasses.replace(sample_scene("shapes", "train", 1), aspect=1.5)
    assert render(scene, 100).rgb.shape == (100, 150, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("shape", "train", 0), "Did you mean 'shapes'"),
        (("shapes", "trian", 0), "Did you mean 'train'"),
    ],
)
def test_unknown_names_get_the_nearest(arguments, words):
    with pytest.raises(FoveateError, match=words):
        sample_scene(*arguments)


def test_difficulty_out_of_range_is_refused():
    with pytest.raises(FoveateError, match="Choose 1 to 3"):
        sample_scene("shapes", "train", 0, difficulty=4)
