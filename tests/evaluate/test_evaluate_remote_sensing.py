"""Remote sensing: the world's aerial scenes and VRSBench's published files, with replies as models give them."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Scored
from foveate.evaluate.tasks.registry import get_task
from foveate.evaluate.tasks.remote_sensing_captions import RemoteSensingCaptions
from foveate.evaluate.tasks.remote_sensing_grounding import RemoteSensingGrounding
from foveate.evaluate.tasks.remote_sensing_questions import (
    TYPES,
    Counting,
    RemoteSensingQuestions,
    SceneClassification,
)


def scored(task, texts):
    return [
        Scored(item=item, reply=Reply(text=text), score=task.score(item, Reply(text=text)))
        for item, text in zip(task.items(), texts, strict=False)
    ]


def test_every_type_is_asked_about_pictures_of_full_size():
    items = list(RemoteSensingQuestions(count=10).items())
    assert {item.tags[0] for item in items} == set(TYPES.values())
    picture = items[0].messages[0]["content"][0]["image"].open()
    assert picture.size == (1024, 1024)
    assert len({item.cluster for item in items}) == len(items)
    small = RemoteSensingQuestions(count=1, size=256)
    assert next(small.items()).messages[0]["content"][0]["image"].open().size == (256, 256)


@pytest.mark.parametrize(
    ("family", "replies"),
    [
        ("position", [("It is in the {}.", "correct"), ("upper-left corner and bottom right", "unparsed")]),
        (
            "count",
            [("There are {} of them.", "correct"), ("between 3 and 5", "unparsed"), ("many", "unparsed")],
        ),
        ("existence", [("{}, there is", "correct"), ("maybe", "unparsed")]),
        ("attribute", [("The colour is {}.", "correct"), ("red or white", "unparsed")]),
        ("scene", [("{}", "correct"), ("a forest", "unparsed")]),
    ],
)
def test_replies_are_read_by_the_shared_rules(family, replies):
    task = RemoteSensingQuestions(count=1, families=family)
    item = next(task.items())
    for text, outcome in replies:
        assert task.score(item, Reply(text=text.format(item.target["answer"]))).outcome == outcome, text


def test_parts_of_the_picture_have_other_names_too():
    task = RemoteSensingQuestions(count=60, families="position")
    item = next(i for i in task.items() if i.target["answer"] == "top left")
    assert task.score(item, Reply(text="In the upper-left.")).outcome == "correct"
    assert task.score(item, Reply(text="top")).outcome == "wrong"


def test_counting_tells_how_far_off_it_is():
    task = Counting(count=4)
    truth = [int(item.target["answer"]) for item in task.items()]
    replies = [str(truth[0]), str(truth[1] + 1), str(truth[2] + 5), "many"]
    assert task.corpus_measures(scored(task, replies)) == {
        "mean_absolute_error": 2.0,
        "within_one": pytest.approx(2 / 3),
    }
    assert task.corpus_measures(scored(task, ["many"] * 4)) == {}


def test_grounding_is_told_apart_by_uniqueness():
    task = RemoteSensingGrounding(count=30)
    items = list(task.items())
    texts = [task.perfect_reply(i) if "unique" in i.tags else "[1, 1, 999, 999]" for i in items]
    measures = task.corpus_measures(scored(task, texts))
    assert (
        measures["Acc@0.5_unique"] == measures["Acc@0.7_unique"] == 1 and measures["Acc@0.5_non-unique"] == 0
    )
    assert 0 < measures["Acc@0.5"] < 1


def test_captions_are_scored_by_words_and_by_facts():
    task = RemoteSensingCaptions(count=3)
    perfect = [task.perfect_reply(item) for item in task.items()]
    best = task.corpus_measures(scored(task, perfect))
    assert best["BLEU-4"] == best["ROUGE-L"] == best["facts"] == pytest.approx(1)
    wrong = [text.replace("1", "7").replace("2", "9") for text in perfect]
    worse = task.corpus_measures(scored(task, [*wrong[:2], ""]))
    assert worse["facts"] < 0.7 and worse["ROUGE-L"] < 0.7
    assert worse["CIDEr"] < best["CIDEr"]
    item = next(task.items())
    assert task.score(item, Reply(text="I'm sorry, I cannot see the image.")).outcome == "refused"
    please = "I cannot see the image. Please upload it."
    assert task.score(item, Reply(text=please)).outcome == "refused"
    hedged = task.score(item, Reply(text=f"{perfect[0]} The time of day cannot be determined."))
    assert hedged.outcome == "correct" and hedged.details["facts"] == 1


def vrsbench(tmp_path, name, rows):
    (tmp_path / "Images_val").mkdir()
    Image.new("RGB", (512, 512), "green").save(tmp_path / "Images_val" / "P0003_0002.png")
    (tmp_path / name).write_text(json.dumps(rows))
    return str(tmp_path)


VQA = [
    {"image_id": "P0003_0002.png", "question": "Is there a ship?", "ground_truth": "Yes", "dataset": "VRSBench",
     "question_id": 0, "type": "object existence"},
    {"image_id": "P0003_0002.png", "question": "How many vehicles are there?", "ground_truth": "two",
     "question_id": 1, "type": "object quantity"},
    {"image_id": "P0003_0002.png", "question": "What colour is the roof?", "ground_truth": "gray",
     "question_id": 2, "type": "object color"},
    {"image_id": "P0003_0002.png", "question": "What is it?", "ground_truth": "A harbor", "question_id": 3,
     "type": "scene type"},
    {"image_id": "P0003_0002.png", "question": "No answer?", "question_id": 4, "type": "reasoning"},
]  # fmt: skip


def test_vrsbench_questions(tmp_path):
    """VRSBench_EVAL_vqa.json as huggingface.co/datasets/xiang709/VRSBench publishes it."""
    folder = vrsbench(tmp_path, "VRSBench_EVAL_vqa.json", VQA)
    task = RemoteSensingQuestions(data=folder)
    items = list(task.items())
    good = [item for item in items if isinstance(item, Item)]
    assert [item.target["answer"] for item in good] == ["yes", "2", "gray", "a harbor"]
    assert isinstance(items[-1], BrokenItem) and "ground_truth" in items[-1].reason
    assert good[0].messages[0]["content"][0]["image"].open().size == (512, 512)
    replies = ["Yes.", "There are 2 vehicles.", "The roof is grey.", "harbor"]
    for item, text in zip(good, replies, strict=True):
        assert task.score(item, Reply(text=text)).outcome == "correct", text
    assert task.score(good[3], Reply(text="a parking lot")).outcome == "wrong"
    assert [i.id for i in Counting(data=folder).items()] == ["1"]
    assert [i.id for i in SceneClassification(data=folder).items() if isinstance(i, Item)] == ["3"]


@pytest.mark.parametrize(
    ("truth", "kind", "reply", "outcome"),
    [
        ("Grey", "object color", "grey", "correct"),
        ("Grey", "object color", "The roof is gray.", "correct"),
        ("Grey", "object color", "white", "wrong"),
        ("gray", "object color", "It is grey.", "correct"),
        ("Rectangular", "object shape", "The answer is rectangular.", "correct"),
        ("Rectangular", "object shape", "Answer: a circle", "wrong"),
        ("Rectangular", "object shape", "I cannot tell.", "refused"),
        ("Not possible to tell", "reasoning", "not possible to tell", "correct"),
    ],
)
def test_vrsbench_answers_in_other_words(tmp_path, truth, kind, reply, outcome):
    row = {**VQA[0], "ground_truth": truth, "type": kind}
    task = RemoteSensingQuestions(data=vrsbench(tmp_path, "VRSBench_EVAL_vqa.json", [row]))
    (item,) = task.items()
    assert task.score(item, Reply(text=reply)).outcome == outcome
    assert task.score(item, Reply(text=task.perfect_reply(item))).outcome == "correct"


def test_vrsbench_referring(tmp_path):
    """VRSBench_EVAL_referring.json: corners from 0 to 1, the answer in hundredths."""
    corners = [0.1, 0.2, 0.3, 0.2, 0.3, 0.25, 0.1, 0.25]
    row = {"image_id": "P0003_0002.png", "question": "The ship at the pier.", "ground_truth": "{<10><20><30><25>}",
           "dataset": "VRSBench", "type": "ref", "obj_cls": "ship", "size_group": "small"}  # fmt: skip
    rows = [
        {**row, "question_id": 0, "unique": True, "obj_corner": corners},
        {**row, "question_id": 1, "unique": False},
        {**row, "question_id": 2, "unique": False, "ground_truth": "{<10><20>}"},
        {**row, "question_id": 3, "unique": True, "obj_corner": [0.1] * 8},
        {**row, "question_id": 4, "obj_corner": corners},
        {**row, "question_id": 5, "unique": True, "obj_corner": [None] * 8},
    ]
    task = RemoteSensingGrounding(data=vrsbench(tmp_path, "VRSBench_EVAL_referring.json", rows))
    items = list(task.items())
    good = [item for item in items if isinstance(item, Item)]
    assert [item.tags[0] for item in good] == ["unique", "non-unique"] and len(items) == 6
    assert all(item.target["box"] == [0.1, 0.2, 0.3, 0.25] for item in good)
    reply = Reply(text="{<10><20><30><25>}", box_format="minigpt")
    assert all(task.score(item, reply).outcome == "correct" for item in good)


def test_vrsbench_captions(tmp_path):
    rows = [{"image_id": "P0003_0002.png", "ground_truth": "A harbor with ships.", "question": "Describe the image in "
             "detail", "question_id": 0, "type": "caption"}, {"image_id": "P0003_0002.png"}]  # fmt: skip
    task = RemoteSensingCaptions(data=vrsbench(tmp_path, "VRSBench_EVAL_Cap.json", rows))
    item, broken = task.items()
    assert isinstance(broken, BrokenItem) and item.target["references"] == ["A harbor with ships."]
    score = task.score(item, Reply(text="a harbor with two ships"))
    assert score.outcome == "correct" and "facts" not in score.details


def test_unknown_families_name_the_nearest():
    with pytest.raises(EvaluationError, match="Did you mean 'position'"):
        get_task("remote-sensing-vqa", families="positions")
