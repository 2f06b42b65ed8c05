"""Runs compared: what may be, on which items, and how often alike and different runs are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from finished_runs import replies, toy, write_run

from foveate.evaluate.contract import EvaluationError, Parameters
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.run import tables
from foveate.evaluate.run.compare import arms_of, compare, compare_rows
from foveate.evaluate.run.compare_report import page
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run_files import RUN
from foveate.evaluate.statistics import items_needed, mcnemar

pytestmark = pytest.mark.usefixtures("toy")
__all__ = ["toy"]


def two(tmp_path: Path, first=(), second=(), **different) -> list[Path]:
    write_run(tmp_path / "a", replies(wrong=first), model="one")
    write_run(tmp_path / "b", replies(wrong=second), **{"model": "two", **different})
    return [tmp_path / "a", tmp_path / "b"]


def test_two_runs_are_paired_item_by_item(tmp_path):
    result = compare(two(tmp_path, first=[0], second=range(10)))
    (row,) = result["comparisons"]
    assert (row["first"], row["second"], row["items"]) == ("one", "two", 30)
    assert row["discordant"] == [9, 0] and row["test"] == "exact McNemar"
    assert row["p_value"] == mcnemar([1] * 9 + [0], [0] * 9 + [0]).p_value == row["holm"]
    assert row["difference"] == pytest.approx(0.3) and row["interval"][0] > 0 and row["different"]
    assert tables.verdict(row) == "one is ahead"
    assert result["differences"] == result["ties"] == result["left_out"] == []
    json.dumps(result, allow_nan=False)


def test_items_of_one_run_alone_are_counted_and_named(tmp_path):
    write_run(tmp_path / "a", replies(count=20))
    write_run(tmp_path / "b", replies(count=6))
    result = compare([tmp_path / "a", tmp_path / "b"])
    assert result["comparisons"][0]["items"] == 6
    (left,) = result["left_out"]
    assert (left["run"], left["items"], len(left["named"])) == ("a", 14, 10)
    (line,) = tables.left_out(result)
    assert "14 items of a " in line and "toy-0006" in line and line.endswith("and 4 more")


@pytest.mark.parametrize(
    ("different", "said"),
    [
        ({"settings": {"words": "Which colour"}}, "words None against 'Which colour'"),
        ({"style": "instruct"}, "style 'plain' in one, 'instruct' in two"),
        ({"parameters": Parameters(temperature=0.5)}, "temperature 0.0 in one, 0.5 in two"),
    ],
)
def test_runs_that_asked_differently_are_refused_unless_asked_for(tmp_path, different, said):
    paths = two(tmp_path, **different)
    with pytest.raises(EvaluationError, match="did not ask the same") as refused:
        compare(paths)
    assert said in str(refused.value) and "--anyway" in str(refused.value)
    result = compare(paths, anyway=True)
    assert any(said in line for line in result["differences"])
    assert "Asked differently" in page(result)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"codec": "png"}, {"codec": "jpeg:85"}, "pictures sent without loss in one, as jpeg:85 in two"),
        ({"codec": "jpeg:85"}, {}, "pictures sent as jpeg:85 in one, without loss in two"),
        ({"extra": {"top_k": 1}}, {"extra": {}}, "fields added to requests: {'top_k': 1} in one, {} in two"),
        ({"codec": "png", "extra": {}}, {"codec": "webp"}, ""),
        ({"codec": "png", "extra": {}}, {}, ""),
    ],
)
def test_how_pictures_and_requests_were_sent_is_part_of_what_was_asked(tmp_path, first, second, said):
    paths = two(tmp_path)
    for path, facts in zip(paths, (first, second), strict=True):
        run = json.loads((path / RUN).read_text())
        run["model"] |= facts
        (path / RUN).write_text(json.dumps(run))
    result = compare(paths, anyway=True)
    assert result["differences"] == ([said] if said else [])
    assert ("as jpeg:85" in page(result)) == ("jpeg" in str((first, second)))


def test_items_that_ask_something_else_under_one_id_are_refused(tmp_path):
    paths = two(tmp_path)
    folder = RunFolder.open(paths[1])
    next(iter(folder.samples.values()))["target"] = "violet"
    folder.put_in_order(folder.samples)
    with pytest.raises(EvaluationError, match="item toy-0000 of toy asks something else in two"):
        compare(paths)


def test_a_visual_budget_is_what_one_compares(tmp_path):
    paths = two(tmp_path, parameters=Parameters(visual_budget="25%", reducer="hired"), model="one")
    result = compare(paths)
    assert [run["name"] for run in result["runs"]] == ["one", "one 25% hired"]


def test_data_in_another_place_is_the_same_data_where_its_items_are(tmp_path):
    paths = two(tmp_path)
    run = json.loads((paths[1] / "run.json").read_text(encoding="utf-8"))
    run["tasks"][0]["settings"]["data"] = "elsewhere"
    (paths[1] / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert compare(paths)["differences"] == []


def test_names_tell_runs_apart(tmp_path):
    folders = [write_run(tmp_path / place, replies(count=3)) for place in ("a/run", "b/run", "b/other")]
    assert [arm.name for arm in arms_of(folders[1:])] == ["run", "other"]
    assert [arm.name for arm in arms_of(folders)] == ["1 run", "2 run", "3 other"]


def test_what_cannot_be_compared_says_so(tmp_path):
    with pytest.raises(EvaluationError, match="nothing to be compared with"):
        compare([tmp_path])
    write_run(tmp_path / "a", replies(count=3))
    write_run(tmp_path / "b", {"toy-0009": "red"})
    with pytest.raises(EvaluationError, match="share no answered items"):
        compare([tmp_path / "a", tmp_path / "b"])


def test_three_runs_are_grouped_where_they_cannot_be_told_apart(tmp_path):
    for name, wrong in (("best", [0]), ("near", [1]), ("far", range(15))):
        write_run(tmp_path / name, replies(wrong=wrong), model=name)
    result = compare([tmp_path / name for name in ("far", "best", "near")])
    (tie,) = result["ties"]
    assert tie["groups"] == [["best", "near"], ["far"]]
    assert len(result["comparisons"]) == 3
    shown = page(result)
    assert "best 96.7 % = near 96.7 % &gt; far 50.0 %" in shown and "http" not in shown.replace(
        "http-equiv", ""
    )


def test_variants_are_compared_with_their_own_kind(tmp_path):
    variants = (BASELINE, Variant(name="loud", axis="wording", task_settings={"words": "WHAT COLOUR"}))
    for name, wrong in (("a", range(8)), ("b", ())):
        write_run(
            tmp_path / name,
            replies(),
            variants=variants,
            varied={"loud": replies(wrong=wrong)},
            model=name,
        )
    rows = compare([tmp_path / "a", tmp_path / "b"])["comparisons"]
    assert [(row["variant"], row["difference"] < 0) for row in rows] == [("baseline", False), ("loud", True)]
    assert rows[1]["holm"] == pytest.approx(2 * rows[1]["p_value"])  # one of two tests


# -- A/A and power, on whole comparisons ------------------------------------------------------------------


def made_up_run(right: np.ndarray, questions: int) -> dict[tuple[str, str], list[dict]]:
    """Samples of a run of as many tasks as `right` has rows; `questions` share a picture."""
    return {
        (f"task {number}", "baseline"): [
            {"item": str(item), "cluster": str(item // questions), "score": {"value": float(value)}}
            for item, value in enumerate(row)
        ]
        for number, row in enumerate(right)
    }


def told_apart(first: np.ndarray, second: np.ndarray, questions: int = 1) -> bool:
    runs = {"a": made_up_run(first, questions), "b": made_up_run(second, questions)}
    result = compare_rows(runs, resamples=400)
    return any(row["different"] for row in result["comparisons"])


@pytest.mark.parametrize("questions", [1, 4])
def test_alike_runs_are_called_different_in_at_most_one_comparison_of_twenty(questions):
    """200 comparisons of two runs of one model, three tasks each: any task called different is a false alarm.

    Items have a difficulty and pictures a luck of their own in each run, as answers about one picture do.
    """
    generator = np.random.default_rng(7)
    items, alarms = 80, 0
    for _ in range(200):
        ease = generator.beta(2, 1, size=(3, items))
        runs = []
        for _ in range(2):
            luck = np.repeat(generator.random((3, items // questions)), questions, axis=1)
            own = generator.random((3, items))
            mixed = np.where(generator.random((3, items)) < 0.7, luck, own) if questions > 1 else own
            runs.append(mixed < ease)
        alarms += told_apart(*runs, questions)
    assert alarms <= 10, "more than 5 % of 200"


def test_identical_answers_are_never_different():
    right = np.random.default_rng(1).random((3, 60)) < 0.8
    result = compare_rows({"a": made_up_run(right, 1), "b": made_up_run(right, 1)}, resamples=400)
    assert all(row["p_value"] == row["holm"] == 1 and row["difference"] == 0 for row in result["comparisons"])


def test_a_difference_of_the_power_notes_size_is_found_in_four_runs_of_five():
    """Arms of 77.5 and 72.5 % that agree as the note's correlation of 0.5 says, on the 589 items it asks for."""
    needed, better, worse, correlation = items_needed(0.05), 0.775, 0.725, 0.5
    spread = np.sqrt(better * (1 - better) * worse * (1 - worse))
    both = better * worse + correlation * spread
    shares = [both, better - both, worse - both, 1 - better - worse + both]
    generator = np.random.default_rng(3)
    discordant = generator.multinomial(needed, shares, size=1000)[:, 1:3]
    found = np.mean([mcnemar(*pairs_of(*counts)).p_value <= 0.05 for counts in discordant])
    assert 0.75 <= found <= 0.83  # the exact test is a little conservative


def pairs_of(only_first: int, only_second: int) -> tuple[list[int], list[int]]:
    return [1] * only_first + [0] * only_second, [0] * only_first + [1] * only_second


def test_rankings_are_held_against_chance_where_runs_share_variants(tmp_path):
    variants = (BASELINE, Variant(name="loud", axis="wording", task_settings={"words": "WHAT COLOUR"}))
    for name, plain, loud in (("steady", range(6), range(6)), ("fragile", (), range(20))):
        write_run(
            tmp_path / name,
            replies(wrong=plain),
            variants=variants,
            varied={"loud": replies(wrong=loud)},
            model=name,
        )
    result = compare([tmp_path / "steady", tmp_path / "fragile"])
    (row,) = result["rankings"]
    assert row["mean_tau"] == row["worst_tau"] == -1 and row["items"] == 30
    assert [change["ahead"] for change in row["changes"]] == ["fragile"] and row["changes"][0][
        "shift_p"
    ] < 0.001
    assert row["by_exchange"]["observed"] == 1
    for name in (
        "steady",
        "fragile",
    ):  # were the variant a control, there would be no ranking to compare with
        run = json.loads((tmp_path / name / RUN).read_text())
        run["variants"][1]["control"] = True
        (tmp_path / name / RUN).write_text(json.dumps(run))
    assert compare([tmp_path / "steady", tmp_path / "fragile"])["rankings"] == []
    assert tables.rankings(result)[1][0][0] == "toy" and "Rankings between variants" in page(result)
    assert "both orders p" in page(result) and tables.p_value(row["changes"][0]["reversal_p"]) in page(result)
    json.dumps(result, allow_nan=False)
