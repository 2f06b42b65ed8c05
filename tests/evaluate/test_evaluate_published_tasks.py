"""Public data sets in their published formats, a fixture of each written here."""

from __future__ import annotations

import base64
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Scored
from foveate.evaluate.tasks.reading import anls, edit_distance
from foveate.evaluate.tasks.registry import get_task
from foveate.world import sample_scene


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def scored(task, item, text):
    reply = Reply(text=text)
    return Scored(item=item, reply=reply, score=task.score(item, reply))


def picture(item):
    return next(part["image"] for part in item.messages[0]["content"] if part["type"] == "image")


def test_pope(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    rows = [
        {"question_id": 1, "image": "a.png", "text": "Is there a dog in the image?", "label": "yes"},
        {"question_id": 2, "image": "a.png", "text": "Is there a cat in the image?", "label": "no"},
        {"question_id": 3, "image": "a.png", "text": "Is there a cow in the image?", "label": "perhaps"},
        {"question_id": 4, "text": "Is there a cow in the image?", "label": "no"},
    ]
    (tmp_path / "coco_pope_random.json").write_text(lines(*rows))
    (tmp_path / "coco_pope_popular.json").write_text(lines(rows[0]))
    task = get_task("pope", data=str(tmp_path), negatives="random")
    first, second, *broken = task.items()
    assert isinstance(first, Item) and first.id == "1" and first.cluster == second.cluster == "a.png"
    assert picture(first).open().size == (20, 10)
    assert [type(each) for each in broken] == [BrokenItem] * 2 and "perhaps" in broken[0].reason
    measures = task.corpus_measures([scored(task, first, "Yes."), scored(task, second, "Yes, a cat.")])
    assert measures == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "yes_ratio": 1})
    with pytest.raises(EvaluationError, match="negatives"):
        get_task("pope", negatives="rare")


def test_popes_negatives_in_the_world_share_as_much_as_they_say():
    for negatives, shared in (("random", 0), ("popular", 1), ("adversarial", 2)):
        items = list(get_task("pope", count=20, negatives=negatives).items())
        assert sum(item.target == "yes" for item in items) == 10
        for no in (item for item in items if item.target == "no"):
            scene = sample_scene("shapes", "test", int(no.cluster))
            colour, shape = no.messages[0]["content"][1]["text"].removesuffix(" in the image?").split()[-2:]
            own = any((o.colour, o.shape) == (colour, shape) for o in scene.objects)
            assert not own and shared == any(o.colour == colour for o in scene.objects) + any(
                o.shape == shape for o in scene.objects
            )


def test_docvqa(tmp_path):
    rows = [
        {
            "questionId": 337,
            "question": "What is the date?",
            "image": "documents/a_1.png",
            "docId": 279,
            "answers": ["1/8/93", "January 8, 1993"],
            "question_types": ["handwritten"],
        },
        {"questionId": 338, "question": "Who?", "image": "documents/a_1.png", "answers": "Paul"},
        {"questionId": 339, "question": "Who?", "image": "documents/a_1.png"},
    ]
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a_1.png").write_bytes(png())
    (tmp_path / "val_v1.0.json").write_text(json.dumps({"dataset_name": "docvqa", "data": rows}))
    first, second, broken = get_task("docvqa", data=str(tmp_path)).items()
    assert isinstance(broken, BrokenItem) and first.tags == ("handwritten",) and first.cluster == "279"
    assert picture(first).open().size == (20, 10) and second.target == {"answers": ["Paul"]}
    task = get_task("docvqa")
    for text, value, outcome in (
        ("january 8, 1993", 1, "correct"),
        ("1/8/92", 5 / 6, "correct"),
        ("final answer: 1/8/93", 1, "correct"),
        ("yesterday", 0, "wrong"),
        ("I cannot read it.", 0, "refused"),
    ):
        score = task.score(first, Reply(text=text))
        assert (score.outcome, score.value) == (outcome, pytest.approx(value)), text


@settings(max_examples=60, deadline=None)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_a_distance(one, other, third):
    assert edit_distance(one, other) == edit_distance(other, one)
    assert (edit_distance(one, other) == 0) == (one == other)
    assert edit_distance(one, third) <= edit_distance(one, other) + edit_distance(other, third)
    assert abs(len(one) - len(other)) <= edit_distance(one, other) <= max(len(one), len(other))


def test_edit_distances_known():
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == 3
    assert anls("abcdefghij", ["abcdefghix"]) == pytest.approx(0.9) and anls("ab", ["xy"]) == 0


def test_chartqa(tmp_path):
    rows = [
        {"imgname": "1.png", "query": "How many?", "label": "14"},
        {"imgname": "1.png", "query": "Which country?", "label": "Norway"},
        {"imgname": "1.png", "query": "What share?", "label": "12%"},
        {"imgname": "1.png", "query": "What share?"},
    ]
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "1.png").write_bytes(png())
    (tmp_path / "test_human.json").write_text(json.dumps(rows))
    task = get_task("chartqa", data=str(tmp_path))
    number, word, share, broken = task.items()
    assert isinstance(broken, BrokenItem) and picture(number).open().size == (20, 10)
    for item, text, outcome in (
        (number, "14.6", "correct"),
        (number, "14.8", "wrong"),
        (number, "Norway", "unparsed"),
        (number, "13 or 14", "unparsed"),
        (word, "norway.", "correct"),
        (word, "Sweden", "wrong"),
        (share, "12", "correct"),
        (share, "12.5%", "correct"),
    ):
        assert task.score(item, Reply(text=text)).outcome == outcome, text


def test_mmbench(tmp_path):
    encoded = base64.b64encode(png()).decode()
    file = tmp_path / "MMBench_DEV_EN.tsv"
    header = "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\n"
    file.write_text(
        header
        + f"241\tWhich?\tLook closely.\tcat\tdog\t\t\tB\tidentity\t{encoded}\n"
        + "1000241\tWhich?\t\tdog\tcat\t\t\tA\tidentity\t241\n"
        + f"3\tWhich?\t\tcat\tdog\t\t\tD\tidentity\t{encoded}\n"
    )
    task = get_task("multiple-choice", data=str(file))
    first, again, broken = task.items()
    assert isinstance(broken, BrokenItem) and "none of 2 options" in broken.reason
    assert first.messages[0]["content"][1]["text"] == "Look closely.\nWhich?\nA. cat\nB. dog"
    assert first.tags == ("identity",) and picture(again).open().size == (20, 10)
    assert task.score(first, Reply(text="B. dog")).outcome == "correct"
    assert task.score(first, Reply(text="dog")).outcome == "correct"
    assert task.score(first, Reply(text="cat or dog")).outcome == "unparsed"


def test_seed_bench(tmp_path):
    rows = [
        {
            "answer": "C",
            "choice_a": "one",
            "choice_b": "two",
            "choice_c": "three",
            "choice_d": "four",
            "data_id": "1454426_2591111986",
            "data_type": "image",
            "question": "How many towels?",
            "question_id": "101669",
            "question_type_id": 5,
        },
        {
            "data_type": "video",
            "data_id": "1",
            "question": "?",
            "answer": "A",
            "choice_a": "a",
            "choice_b": "b",
        },
    ]
    (tmp_path / "1454426_2591111986").write_bytes(png())
    (tmp_path / "SEED-Bench.json").write_text(json.dumps({"questions": rows, "question_type": {}}))
    item, video = get_task("multiple-choice", data=str(tmp_path), option_shift=1).items()
    assert item.id == "101669" and item.target["answer"] == "B" and item.target["options"]["B"] == "three"
    assert picture(item).open().size == (20, 10)
    assert isinstance(video, BrokenItem) and "video" in video.reason


def test_mmmu(tmp_path):
    encoded = base64.b64encode(png()).decode()
    rows = [
        {
            "id": "validation_Art_1",
            "question": "Compare <image 1> with <image 2>. Which is it?",
            "options": "['Rococo', 'Baroque']",
            "answer": "A",
            "image_1": {"bytes": encoded, "path": None},
            "image_2": {"bytes": encoded},
            "question_type": "multiple-choice",
            "subfield": "Art Theory",
        },
        {
            "id": "o",
            "question": "How much?",
            "options": "[]",
            "answer": "3",
            "question_type": "open",
            "image_1": "a",
        },
        {"id": "p", "question": "Which?", "options": "[a", "answer": "A", "image_1": "a"},
    ]
    (tmp_path / "validation.jsonl").write_text(lines(*rows))
    item, open_question, broken = get_task("multiple-choice", data=str(tmp_path)).items()
    kinds = [part["type"] for part in item.messages[0]["content"]]
    assert kinds == ["text", "image", "text", "image", "text"] and item.tags == ("Art Theory",)
    assert isinstance(open_question, BrokenItem) and "open" in open_question.reason
    assert isinstance(broken, BrokenItem)


def test_circular_counts_a_question_only_where_every_order_is_right():
    task = get_task("multiple-choice", count=2, circular=True)
    items = list(task.items())
    questions = {item.target["question"] for item in items}
    assert len(questions) == 2 and len(items) > len(questions)
    one = items[0].target["question"]
    always_a = [scored(task, item, "A") for item in items]
    assert task.corpus_measures(always_a)["circular_accuracy"] == 0
    half = [scored(task, i, i.target["answer"] if i.target["question"] == one else "A") for i in items]
    assert task.corpus_measures(half)["circular_accuracy"] == 0.5
    for item in items:
        assert (
            item.target["options"][item.target["answer"]]
            == items[0].target["options"][items[0].target["answer"]]
            or item.target["question"] != one
        )
