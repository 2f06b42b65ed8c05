"""The nano test scores replies as it says it does, and Wilson intervals have their known values."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.evaluate.nano import (
    SCORED_FAMILIES,
    evaluate,
    intersection_over_union,
    outcome,
    summarise,
    test_items,
)
from foveate.evaluate.statistics import wilson_interval
from foveate.world import Question

test_items.__test__ = False  # a function of the package, not a test


def test_wilson_matches_published_values():
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_contains_the_share_and_is_never_a_point(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert high - low > 0


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="5 successes in 3 trials"):
        wilson_interval(5, 3)


def test_overlap_of_known_boxes():
    assert intersection_over_union((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert intersection_over_union((0, 0, 1, 1), (2, 2, 3, 3)) == 0


@pytest.mark.parametrize(
    ("question", "reply", "expected"),
    [
        (Question(family="count", text="?", answer="3", choices=("2", "3")), " 3\n", "right"),
        (Question(family="count", text="?", answer="3", choices=("2", "3")), "2", "wrong"),
        (Question(family="count", text="?", answer="3", choices=("2", "3")), "three", "unparsed"),
        (Question(family="reading", text="?", answer="CAT"), "CAR", "wrong"),
        (Question(family="grounding", text="?", answer="[10, 10, 50, 50]"), "[12, 10, 52, 50]", "right"),
        (Question(family="grounding", text="?", answer="[10, 10, 50, 50]"), "[50, 50, 90, 90]", "wrong"),
        (Question(family="grounding", text="?", answer="[10, 10, 50, 50]"), "top left", "unparsed"),
    ],
)
def test_outcomes(question, reply, expected):
    assert outcome(question, reply) == expected


def test_listings_allow_small_shifts_but_no_wrong_word():
    text = "List every object with its place."
    question = Question(
        family="caption", text=text, answer="20 30 small plain red star; 70 80 large dotted blue ring"
    )
    assert outcome(question, "22 28 small plain red star; 70 80 large dotted blue ring") == "right"
    assert outcome(question, "30 30 small plain red star; 70 80 large dotted blue ring") == "wrong"
    assert outcome(question, "20 30 small plain red star; 70 80 large dotted blue star") == "wrong"
    assert outcome(question, "20 30 small plain red star") == "wrong"


class _Oracle:
    """Knows every answer when it sees the picture, and says "no" when it does not."""

    def __init__(self) -> None:
        self.answers = {
            q.text + str(e.rendering.rgb.tobytes()): q.answer
            for family in SCORED_FAMILIES
            for e, q in test_items(family, 3, difficulty=2)
        }

    def prepare(self, messages, *, images=()):
        return messages[0]["content"][-1]["text"], images

    def generate(self, prompt, *, max_new_tokens=128):
        text, images = prompt
        reply = self.answers[text + str(images[0].tobytes())] if images else "no"
        yield SimpleNamespace(text=reply)


def test_an_oracle_is_always_right_and_the_blind_run_never_sees():
    samples = evaluate(_Oracle(), per_family=3)
    summary = summarise(samples)
    rows = summary["difficulty"]["2"]
    assert set(rows) == set(SCORED_FAMILIES)
    assert all(row["accuracy"] == 1 and row["questions"] == 3 for row in rows.values())
    assert rows["reading"]["no_image"] == 0
    assert rows["existence"]["chance"] == 0.5 and rows["existence"]["target"] == 0.95
