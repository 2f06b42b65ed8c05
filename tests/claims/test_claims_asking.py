"""Questions of an arm in one batch: the same pictures for every arm, answers as one by one, rows that pair up."""

from __future__ import annotations

import dataclasses

import pytest

from foveate.claims import registry
from foveate.claims.asking import (
    Dialogue,
    Replies,
    ask_all,
    ask_by_reference,
    dialogues,
    difference,
    pair,
    pooled,
    ratio,
    row_of,
)
from foveate.claims.base import Outcome
from foveate.claims.fastervlm_tokens import FASTER_5, FASTER_10, FASTV_10, FULL, NO_IMAGE, RANDOM_5, RANDOM_10
from foveate.engine import VisualBudget
from foveate.evaluate.nano import answer, outcome
from foveate.models import load
from foveate.reduce import get_reducer

FAMILIES = ("existence", "attribute")


@pytest.fixture(scope="module")
def model():
    return load()


def test_pictures_of_two_seeds_are_never_the_same():
    first = dialogues("shapes", FAMILIES, pictures=4, each=2, seed=0)
    again = dialogues.__wrapped__("shapes", FAMILIES, pictures=4, each=2, seed=0)
    other = dialogues("shapes", FAMILIES, pictures=4, each=2, seed=1)
    assert [(d.number, d.turns) for d in first] == [(d.number, d.turns) for d in again]
    assert {d.number for d in first}.isdisjoint(d.number for d in other)
    assert len({d.number for d in first}) == 4
    for number in {d.number for d in first}:
        mine = [d for d in first if d.number == number]
        assert {d.family for d in mine} == set(FAMILIES) and len({d.turns[0].text for d in mine}) == len(mine)


def test_a_batch_answers_as_one_by_one(model):
    asked = dialogues("shapes", FAMILIES, pictures=3, each=2, seed=0)
    ticks = []
    replies = ask_all(model, asked, None, progress=ticks.append)
    alone = [outcome(d.turns[0], answer(model, d.turns[0].text, d.image)) == "right" for d in asked]
    assert replies.right == (tuple(alone),) and (replies.kept, replies.total) == (144, 144)
    assert ticks[-1] == len(asked)
    blind = ask_all(model, asked, None, blind=True)
    none = [outcome(d.turns[0], answer(model, d.turns[0].text, None)) == "right" for d in asked]
    assert blind.right == (tuple(none),) and blind.total == 0


def test_methods_between_layers_are_asked_one_by_one(model):
    asked = dialogues("shapes", FAMILIES, pictures=2, each=1, seed=0)
    ticks = []
    replies = ask_by_reference(model, asked, get_reducer("fastv", counting="final"), "10%", ticks.append)
    assert (replies.kept, replies.total, len(replies.right[0])) == (14, 144, len(asked))
    assert ticks == list(range(1, len(asked) + 1))
    same = ask_by_reference(model, asked, get_reducer("fastervlm"), "10%")
    assert same.right == ask_all(model, asked, VisualBudget(budget="10%", reducer="fastervlm")).right


def test_a_second_turn_follows_the_first_answer(model):
    one, two = dialogues("shapes", FAMILIES, pictures=2, each=1, seed=2)[:2]
    chain = dataclasses.replace(one, turns=(one.turns[0], two.turns[0]))
    replies = ask_all(model, [chain, one], VisualBudget(budget="50%"))
    assert [len(turn) for turn in replies.right] == [2, 1] and replies.kept == 72
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": chain.turns[0].text}]}
    ]
    seen = ask_all(model, [chain], None)
    prompt = model.prepare(messages, images=[chain.image])
    first = "".join(token.text for token in model.generate(prompt, max_new_tokens=32))
    messages += [
        {"role": "assistant", "content": [{"type": "text", "text": first}]},
        {"role": "user", "content": [{"type": "text", "text": chain.turns[1].text}]},
    ]
    prompt = model.prepare(messages, images=[chain.image])
    second = "".join(token.text for token in model.generate(prompt, max_new_tokens=32))
    expected = [
        outcome(turn, text) == "right" for turn, text in zip(chain.turns, (first, second), strict=True)
    ]
    assert [turn[0] for turn in seen.right] == expected


# -- rows -------------------------------------------------------------------------------------------------


def made(arm, seed, right, families="eeaa", pictures=(1, 1, 2, 2)):
    return {
        "arm": arm,
        "seed": seed,
        "right": right,
        "families": " ".join(f"{family}*1" for family in families),
        "pictures": " ".join(f"{picture}*1" for picture in pictures),
    }


def test_rows_pool_by_seed_and_family():
    rows = [made("a", 2, "1100"), made("a", 1, "1010"), made("b", 1, "1111"), made("b", 2, "0000")]
    assert pooled(rows, "a").right == [1, 0, 1, 0, 1, 1, 0, 0]
    assert pooled(rows, "a", ["e"]).pictures == [(1, "1"), (1, "1"), (2, "1"), (2, "1")]
    first, second, pictures = pair(rows, "a", "b", ["a"])
    assert (first, second, pictures[0]) == ([1, 0, 0, 0], [1, 1, 0, 0], (1, "2"))
    assert difference(rows, "a", "b").value == 0.0
    with pytest.raises(AssertionError, match="not asked the same"):
        pair([*rows, made("c", 1, "1111", pictures=(1, 2, 2, 2)), made("c", 2, "1111")], "a", "c")


def test_a_row_counts_by_family():
    asked = [
        Dialogue(number=n, family=f, image=None, turns=())
        for n, f in ((7, "count"), (7, "reading"), (8, "count"))
    ]
    replies = Replies(right=((True, False, False),), kept=14.0, total=144.0, blocks=1)
    row = row_of("x", 3, [dataclasses.replace(d, turns=(None,)) for d in asked], replies)
    assert (row["count"], row["reading"], row["accuracy"]) == (0.5, 0.0, pytest.approx(1 / 3))
    assert (row["right"], row["pictures"], row["questions"]) == ("100", "7*2 8*1", 3)
    assert row["families"] == "count*1 reading*1 count*1"
    again = pooled([row], "x", ["count"])
    assert again.right == [1, 0] and again.pictures == [(3, "7"), (3, "8")]


# -- the verdict of fastervlm-tokens ----------------------------------------------------------------------


def arms_with(shares, questions=400):
    """Rows in which an arm gets the first share of the questions right, two questions a picture."""
    return [
        made(arm, 1, "".join("1" if i < share * questions else "0" for i in range(questions)),
             families="e" * questions, pictures=[i // 2 for i in range(questions)])
        for arm, share in shares.items()
    ]  # fmt: skip


def test_the_verdict_compares_with_all_tokens_and_with_random_ones():
    claim = registry.get("fastervlm-tokens")
    good = {
        FULL: 0.99,
        FASTER_10: 0.96,
        FASTER_5: 0.8,
        FASTV_10: 0.9,
        RANDOM_10: 0.7,
        RANDOM_5: 0.6,
        NO_IMAGE: 0.4,
    }
    verdict = claim.verdict(arms_with(good))
    assert (
        verdict.outcome is Outcome.REPRODUCED and "at 5 % the ratio to all tokens is 0.808" in verdict.reason
    )
    assert [round(e.interval.value, 3) for e in verdict.estimates] == [0.97, 0.26, 0.2, 0.06]
    assert claim.verdict(arms_with({**good, FASTER_10: 0.75})).outcome is Outcome.NOT_REPRODUCED
    assert claim.verdict(arms_with({**good, RANDOM_5: 0.9})).outcome is Outcome.NOT_REPRODUCED
    assert ratio(arms_with(good), FASTER_5, FULL).value == pytest.approx(0.8 / 0.99)
