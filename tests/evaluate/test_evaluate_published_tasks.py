"""Public data sets in their published formats, a fixture of each written here."""

from __future__ import annotations

import base64
import io
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from foveate.errors import MediaError
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Scored
from foveate.evaluate.motion import KINDS, SECONDS, bounces
from foveate.evaluate.tasks.reading import anls, edit_distance
from foveate.evaluate.tasks.registry import get_task
from foveate.world import sample_scene
from foveate.world.asking import Asker


def png(shade: int = 200) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(buffer, "PNG")
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
    # A file named by itself says which negatives it has; one that does not is tagged with none.
    for name, tags in (("coco_pope_popular.json", ("popular", "yes")), ("questions.json", ("yes",))):
        (tmp_path / name).write_text(lines(rows[0]))
        [item] = get_task("pope", data=str(tmp_path / name)).items()
        assert item.tags == tags
    encoded = [base64.b64encode(png(shade)).decode() for shade in (200, 200, 40)]
    inside = [{**rows[0], "question_id": n, "image": {"bytes": one}} for n, one in enumerate(encoded)]
    (tmp_path / "questions.json").write_text(lines(*inside))
    one, same, other = get_task("pope", data=str(tmp_path / "questions.json")).items()
    assert one.cluster == same.cluster != other.cluster


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
        {"questionId": 340, "question": "What?", "image": "documents/a_1.png", "answers": ["I am sorry"]},
        {"questionId": 339, "question": "Who?", "image": "documents/a_1.png"},
    ]
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "a_1.png").write_bytes(png())
    (tmp_path / "val_v1.0.json").write_text(json.dumps({"dataset_name": "docvqa", "data": rows}))
    first, second, sorry, broken = get_task("docvqa", data=str(tmp_path)).items()
    assert isinstance(broken, BrokenItem) and first.tags == ("handwritten",) and first.cluster == "279"
    assert picture(first).open().size == (20, 10) and second.target == {"answers": ["Paul"]}
    task = get_task("docvqa")
    assert task.score(sorry, Reply(text="I am sorry.")).value == 1
    assert task.score(first, Reply(text="I am sorry.")).outcome == "refused"
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


def test_questions_on_a_picture_inside_their_rows_belong_together(tmp_path):
    one, other = ({"bytes": base64.b64encode(png(shade)).decode()} for shade in (200, 40))
    file = tmp_path / "test.jsonl"
    for name, row in (
        ("chartqa", {"query": "How many?", "label": "14"}),
        ("docvqa", {"question": "Who?", "answers": ["Paul"]}),
        ("aqua", {"question": "Who?", "level": 1}),
    ):
        file.write_text(lines(*({**row, "image": image} for image in (one, one, other))))
        first, second, third = get_task(name, data=str(file)).items()
        assert first.cluster == second.cluster != third.cluster, name


def test_chartqa(tmp_path):
    rows = [
        {"imgname": "1.png", "query": "How many?", "label": "14"},
        {"imgname": "1.png", "query": "Which country?", "label": "Norway"},
        {"imgname": "1.png", "query": "What share?", "label": "12%"},
        {"imgname": "1.png", "query": "Which is last?", "label": "Not sure: I don't know"},
        {"imgname": "1.png", "query": "What share?"},
    ]
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "1.png").write_bytes(png())
    (tmp_path / "test_human.json").write_text(json.dumps(rows))
    task = get_task("chartqa", data=str(tmp_path))
    number, word, share, unknown, broken = task.items()
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
        (unknown, "not sure: I don't know", "correct"),
        (word, "I don't know", "refused"),
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
        + f"4\tWhich?\t\tcat\tdog\t\t\tA\tidentity\t{base64.b64encode(png(40)).decode()}\n"
    )
    task = get_task("multiple-choice", data=str(file))
    first, again, broken, other = task.items()
    assert isinstance(broken, BrokenItem) and "none of 2 options" in broken.reason
    assert first.cluster == again.cluster != other.cluster  # rows that share a picture belong together
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


def test_dialogues(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    rows = [
        {
            "id": "d",
            "image": "a.png",
            "turns": [
                {"question": "Is it red?", "answer": "yes", "choices": ["yes", "no"]},
                {"question": "How many?", "answer": "2", "choices": ["1", "2"]},
                {"question": "What does it say?", "answer": "ACE"},
            ],
        },
        {"id": "e", "image": "a.png", "turns": []},
        {"id": "f", "image": "a.png", "turns": [{"question": "?", "answer": "a", "choices": "ab"}]},
    ]
    (tmp_path / "dialogues.jsonl").write_text(lines(*rows))
    task = get_task("dialogue", data=str(tmp_path))
    item, *broken = task.items()
    assert [type(each) for each in broken] == [BrokenItem] * 2
    replies = []
    for text in ("Yes.", "three", "ace"):
        assert task.next_turn(item, replies) is not None
        replies.append(Reply(text=text, earlier=tuple(replies)))
    assert task.next_turn(item, replies) is None
    assert task.next_turn(item, replies[:2])["content"][0]["text"] == "What does it say?"
    score = task.score(item, replies[-1])
    assert (score.outcome, score.value) == ("wrong", pytest.approx(2 / 3))
    assert score.parsed == ["yes", "3", "ace"] and score.details["turns"] == [True, False, True]
    measures = task.corpus_measures([Scored(item=item, reply=replies[-1], score=score)])
    assert measures == {"turn_1": 1, "turn_2": 0, "turn_3": 1}
    assert task.score(item, replies[0]).value == pytest.approx(1 / 3), (
        "turns that were never answered are not right"
    )


def test_dialogues_in_another_order_ask_the_same():
    plain = list(get_task("dialogue", count=12, turns=4).items())
    other = list(get_task("dialogue", count=12, turns=4, shuffle=1).items())
    differ = 0
    for one, two in zip(plain, other, strict=True):
        asked, again = ([turn["question"] for turn in item.target["turns"]] for item in (one, two))
        assert one.id == two.id and sorted(asked) == sorted(again)
        assert again.index(asked[1]) == again.index(asked[0]) + 1, "a follow-up stays behind its question"
        differ += asked != again
    assert differ > 3


def test_motion_as_the_frames_show_it():
    """Positions are those of the scene's own frames, stepped finely; the task computes them from velocities."""
    kinds = dict.fromkeys(KINDS, 0)
    for index in range(90):
        scene = sample_scene("shapes", "test", index, difficulty=1)
        steps = [scene.at(SECONDS * step / 250) for step in range(251)]
        for item in scene.objects:
            turned = sum(
                (b - a) * (c - b) < 0
                for axis in ("x", "y")
                for track in [[getattr(s.objects[item.id], axis) for s in steps]]
                for a, b, c in zip(track, track[1:], track[2:], strict=False)
            )
            assert abs(turned - len(bounces(item, scene))) <= 1  # one in the first or last step is not seen
        for kind, ask in KINDS.items():
            made = ask(Asker(scene, random.Random(index)))
            if made is None:
                continue
            text, answer, choices = made
            assert answer in choices
            kinds[kind] += 1
            if kind == "direction":
                ways = {
                    "left": lambda a, b: b.x < a.x,
                    "right": lambda a, b: b.x > a.x,
                    "up": lambda a, b: b.y < a.y,
                    "down": lambda a, b: b.y > a.y,
                }
                name = text.removeprefix("Does the ").split(" move")[0].split()
                moving = [o for o in scene.objects if {o.colour, o.shape, o.texture, "object"} >= set(name)]
                assert len(moving) == 1
                end = steps[-1].objects[moving[0].id]
                assert ways[answer](moving[0], end)
    assert all(count >= 5 for count in kinds.values()), kinds


def test_next_qa(tmp_path):
    header = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
    (tmp_path / "val.csv").write_text(
        header
        + "4010069381,5,64,48,how do the two men play,2,6,CH,roll,tap,strum,hit,pat\n"
        + "4010069382,5,64,48,why,7,0,CW,a,b,c,d,e\n"
        + "4010069383,5,64,48,why\n"
    )
    task = get_task("video", data=str(tmp_path), frames=8)
    item, *broken = task.items()
    assert [type(each) for each in broken] == [BrokenItem] * 2 and "none of 5" in broken[0].reason
    assert item.id == "4010069381-6" and item.tags == ("CH",) and item.target["answer"] == "C"
    frames = [part for part in item.messages[0]["content"] if part["type"] == "image"]
    assert len(frames) == 5, "no more frames than the video has"
    with pytest.raises(MediaError):
        frames[0]["image"].open()
    assert task.score(item, Reply(text="(C)")).outcome == "correct"
    assert task.score(item, Reply(text="strum")).outcome == "correct"
    av = pytest.importorskip("av")
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos" / "4010069381.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for shade in (0, 60, 120, 180, 240):
            picture_of = Image.new("RGB", (64, 48), (shade, shade, shade))
            container.mux(stream.encode(av.VideoFrame.from_image(picture_of)))
        container.mux(stream.encode())
    shades = [frame["image"].open().getpixel((30, 20))[0] for frame in frames]
    assert shades == sorted(shades) and shades[-1] - shades[0] > 200
