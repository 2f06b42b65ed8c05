"""Aerial scenes: truth against pixels, questions against the list of objects, and nothing else of the world changed."""

from __future__ import annotations

import hashlib
import json
import random
import xml.etree.ElementTree as ElementTree
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import FoveateError
from foveate.world import ask, make_example, render, sample_scene, to_svg, write_dataset
from foveate.world.aerial_kinds import AERIAL_HELD_OUT, KINDS, NAMED_KINDS, PLACES, PLURALS
from foveate.world.aerial_questions import MOST, captions
from foveate.world.questions import AERIAL_FAMILIES
from foveate.world.vocabulary import COLOURS

indices, difficulties = st.integers(0, 5000), st.integers(1, 3)


def scene(index, split="test", difficulty=2):
    return sample_scene("aerial", split, index, difficulty=difficulty)


@pytest.mark.parametrize(
    ("domain", "expected"), [("shapes", "08664f6dd6148400"), ("page", "876c297f132a57cf")]
)
def test_scenes_and_questions_of_other_domains_are_what_they_were(domain, expected):
    """Data sets and trained models depend on them to the byte."""
    digest = hashlib.sha256()
    for difficulty in (1, 2, 3):
        for split in ("train", "validation", "test"):
            example = make_example(domain, split, 5, questions=4, difficulty=difficulty, caption="last")
            said = [[question.text, question.answer] for question in example.questions()]
            digest.update(json.dumps([example.scene.as_dict(), said], sort_keys=True).encode())
    assert digest.hexdigest()[:16] == expected


@given(indices, difficulties)
@settings(max_examples=12, deadline=None)
def test_every_object_is_seen_where_its_box_says(index, difficulty):
    made = scene(index, difficulty=difficulty)
    assert made == scene(index, difficulty=difficulty) and made.place in PLACES
    picture = render(made, 1024)
    assert picture.rgb.shape == (1024, 1024, 3)
    for item in made.objects:
        box = picture.visible_box(item.id)
        assert box is not None, f"a {item.shape} of {made.place} is hidden"
        expected = [1024 * v for v in item.box()]
        assert (
            all(-1.5 <= b - e <= 1.5 for b, e in zip(box[:2], expected[:2], strict=True))
            or item.shape == "tree"
        )
        assert expected[0] >= 0 and expected[2] <= 1024 and expected[1] >= 0 and expected[3] <= 1024
        if item.shape in NAMED_KINDS:
            seen = np.median(picture.rgb[picture.mask(item.id)], axis=0)
            nearest = min(KINDS[item.shape].colours, key=lambda c: np.abs(seen - np.array(COLOURS[c])).sum())
            assert nearest == item.colour


def test_objects_are_small_and_many_and_shrink_with_difficulty():
    lengths = []
    for difficulty in (1, 2, 3):
        scenes = [scene(i, difficulty=difficulty) for i in range(30)]
        cars = [
            2 * o.radius * 1024
            for s in scenes
            for o in s.objects
            if o.shape == "vehicle" and o.size == "small"
        ]
        lengths.append(np.mean(cars))
        assert max(len(s.objects) for s in scenes) > 50
    assert lengths[0] > lengths[1] > lengths[2] and lengths[2] < 16


def test_splits_share_no_scene_and_training_never_shows_what_is_held_out():
    seeds = [{scene(i, split).seed for i in range(200)} for split in ("train", "validation", "test")]
    assert len(set.union(*seeds)) == 600
    for split in ("train", "validation"):
        assert not any(
            (o.colour, o.shape) in AERIAL_HELD_OUT for i in range(60) for o in scene(i, split).objects
        )
    tested = {(o.colour, o.shape) for i in range(60) for o in scene(i).objects}
    assert tested >= AERIAL_HELD_OUT
    assert {scene(i).place for i in range(60)} == set(PLACES)


@pytest.mark.parametrize("family", AERIAL_FAMILIES)
def test_every_family_asks_and_is_not_one_sided(family):
    answers: Counter[str] = Counter()
    for index in range(150):
        question = ask(scene(index), family, random.Random(index))
        if question is not None:
            assert question.family == family
            assert not question.choices or question.answer in question.choices
            answers[question.answer] += 1
    assert answers.total() >= 100
    assert answers.most_common(1)[0][1] / answers.total() <= 0.6, answers


@given(indices, difficulties, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_counts_and_presence_agree_with_the_list_of_objects(index, difficulty, draw):
    made, rng = scene(index, difficulty=difficulty), random.Random(draw)
    question = ask(made, "count", rng)
    if question is not None:
        words = (
            question.text.removeprefix("How many ").replace(" are there?", "").replace(" can be seen?", "")
        )
        assert int(question.answer) == len(matching(made, words, PLURALS)) <= MOST
    question = ask(made, "existence", rng)
    if question is not None:
        words = question.text.removesuffix(" in the image?").split(" ", 3)[3]
        there = matching(made, words, {kind: kind for kind in KINDS})
        assert question.answer == ("yes" if there else "no")
        assert set(question.object_ids) == {o.id for o in there}


def matching(made, words, names):
    kind = next(kind for kind, name in names.items() if words.endswith(name) and kind in NAMED_KINDS)
    colour = words.removesuffix(names[kind]).strip()
    return [o for o in made.objects if o.shape == kind and colour in ("", o.colour)]


@given(indices, difficulties, st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_a_phrase_fits_one_object_and_unique_means_the_only_one_of_its_kind(index, difficulty, draw):
    made = scene(index, difficulty=difficulty)
    for family in ("grounding", "position", "attribute"):
        question = ask(made, family, random.Random(draw))
        if question is None:
            continue
        (object_id,) = question.object_ids
        item = next(o for o in made.objects if o.id == object_id)
        kin = [o for o in made.objects if o.shape == item.shape]
        assert ("unique" in question.tags) == (len(kin) == 1)
        for word, place in (("leftmost", lambda o: o.x), ("topmost", lambda o: o.y)):
            if f"{word} " in question.text:
                assert item == min(kin, key=place)
        if f"{item.colour} {item.shape}" in question.text:
            assert sum(o.colour == item.colour for o in kin) == 1
        if family == "grounding":
            box = json.loads(question.answer)
            assert all(abs(b / 1000 - v) < 0.001 for b, v in zip(box, item.box(), strict=True))
            assert box[0] < box[2] and box[1] < box[3]
        if family == "attribute":
            assert question.answer == item.colour and item.colour not in question.text.split()


def test_three_captions_say_the_same_in_other_words():
    made = next(scene(i) for i in range(50) if scene(i).place == "harbour")
    texts = captions(made)
    assert len(set(texts)) == 3
    ships = str(sum(o.shape == "ship" for o in made.objects))
    assert all("harbour" in text and f"{ships} ships" in text for text in texts)


def test_the_svg_has_every_patch_and_object():
    made = scene(3)
    tree = ElementTree.fromstring(to_svg(made, 400))
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f"{space}path")) == len(made.patches)
    assert [p.get("data-shape") for p in tree.findall(f"{space}polygon")] == [
        o.shape for o in made.far_to_near()
    ]


def test_data_sets_of_aerial_scenes_are_written_and_families_checked(tmp_path):
    written = write_dataset(tmp_path, domain="aerial", split="test", count=2, size=128, questions=3)
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len(rows) == written >= 4
    assert rows[0]["scene"]["place"] in PLACES and rows[0]["scene"]["patches"]
    with pytest.raises(FoveateError, match="Did you mean 'position'"):
        write_dataset(tmp_path / "b", domain="aerial", split="test", count=1, families=["positions"])
    with pytest.raises(FoveateError, match="Unknown question family"):
        ask(scene(0), "marker", random.Random(0))
