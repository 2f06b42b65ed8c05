"""What a run's answers come to: numbers by hand, groups, failures apart, and what cannot be rebuilt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from finished_runs import Toy, replies, toy, write_run
from PIL import ImageColor

from foveate.evaluate.contract import EvaluationError, Parameters
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.rebuild import items_of
from foveate.evaluate.run.summary import confusion, score_of, summarise
from foveate.evaluate.run.tables import costs
from foveate.evaluate.run.worst import (
    SAID_COLOUR,
    TRUE_COLOUR,
    WIDTH,
    exhibit_of,
    exhibits,
    shapes_in,
    worst_rows,
)
from foveate.evaluate.statistics import wilson_interval
from foveate.evaluate.tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("toy")
__all__ = ["toy"]


def test_counts_and_intervals_are_those_of_the_answers(tmp_path):
    texts = replies(wrong=[1, 2], count=28, sorry=[3], what=[4, 5])
    write_run(tmp_path, texts, failed={"toy-0028": ("timeout", "60 s"), "toy-0029": ("data", "no row")})
    summary = summarise(tmp_path)
    (row,) = summary["results"]
    assert row["outcomes"] == {"correct": 23, "wrong": 2, "unparsed": 2, "refused": 1}
    assert (row["items"], row["mean"], summary["failed"]) == (28, 23 / 28, 2)
    assert row["failures"] == {"timeout": 1, "data": 1}  # in no score
    assert row["interval"] == row["wilson"] == list(wilson_interval(23, 28))
    assert row["method"] == "Wilson" and row["bootstrap"][0] < 23 / 28 < row["bootstrap"][1]
    assert row["measures"] == {"red recall": pytest.approx(9 / 10)}  # item 3 is red
    assert row["tags"]["colour:red"]["items"] == 10 and row["tags"]["colour:red"]["mean"] == 0.9
    assert "28 items show a difference of" in row["note"]
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))


def test_questions_about_one_picture_give_the_interval_over_pictures(tmp_path):
    """Thirty questions on five pictures, one picture all wrong: five pieces of evidence, not thirty."""
    write_run(tmp_path, replies(wrong=range(6)), settings={"questions": 6})
    (row,) = summarise(tmp_path)["results"]
    assert row["clusters"] == 5 and row["method"] == "BCa bootstrap over 5 pictures"
    wide, narrow = (ends[1] - ends[0] for ends in (row["interval"], row["wilson"]))
    assert wide > narrow and "counted as pictures: 5 items" in row["note"]


def test_graded_scores_have_no_wilson_interval(tmp_path):
    folder = write_run(tmp_path, replies())
    rows = list(folder.samples.values())
    rows[0]["score"]["value"] = 0.5
    found = score_of(rows)
    assert found["wilson"] is None and not found["binary"] and found["method"].startswith("BCa")


def test_scores_that_are_alike_in_every_picture_keep_to_scores():
    """Six pictures with one right and one wrong answer each: nothing to resample, and no score below 0."""
    rows = [{"score": {"value": float(i % 2)}, "cluster": i // 2} for i in range(12)]
    low, high = score_of(rows)["interval"]
    _, differing = wilson_interval(0, 6)
    assert (low, high) == pytest.approx((0.5 * (1 - differing), 0.5 * (1 + differing)), abs=1e-6)
    assert 0 < low < 0.5 < high < 1


def test_a_sample_says_that_it_is_one(tmp_path):
    write_run(tmp_path, replies(count=10), limit=10)
    assert "sample of at most 10 items a task (seed 0)" in summarise(tmp_path)["sample"]


def test_a_run_that_is_not_over_says_so_and_a_whole_one_does_not(tmp_path):
    failed = {"toy-0010": ("timeout", "60 s")}
    dark = Variant(name="dark", axis="shade")
    write_run(tmp_path / "a", replies(count=10), failed=failed, planned=30, variants=(BASELINE, dark))
    summary = summarise(tmp_path / "a")
    assert summary["unfinished"] == [
        {"task": "toy", "variant": "baseline", "asked": 11, "planned": 30},
        {"task": "toy", "variant": "dark", "asked": 0, "planned": 30},
    ]
    write_run(tmp_path / "b", replies(count=10), failed=failed, planned=11)
    assert summarise(tmp_path / "b")["unfinished"] == []


def test_replies_cut_at_the_limit_are_counted(tmp_path):
    folder = write_run(tmp_path, replies())
    next(iter(folder.samples.values()))["reply"]["finish_reason"] = "length"
    assert summarise(folder)["results"][0]["cut_short"] == 1


def test_confusion_counts_true_against_said(tmp_path):
    write_run(tmp_path, replies(wrong=[0, 3, 1], what=[6], sorry=[7]))
    found = summarise(tmp_path)["results"][0]["confusion"]
    assert found["classes"] == ["blue", "green", "red"]
    assert found["counts"] == {
        "red": {"red": 7, "green": 2, "unparsed": 1},
        "green": {"green": 8, "blue": 1, "refused": 1},
        "blue": {"blue": 10},
    }


def test_free_answers_have_no_confusion_matrix_and_named_classes_come_first(tmp_path):
    rows = list(write_run(tmp_path, replies()).samples.values())
    for number, row in enumerate(rows):
        row["score"]["details"] = {"confusion": ["ask" if number % 2 else "answer", "answer"]}
    assert confusion(rows)["counts"] == {"answer": {"answer": 15}, "ask": {"answer": 15}}
    for number, row in enumerate(rows):
        row["score"]["details"], row["target"] = {}, f"word {number}"
    assert confusion(rows) is None
    for row in rows:
        row["target"] = {"a": 1}
    assert confusion(rows) is None


def test_a_task_that_is_gone_keeps_its_scores_and_says_what_is_missing(tmp_path, monkeypatch):
    folder = write_run(tmp_path, replies(wrong=[0]))
    monkeypatch.delitem(TASKS, "toy")
    (row,) = summarise(folder)["results"]
    assert row["mean"] == 29 / 30 and row["measures"] == {} and "no task 'toy'" in row["measures_missing"]
    (shown,) = exhibits(folder, "toy", "baseline", list(folder.samples.values()))
    assert shown.pictures == () and "no task 'toy'" in shown.missing


def test_items_that_left_the_data_are_told():
    assert list(items_of(Toy(), {"toy-0003"})) == ["toy-0003"]
    assert items_of(Toy(), set()) == {}
    with pytest.raises(EvaluationError, match="1 items are not in the task's data any more, 'toy-9'"):
        items_of(Toy(), {"toy-0003", "toy-9"})


def test_the_worst_are_of_many_groups_and_never_right(tmp_path):
    folder = write_run(tmp_path, replies(wrong=[0, 3, 6, 9, 1, 2], what=[12]))
    rows = list(folder.samples.values())
    first = [row["tags"][0] for row in worst_rows(rows)]
    assert sorted(first[:3]) == ["colour:blue", "colour:green", "colour:red"]
    assert all(row["score"]["outcome"] != "correct" for row in worst_rows(rows, most=99))
    assert len(worst_rows(rows, most=99)) == 7
    assert all(one.pictures[0].size == (WIDTH, 165) for one in exhibits(folder, "toy", "baseline", rows))


def test_a_run_of_failures_alone_has_no_score(tmp_path):
    write_run(tmp_path, {}, failed={"toy-0000": ("timeout", "60 s")}, parameters=Parameters(max_tokens=9))
    (row,) = summarise(RunFolder.open(tmp_path))["results"]
    assert row["items"] == 0 and "mean" not in row and row["failures"] == {"timeout": 1}


def test_no_run_is_no_summary(tmp_path):
    with pytest.raises(EvaluationError, match="holds no run of foveate eval"):
        summarise(tmp_path)


def test_all_right_on_few_pictures_is_no_point(tmp_path):
    write_run(tmp_path, replies(), settings={"questions": 6})
    (row,) = summarise(tmp_path)["results"]
    assert row["interval"] == list(wilson_interval(5, 5)) and row["method"] == "Wilson over 5 pictures"


def test_boxes_and_outlines_are_found_wherever_they_stand():
    box, outline = [0.1, 0.2, 0.5, 0.9], [[0.1, 0.1], [0.5, 0.1], [0.3, 0.8]]
    assert shapes_in({"size": [168, 168], "box": box}) == [box]
    assert shapes_in({"instances": [{"box": box, "label": "a"}, {"outline": outline}]}) == [box, outline]
    assert shapes_in([["star", box]]) == [box] and shapes_in(outline) == [outline]
    assert (
        shapes_in("[1, 2, 3, 4]") == shapes_in([1, 2, 3, 4]) == shapes_in(None) == shapes_in([True] * 4) == []
    )


def test_true_and_said_boxes_are_drawn_in_colours_of_their_own(tmp_path):
    folder = write_run(tmp_path, replies())
    row = next(iter(folder.samples.values()))
    row["target"], row["score"]["parsed"] = {"box": [0.1, 0.1, 0.4, 0.4]}, [0.5, 0.5, 0.9, 0.9]
    item = replace(next(iter(Toy().items())), form="boxes")
    shown = exhibit_of(row, item).pictures[0]
    colours = {f"#{red:02x}{green:02x}{blue:02x}" for _, (red, green, blue) in shown.getcolors(1 << 20)}
    assert colours == {"#ff0000", TRUE_COLOUR, SAID_COLOUR}
    assert shown.getpixel((round(0.1 * shown.width), round(0.25 * shown.height))) == ImageColor.getrgb(
        TRUE_COLOUR
    )


def test_what_it_took_counts_only_replies_that_were_asked_for(tmp_path):
    folder = write_run(tmp_path, replies())
    next(iter(folder.timings.values()))["from_cache"] = True
    next(iter(folder.samples.values()))["reply"]["pictures"] = [{"width": 8, "height": 6, "codec": "jpeg:80"}]
    (row,) = costs(folder)[1]
    assert row == ("toy", "8x6 jpeg:80", "-", "-", "-", "-", "0.10", "29, 1 from the cache")


def test_the_order_in_which_replies_came_changes_nothing(tmp_path):
    folder = write_run(tmp_path, replies(wrong=[1, 2, 9, 20]), settings={"questions": 4})
    summary = summarise(folder)
    folder.samples = dict(reversed(folder.samples.items()))
    assert summarise(folder) == summary
