"""Rows of public data with any one value of a wrong kind: told as broken, asked, or refused in words; never a crash."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from foveate.errors import FoveateError
from foveate.evaluate.contract import BrokenItem, Item, Reply
from foveate.evaluate.planning import RunPlan, TaskChoice, make_parts
from foveate.evaluate.published import items_from
from foveate.evaluate.run.records import messages_digest, plain, score_to_row
from foveate.evaluate.tasks.registry import get_task

WRONG: tuple[Any, ...] = (
    None, True, 5, -1, 10**30, 0.5, float("inf"), float("nan"), "", "x", [], [5], [None], [[]], {}, {"x": 5}
)  # fmt: skip
PICTURE = {"image": "a.png"}
VRSBENCH = {"image_id": "a.png", "question_id": 1, "question": "What is it?"}
LETTERS = {f"choice_{letter}": letter for letter in "abcd"}
# task, file, a row as it should be
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("pope", "coco_pope_adversarial.json", {"question_id": 1, **PICTURE, "text": "Is there a dog?", "label": "yes"}),
    ("aqua", "test.jsonl", {"filename": "a.png", "level": 2, "question": "What colour?", "answer": "Red or blue."}),
    ("docvqa", "val_v1.0.jsonl", {"questionId": 1, "docId": 2, **PICTURE, "question": "What?", "answers": ["a"],
                                 "question_types": ["form"]}),
    ("chartqa", "test_human.json", {"imgname": "a.png", "query": "How many?", "label": "14"}),
    ("multiple-choice", "seed.jsonl", {"data_type": "image", "data_id": "a.png", "question_id": "1", "answer": "C",
                                       "question": "What?", "question_type_id": 5, **LETTERS}),
    ("multiple-choice", "mmmu.jsonl", {"id": "one", "question": "See <image 1>.", "options": "['a', 'b']",
                                       "answer": "A", "image_1": {"bytes": None, "path": "a.png"}, "subfield": "Art",
                                       "question_type": "multiple-choice"}),
    ("dialogue", "d.jsonl", {"id": "d", **PICTURE, "turns": [
        {"question": "Is it red?", "answer": "yes", "choices": ["yes", "no"]}, {"question": "Why?", "answer": "a"}]}),
    ("referring", "refcoco.jsonl", {**PICTURE, "sent": "the dog", "bbox": [2, 1, 6, 4], "height": 10, "width": 20}),
    ("referring", "refcoco.jsonl", {"question_id": "5", **PICTURE, "answer": ["dog", "left"], "bbox": [2, 1, 4, 3]}),
    ("remote-sensing-vqa", "vqa.json", {**VRSBENCH, "ground_truth": "yes", "type": "object existence"}),
    ("remote-sensing-counting", "vqa.json", {**VRSBENCH, "ground_truth": "2", "type": "object quantity"}),
    ("remote-sensing-scenes", "vqa.json", {**VRSBENCH, "ground_truth": "harbor", "type": "scene type"}),
    ("remote-sensing-captions", "Cap.json", {**VRSBENCH, "ground_truth": "A harbor.", "type": "caption"}),
    ("remote-sensing-grounding", "referring.json", {
        **VRSBENCH, "ground_truth": "{<10><20><30><25>}", "type": "ref", "obj_cls": "ship", "size_group": "small",
        "unique": True, "obj_corner": [0.1, 0.2, 0.3, 0.2, 0.3, 0.25, 0.1, 0.25]}),
    ("vpbench-depth", "perceptioneval_depth_dev.json",
     {"original_image": "a.png", "point_A": [1, 5], "point_B": [10, 7], "human_answer_2": "B"}),
]  # fmt: skip
CORRESPONDENCE = {
    "val": [
        {"images": ["1-2008_01-2009_02:cat_1", "1-2008_01-2009_02:cat_2"], "blink_image1_size": [240, 160],
         "blink_image2_size": [480, 320], "gold_point": 1, "real_consider_points": [3, 0, 2, 1],
         "src_kps": [[1, 1], [60, 40]], "trg_kps": [[10, 40], [50, 60], [90, 30], [11, 7]], "real_answer": "(D)"}
    ],
    "test": [],
}  # fmt: skip
COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 20, "height": 10}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [2, 1, 4, 3], "area": 12, "iscrowd": 0,
         "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 20, 5], "area": 100, "iscrowd": 1,
         "segmentation": {"size": [10, 20], "counts": [0, 5, 195]}},
    ],
    "categories": [{"id": 1, "name": "dog"}],
}  # fmt: skip
DA2K = {"images/a_1.png": [{"point1": [2, 10], "point2": [6, 1], "closer_point": "point1"}]}
NEXT_QA = {
    "video": "1", "frame_count": "5", "width": "64", "height": "48", "question": "how", "answer": "2", "qid": "6",
    "type": "CH", **{f"a{n}": f"option {n}" for n in range(5)},
}  # fmt: skip
MMBENCH = {
    "index": "1", "question": "Which?", "hint": "Look.", "A": "cat", "B": "dog", "answer": "B",
    "category": "identity", "image": "a.png",
}  # fmt: skip


def changed(value: Any) -> Iterator[Any]:
    """The value with each of its parts, at any depth, of each wrong kind in turn."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        for other in (*WRONG, *changed(value[key])):
            made = copy.copy(value)
            made[key] = other
            yield made


def check(task: Any, found: list[Item | BrokenItem]) -> None:
    """What a run does with items before and after it asks."""
    assert len({each.id for each in found}) == len(found), "each has an id of its own"
    for each in found:
        if isinstance(each, BrokenItem):
            assert each.reason
            continue
        assert isinstance(each.id, str) and isinstance(each.cluster, str) and messages_digest(each.messages)
        assert all(isinstance(tag, str) for tag in each.tags)
        json.dumps(plain({"target": each.target, "score": score_to_row(task.score(each, Reply(text="yes")))}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in (".", "Images_val", "images", "png"):
        (tmp_path / place).mkdir(exist_ok=True)
        Image.new("RGB", (20, 10)).save(tmp_path / place / "a.png")
    return tmp_path


@pytest.mark.parametrize(("task", "file", "row"), ROWS, ids=[f"{task} {file}" for task, file, _ in ROWS])
def test_a_value_of_any_wrong_kind_breaks_its_row_alone(task, file, row, folder):
    """All in one file: of so many rows the first is whole, and whatever the others are, it is asked."""
    rows = [row, *changed(row)]
    as_lines = file.endswith(".jsonl")
    (folder / file).write_text("\n".join(map(json.dumps, rows)) if as_lines else json.dumps(rows))
    one = get_task(task, data=str(folder / file))
    found = list(one.items())
    assert isinstance(found[0], Item)
    check(one, found)
    assert any(isinstance(each, BrokenItem) for each in found)


@pytest.mark.parametrize(
    ("task", "file", "row"), [("video", "val.csv", NEXT_QA), ("multiple-choice", "m.tsv", MMBENCH)]
)
def test_a_cell_of_any_wrong_kind_breaks_its_row_alone(task, file, row, folder):
    with (folder / file).open("w", newline="") as out:
        writer = csv.DictWriter(out, row, delimiter="\t" if file.endswith(".tsv") else ",")
        writer.writeheader()
        writer.writerow(row)
        for key in row:
            writer.writerows(
                {**row, key: other} for other in ("", "x", "-1", "0", "1e999", "nan", "9" * 40, "[]")
            )
    one = get_task(task, data=str(folder / file))
    found = list(one.items())
    assert isinstance(found[0], Item)
    check(one, found)


@pytest.mark.parametrize(
    ("task", "file", "document"),
    [
        ("detection", "instances_val2017.json", COCO),
        ("segmentation", "instances_val2017.json", COCO),
        ("vpbench-depth", "annotations.json", DA2K),
        ("vpbench-correspondence", "semantic_corr_raw_fixed.json", CORRESPONDENCE),
    ],
)
def test_a_document_with_any_wrong_value_is_read_or_refused_in_words(task, file, document, folder):
    (folder / file).write_text(json.dumps(document))
    assert any(isinstance(each, Item) for each in get_task(task, data=str(folder)).items())
    for other in changed(document):
        (folder / file).write_text(json.dumps(other))
        one = get_task(task, data=str(folder))
        try:
            found = list(one.items())
        except FoveateError:
            continue
        check(one, found)


def test_the_second_row_of_an_id_is_broken_and_the_first_is_asked(folder):
    row = {"questionId": 1, **PICTURE, "question": "What?", "answers": ["a"]}
    (folder / "val.json").write_text(json.dumps({"data": [row, row, {**row, "questionId": 2}, row]}))
    plan = RunPlan(tasks=(TaskChoice(name="docvqa", settings={"data": str(folder)}),), style="plain")
    ((part,), _) = make_parts(plan)
    assert [item.id for item in part.items] == ["1", "2"]
    assert [row.reason for row in part.broken] == ["the id '1' is taken"] * 2


def test_a_rows_fault_is_told_and_an_interruption_is_not_swallowed(folder):
    (folder / "rows.jsonl").write_text('{"a": 5}\n')
    (broken,) = items_from(folder / "rows.jsonl", lambda place, row: list(row["a"]))
    assert isinstance(broken, BrokenItem) and "'int' object is not iterable" in broken.reason

    def stopped(place, row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(items_from(folder / "rows.jsonl", stopped))
