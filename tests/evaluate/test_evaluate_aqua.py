"""AQuA: levels by salience, the judge against labels made by hand, the user's second turn, the measures."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from foveate.evaluate.ambiguity import SALIENT, ambiguous, salience
from foveate.evaluate.contract import BrokenItem, EvaluationError, Reply, Scored
from foveate.evaluate.strategy import judge_strategy
from foveate.evaluate.tasks.registry import get_task
from foveate.world import sample_scene
from foveate.world.asking import VALUES

LABELLED = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "aqua_replies.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]


@pytest.mark.parametrize("half", ["tuning", "held-out"])
def test_the_judge_agrees_with_labels_made_by_hand(half):
    rows = [row for row in LABELLED if row["half"] == half]
    judged = [
        judge_strategy(row["question"], row["reply"], VALUES[row["values"]] if row["values"] else None)
        for row in rows
    ]
    agreed = sum(own.strategy == row["strategy"] for own, row in zip(judged, rows, strict=True))
    assert len(rows) == 60 and agreed >= 57
    for own, row in zip(judged, rows, strict=True):
        if row["values"]:
            assert list(own.given) == row["given"], row


@pytest.mark.parametrize(
    ("level", "candidates"), [(0, range(1, 2)), (1, range(1, 2)), (2, range(2, 4)), (3, range(5, 10))]
)
def test_levels_have_as_many_salient_objects_as_they_say(level, candidates):
    made = []
    for index in range(60):
        scene = sample_scene("shapes", "test", index, difficulty=3)
        if (one := ambiguous(scene, level, random.Random(index))) is not None:
            made.append(one)
    assert len(made) >= 5
    for one in made:
        assert len(one.answers) in candidates and one.intended in one.answers
        if level:
            salient = [o for o in one.scene.objects if salience(o, one.scene) >= SALIENT]
            assert [getattr(o, one.key) for o in salient] == list(one.answers.values())
            assert one.text == f"What {one.key} is this object?"
        else:
            assert one.intended in one.text
        if level > 1:
            assert len(set(one.answers.values())) >= 2, "one answer must not be right for all"
        assert not any(value in one.intended.split() for value in one.answers.values())


def test_salience_counts_area_and_nearness():
    scene = sample_scene("shapes", "test", 3)
    values = [salience(o, scene) for o in scene.objects]
    assert all(0 < value <= 1 for value in values)
    largest = max(scene.objects, key=lambda o: (o.box()[2] - o.box()[0]) * (o.box()[3] - o.box()[1]))
    assert salience(largest, scene) >= 0.7


def by_level():
    task = get_task("aqua", count=4)
    return task, {item.target["level"]: item for item in task.items()}


def outcomes(task, item, *texts):
    replies: list[Reply] = []
    for text in texts:
        replies.append(Reply(text=text, earlier=tuple(replies)))
    return task.score(item, replies[-1])


def test_strategy_and_facts_are_scored_apart():
    task, items = by_level()
    two = items[2]
    first = next(iter(two.target["answers"].values()))
    wrong = next(value for value in VALUES[two.target["key"]] if value not in two.target["answers"].values())
    everything = " and ".join(two.target["answers"].values())
    assert outcomes(task, two, everything).value == 1
    half = outcomes(task, two, f"{everything} and {wrong}")
    assert (half.outcome, half.value) == ("wrong", 0.7)
    assert half.details["strategy_right"] and half.details["facts_right"] is False
    single = outcomes(task, two, first)
    assert (single.outcome, single.value, single.parsed) == ("wrong", 0, "answer")
    assert single.details["facts_right"] is True
    assert outcomes(task, two, "lorem").outcome == "unparsed"
    assert outcomes(task, two, "I cannot see the picture.").outcome == "refused"


def test_the_user_answers_a_question_back_exactly_and_once():
    task, items = by_level()
    for item in items.values():
        intended, answers = item.target["intended"], item.target["answers"]
        asked = Reply(text="Which one do you mean?")
        turn = task.next_turn(item, [asked])
        assert turn is not None and intended in turn["content"][0]["text"]
        assert task.next_turn(item, [asked, Reply(text="red")]) is None
        assert task.next_turn(item, [Reply(text=answers[intended])]) is None
        score = outcomes(task, item, asked.text, answers[intended])
        assert score.details["facts_right"] is True
        assert score.outcome == ("correct" if item.target["level"] == 3 else "wrong")
        wrong = next(v for v in VALUES[item.target["key"]] if v != answers[intended])
        assert outcomes(task, item, asked.text, wrong).value == (0.7 if item.target["level"] == 3 else 0)


def test_measures_tell_overconfidence_from_asking_too_much():
    task, items = by_level()

    def scored(text):
        replies = [Reply(text=text) for _ in items]
        return [
            Scored(item=item, reply=reply, score=task.score(item, reply))
            for item, reply in zip(items.values(), replies, strict=True)
        ]

    guesses = [Reply(text=next(iter(item.target["answers"].values()))) for item in items.values()]
    confident = task.corpus_measures(
        [
            Scored(item=i, reply=r, score=task.score(i, r))
            for i, r in zip(items.values(), guesses, strict=True)
        ]
    )
    assert confident["overconfident"] == confident["confusion_3_answer"] == confident["facts"] == 1
    assert confident["asked_needlessly"] == 0 and confident["balanced_accuracy_of_three"] == 0.5
    asking = task.corpus_measures(scored("Which one do you mean?"))
    assert asking["asked_needlessly"] == 1 and asking["overconfident"] == 0
    assert asking["balanced_accuracy"] == asking["balanced_accuracy_of_three"] == 0.25
    perfect = [
        Scored(item=i, reply=r, score=task.score(i, r))
        for i in items.values()
        for r in [Reply(text=task.perfect_reply(i))]
    ]
    assert task.corpus_measures(perfect)["balanced_accuracy_of_three"] == 1
    assert task.corpus_measures([])["overconfident"] == 0


def test_the_public_data_is_scored_by_strategy(tmp_path):
    rows = [
        {"filename": "1.jpg", "level": 3, "question": "What colour is this bat?", "answer": "Which bat?"},
        {"filename": "2.jpg", "level": 2, "question": "What is it made of?", "answer": "Wood or metal."},
        {"filename": "3.jpg", "level": 7, "question": "?", "answer": ""},
        {"filename": "4.jpg", "level": "two", "question": "?"},
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = get_task("aqua", data=str(tmp_path))
    asking, listing, *broken = task.items()
    assert [type(each) for each in broken] == [BrokenItem, BrokenItem]
    score = task.score(asking, Reply(text="Which of the bats do you mean?"))
    assert score.outcome == "correct" and score.details["facts_right"] is None
    assert task.next_turn(asking, [Reply(text="Which bat?")]) is None
    assert task.score(listing, Reply(text="The bench is wood, while the bin is metal.")).outcome == "correct"
    assert task.score(listing, Reply(text="Wood.")).parsed == "answer"


def test_simple_scenes_are_refused():
    with pytest.raises(EvaluationError, match="difficulty"):
        get_task("aqua", difficulty=1)
