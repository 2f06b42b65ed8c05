"""Every entry of the registry keeps the contract: fixed items, a perfect reply that is correct, and no guessing."""

from __future__ import annotations

import inspect
import itertools
import json

import pytest

from foveate.evaluate.contract import (
    OUTCOMES,
    BrokenItem,
    EvaluationError,
    Item,
    Picture,
    Reply,
    Task,
    TaskCard,
)
from foveate.evaluate.tasks.registry import TASKS, get_task, task_class

GARBAGE = (
    "lorem ipsum",
    "\x00\ufffd\U0001f600",
    "[[[{{{",
    '{"bbox_2d": [1, 2',
    "[1e999, -1, NaN, 5]",
    "((((",
    "A" * 3000,
    "<think>no end",
    "\\boxed{}",
)
FEW = 4


def small(name: str) -> Task:
    settings = {"count": FEW} if "count" in inspect.signature(task_class(name)).parameters else {}
    return get_task(name, **settings)


def first_items(task: Task) -> list[Item]:
    return [item for item in itertools.islice(task.items(), 3 * FEW) if isinstance(item, Item)]


def perfect(task: Task, item: Item) -> Reply:
    """The whole conversation with a user who asks on, answered perfectly."""
    replies: list[Reply] = []
    while True:
        text = task.perfect_reply(item, replies) if hasattr(task, "next_turn") else task.perfect_reply(item)
        replies.append(Reply(text=text, earlier=tuple(replies)))
        if not hasattr(task, "next_turn") or task.next_turn(item, replies) is None:
            return replies[-1]
        assert len(replies) < 20, "the conversation does not end"


def pictures(item: Item) -> list[Picture]:
    return [
        part["image"] for message in item.messages for part in message["content"] if part["type"] == "image"
    ]


@pytest.mark.parametrize("name", TASKS)
def test_items_are_the_same_every_time(name):
    task, again = small(name), small(name)
    assert isinstance(task, Task) and isinstance(task.card, TaskCard)
    items, twice = first_items(task), first_items(again)
    assert items, "an embedded form has items"
    assert not any(isinstance(each, BrokenItem) for each in itertools.islice(task.items(), FEW))
    assert len({item.id for item in items}) == len(items)
    for one, other in zip(items, twice, strict=True):
        assert (one.id, one.target, one.cluster, one.tags, one.form) == (
            other.id,
            other.target,
            other.cluster,
            other.tags,
            other.form,
        )
        json.dumps(one.target)
        assert one.messages[-1]["role"] == "user"
    assert [p.open().tobytes() for p in pictures(items[0])] == [
        p.open().tobytes() for p in pictures(twice[0])
    ]


@pytest.mark.parametrize("name", TASKS)
def test_a_perfect_reply_is_correct_and_the_rest_never_raises(name):
    task = small(name)
    for item in first_items(task):
        best = perfect(task, item)
        score = task.score(item, best)
        assert score.outcome == "correct", (item, best.text, score)
        json.dumps([score.parsed, dict(score.details)])
        assert task.score(item, best) == score, "scoring is pure"
        empty = task.score(item, Reply(text=""))
        assert empty.outcome == "unparsed" and empty.value == 0 and empty.parsed is None
        assert task.score(item, Reply(text="I'm sorry, but I cannot see the image.")).outcome in (
            "refused",
            "unparsed",
            "wrong",
        )
        for text in GARBAGE:
            assert task.score(item, Reply(text=text)).outcome in OUTCOMES


@pytest.mark.parametrize("name", TASKS)
def test_every_setting_has_a_default_and_every_card_its_facts(name):
    kind = task_class(name)
    for parameter in inspect.signature(kind).parameters.values():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
    card = kind.card
    assert all((card.title, card.paper, card.licence, card.source, card.metric)) and card.max_tokens > 0


def test_unknown_names_and_settings_are_told():
    with pytest.raises(EvaluationError, match="no task"):
        get_task("nonsense")
    for name in itertools.islice(TASKS, 1):
        with pytest.raises(EvaluationError, match="no setting"):
            get_task(name, nonsense=1)
