"""Runs: what is kept, in which order, what failures are, and that a stopped run ends as one that never was."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from eval_fakes import Adder, Dialogue, Sums
from PIL import ImageOps

from foveate.evaluate import planning
from foveate.evaluate.answers_cache import AnswersCache, cache_folder
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Parameters, Reply, Score, user
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.planning import RunPlan, TaskChoice, draw, make_parts
from foveate.evaluate.run.folder import FAILURES, SAMPLES, TIMINGS, RunFolder
from foveate.evaluate.run.records import reply_from_row, reply_to_row
from foveate.evaluate.run.rescoring import rescore
from foveate.evaluate.run.verdict import score_reply
from foveate.evaluate.run_files import RUN
from foveate.evaluate.runner import GaveUpError, Runner, begin
from foveate.evaluate.styles import STYLES, default_style, get_style
from foveate.evaluate.tasks import registry

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def fake_tasks(monkeypatch):
    """The registry has the fakes, as it would have files."""
    kinds = {"sums": Sums, "dialogue": Dialogue}
    for module in (registry, planning):
        monkeypatch.setattr(module, "task_class", kinds.__getitem__)
    monkeypatch.setattr(planning, "get_task", lambda name, **settings: kinds[name](**settings))


def plan(*tasks: str, **settings) -> RunPlan:
    chosen = tuple(TaskChoice(name=task) for task in tasks or ("sums",))
    return RunPlan(**{"tasks": chosen, "style": "plain", **settings})


def asked(model, the_plan, path, *, resume=False, **keywords) -> RunFolder:
    """A whole run."""
    folder, parts = begin(the_plan, model, path, machine={}, command="test", resume=resume)
    asyncio.run(Runner(model, parts, folder, **keywords).run())
    return folder


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# -- what is kept --------------------------------------------------------------------------------------------


def test_samples_are_in_the_items_order_and_failures_are_no_wrong_answers(tmp_path):
    model = Adder(failing=("7 + 1",))
    asked(model, plan(), tmp_path)
    samples, failures = rows(tmp_path / SAMPLES), rows(tmp_path / FAILURES)
    assert model.answered != sorted(model.answered), "the fake answers out of order"
    assert [row["item"] for row in samples] == [f"sum-{n}" for n in (0, 1, 2, 4, 6, 8, 9)]
    assert all(row["score"]["outcome"] == "correct" for row in samples)
    assert [(row["item"], row["kind"]) for row in failures] == [
        ("row-3", "data"),
        ("sum-5", "picture"),
        ("sum-7", "model"),
    ]
    assert "p5.png does not exist" in failures[1]["message"]
    first = samples[0]
    assert first["question"] == "0 + 1" and first["cluster"] == "p0" and first["target"] == 1
    assert "seconds" not in first["reply"] and "cached_tokens" not in first["reply"]
    timing = rows(tmp_path / TIMINGS)[1]
    assert timing["seconds"] == {"total": 0.1} and timing["cached_tokens"] == 1 and not timing["from_cache"]
    run = json.loads((tmp_path / RUN).read_text())
    assert run["parts"] == [{"task": "sums", "variant": "baseline", "available": 9, "asked": 9, "broken": 1}]
    assert model.parameters[0].max_tokens == 8, "the task's card says how long a reply may be"


def test_failed_items_are_asked_again_and_the_file_is_as_if_nothing_had_failed(tmp_path):
    asked(Adder(failing=("1 + 1", "7 + 1")), plan(), tmp_path / "a")
    again = Adder()
    folder = asked(again, plan(), tmp_path / "a", resume=True)
    assert sorted(again.asked) == ["1 + 1", "7 + 1"] and set(folder.failures) == {
        ("sums", "baseline", "row-3"),
        ("sums", "baseline", "sum-5"),
    }
    asked(Adder(), plan(), tmp_path / "b")
    assert (tmp_path / "a" / SAMPLES).read_bytes() == (tmp_path / "b" / SAMPLES).read_bytes()
    assert (tmp_path / "a" / FAILURES).read_bytes() == (tmp_path / "b" / FAILURES).read_bytes()


def test_half_a_line_of_a_killed_run_is_asked_again(tmp_path):
    asked(Adder(), plan(), tmp_path)
    whole = (tmp_path / SAMPLES).read_bytes()
    (tmp_path / SAMPLES).write_bytes(whole[: len(whole) * 2 // 3])
    model = Adder()
    asked(model, plan(), tmp_path, resume=True)
    assert 1 < len(model.asked) < 5 and (tmp_path / SAMPLES).read_bytes() == whole


def test_looking_at_a_run_leaves_half_a_line_to_the_process_that_writes_it(tmp_path):
    asked(Adder(), plan(), tmp_path)
    half = (tmp_path / SAMPLES).read_bytes()[:-10]
    (tmp_path / SAMPLES).write_bytes(half)
    assert len(RunFolder.open(tmp_path).samples) == 7 and (tmp_path / SAMPLES).read_bytes() == half
    RunFolder.open(tmp_path, to_go_on=True)
    assert (tmp_path / SAMPLES).read_bytes() == half[: half.rfind(b"\n") + 1]


def test_a_reply_with_line_separators_is_one_line(tmp_path):
    class Odd(Adder):
        async def complete(self, messages, parameters):
            return Reply(text="1\u2028\x85\r\n\x00 ß")

    asked(Odd(), plan(), tmp_path)
    kept = RunFolder.open(tmp_path)
    assert kept.samples["sums", "baseline", "sum-0"]["reply"]["text"] == "1\u2028\x85\r\n\x00 ß"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_and_its_resumption_leave_the_file_of_one_that_ran_through(tmp_path, end):
    """A real process, stopped in the middle by Ctrl-C or killed, then gone on with."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}

    def start(folder: str, seconds: str) -> subprocess.Popen:
        words = [sys.executable, str(HERE / "eval_process.py"), str(tmp_path / folder), seconds]
        return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)

    stopped = start("a", "0.1")
    file = tmp_path / "a" / SAMPLES
    until = time.monotonic() + 240
    while not (file.exists() and file.read_bytes().count(b"\n") >= 5):
        assert time.monotonic() < until and stopped.poll() is None, stopped.stderr.read()
        time.sleep(0.002)
    stopped.send_signal(end)
    stopped.communicate(timeout=240)
    there = file.read_bytes().count(b"\n")
    assert stopped.returncode != 0 and 5 <= there < 57, "it was stopped in the middle"
    for folder in ("a", "b"):
        assert start(folder, "0").wait(240) == 0
    for name in (SAMPLES, FAILURES):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


# -- going on ------------------------------------------------------------------------------------------------


def test_data_that_was_repaired_since_is_asked_and_its_failure_forgotten(tmp_path, monkeypatch):
    broken = Sums.items

    def repaired(self):
        for item in broken(self):
            same = item.id != "row-3"
            yield item if same else replace(next(iter(Sums(count=1).items())), id="sum-3", target=1)

    asked(Adder(), plan(), tmp_path)
    monkeypatch.setattr(Sums, "items", repaired)
    folder = asked(Adder(), plan(), tmp_path, resume=True)
    assert [row["item"] for row in rows(tmp_path / FAILURES)] == ["sum-5"]
    assert ("sums", "baseline", "sum-3") in folder.samples
    (part,) = json.loads((tmp_path / RUN).read_text())["parts"]
    assert (part["asked"], part["broken"]) == (10, 0)


def test_what_is_wrong_with_a_row_is_told_as_it_is_now(tmp_path, monkeypatch):
    asked(Adder(), plan(), tmp_path)
    before = Sums.items
    monkeypatch.setattr(
        Sums,
        "items",
        lambda self: (replace(i, reason="new") if isinstance(i, BrokenItem) else i for i in before(self)),
    )
    asked(Adder(), plan(), tmp_path, resume=True)
    assert [row["message"] for row in rows(tmp_path / FAILURES) if row["kind"] == "data"] == ["new"]


def test_another_run_is_not_gone_on_with(tmp_path):
    asked(Adder(), plan(), tmp_path)
    for other, words in (
        (plan(style="nano"), "style.name is 'plain' there, 'nano' here"),
        (plan(limit=3), "limit is None there, 3 here"),
        (plan("sums", "dialogue"), "tasks.dialogue is None there"),
        (plan(parameters=Parameters(temperature=0.5)), "parameters.temperature is 0.0 there, 0.5 here"),
    ):
        with pytest.raises(EvaluationError, match=words):
            begin(other, Adder(), tmp_path, machine={}, command="", resume=True)
    with pytest.raises(EvaluationError, match=r"model\.name is 'adder' there, 'other' here"):
        begin(plan(), Adder(name="other"), tmp_path, machine={}, command="", resume=True)
    with pytest.raises(EvaluationError, match="holds a run already"):
        begin(plan(), Adder(), tmp_path, machine={}, command="")


def test_a_task_that_asks_something_else_by_now_is_not_gone_on_with(tmp_path):
    asked(Adder(), plan(), tmp_path)
    lines = (tmp_path / SAMPLES).read_text().splitlines(keepends=True)
    row = json.loads(lines[0]) | {"messages": "0" * 16}
    (tmp_path / SAMPLES).write_text("".join([json.dumps(row) + "\n", *lines[1:]]))
    with pytest.raises(EvaluationError, match="changed since the run began"):
        asked(Adder(), plan(), tmp_path, resume=True)
    with pytest.raises(EvaluationError, match="asks something else"):
        rescore(RunFolder.open(tmp_path))


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(EvaluationError, match="holds no run"):
        RunFolder.open(tmp_path)
    asked(Adder(), plan(), tmp_path)
    (tmp_path / SAMPLES).write_text("no JSON\n")
    with pytest.raises(EvaluationError, match="cannot be read"):
        RunFolder.open(tmp_path)


def test_a_model_that_only_fails_is_given_up_and_the_rest_waits(tmp_path):
    model = Adder(failing=tuple(f"{n} + 1" for n in range(100)))
    the_plan = plan(tasks=(TaskChoice(name="sums", settings={"count": 60, "lost": False}),))
    with pytest.raises(GaveUpError, match="4 times in a row"):
        asked(model, the_plan, tmp_path, concurrency=1, give_up_after=4)
    assert len(rows(tmp_path / FAILURES)) == len(model.asked) == 4
    asked(Adder(), the_plan, tmp_path, resume=True)
    assert len(rows(tmp_path / SAMPLES)) == 60 and rows(tmp_path / FAILURES) == []


def test_what_is_nobodys_failure_ends_the_run_as_itself_and_what_was_kept_stays(tmp_path, monkeypatch):
    """A cache that breaks, and a scorer with a mistake: neither is the model's."""
    cache = AnswersCache(tmp_path / "cache")
    cache.close()
    with pytest.raises(EvaluationError, match="cannot be used"):
        asked(Adder(), plan(), tmp_path / "a", cache=cache)

    def mistaken(self, item, reply):
        if item.target > 4:
            raise ZeroDivisionError
        return Score.unparsed()

    monkeypatch.setattr(Sums, "score", mistaken)
    with pytest.raises(ZeroDivisionError):
        asked(Adder(), plan(), tmp_path / "b", concurrency=1)
    assert len(rows(tmp_path / "b" / SAMPLES)) == 3


# -- samples, variants, styles, turns ------------------------------------------------------------------------


def test_a_limit_is_a_seeded_sample_that_grows_and_is_the_same_for_every_variant(tmp_path):
    ids = [f"item-{n}" for n in range(200)]
    few, more = draw(ids, "t", limit=20, seed=1), draw(ids, "t", limit=60, seed=1)
    assert len(few) == 20 and few < more and few == draw(reversed(ids), "t", limit=20, seed=1)
    assert few != draw(ids, "t", limit=20, seed=2) and few != draw(ids, "u", limit=20, seed=1)
    assert draw(ids, "t", limit=None, seed=1) == set(ids)
    counts = [
        sum(f"item-{n}" in draw(ids, "t", limit=20, seed=seed) for seed in range(400)) for n in (0, 99, 199)
    ]
    assert all(20 < count < 62 for count in counts), "each is drawn about 40 times in 400"
    dark = Variant(name="dark", axis="shade", task_settings={"shade": 3})
    parts, _ = make_parts(plan(limit=4, variants=(BASELINE, dark)))
    first, second = ([item.id for item in part.items] for part in parts)
    assert first == second and len(first) == 4 and parts[0].available == 9


def test_variants_change_what_they_say_and_are_left_out_where_a_task_has_no_such_setting(tmp_path):
    class Inverted:
        def apply(self, image):
            return ImageOps.invert(image)

        def describe(self):
            return {"inverted": True}

    ways = (
        BASELINE,
        Variant(name="inverted", axis="pixels", picture=Inverted()),
        Variant(name="short", axis="length", parameters={"max_tokens": 2}),
        Variant(name="polite", axis="style", style="polite"),
        Variant(name="square", axis="markers", task_settings={"marker_style": "square"}),
    )
    model = Adder()
    folder = asked(
        model,
        plan(variants=ways, tasks=(TaskChoice(name="sums", settings={"count": 1}),)),
        tmp_path,
        concurrency=1,
    )
    pixels = [c[0]["content"][0]["image"].open().getpixel((0, 0)) for c in model.conversations]
    assert pixels == [(100, 0, 0), (155, 255, 255), (100, 0, 0), (100, 0, 0)]
    assert [p.max_tokens for p in model.parameters] == [8, 8, 2, 8]
    assert model.asked[3] == "0 + 1\nPlease reply with the number and nothing else."
    assert folder.run["left_out"][0]["variant"] == "square"
    assert folder.run["variants"][1]["picture"] == {"inverted": True}


def test_a_conversation_goes_on_with_the_models_own_words(tmp_path):
    model = Adder()
    folder = asked(model, plan("dialogue"), tmp_path, cache=AnswersCache(tmp_path / "cache"))
    kept = reply_from_row(folder.samples["dialogue", "baseline", "sum-2"]["reply"])
    assert kept.text == "yes" and [turn.text for turn in kept.earlier] == ["3"]
    second = next(c for c in model.conversations if len(c) == 3 and c[0]["content"][1]["text"] == "2 + 1")
    assert [m["role"] for m in second] == ["user", "assistant", "user"]
    assert second[1]["content"] == [{"type": "text", "text": "3"}]
    assert all(row["score"]["outcome"] == "correct" for row in folder.samples.values())


def test_a_conversation_without_an_end_is_told_as_the_tasks_mistake(tmp_path, monkeypatch):
    monkeypatch.setattr(Dialogue, "next_turn", lambda self, item, replies: user("Sure?"))
    with pytest.raises(EvaluationError, match="'dialogue' does not end the conversation of 'sum-"):
        asked(Adder(), plan("dialogue"), tmp_path)


def test_a_style_adds_what_it_says_and_leaves_the_item_alone():
    item = Item(id="1", messages=(user("What?"),), target=0, cluster="1", form="word")
    assert STYLES["plain"].apply(item) == STYLES["nano"].apply(item) == list(item.messages)
    after, before = (get_style(name).apply(item)[0]["content"] for name in ("instruct", "instruct-before"))
    line = "Answer with a single word or phrase."
    assert after == [{"type": "text", "text": f"What?\n{line}"}]
    assert before == [{"type": "text", "text": f"{line}\nWhat?"}]
    assert item.messages[0]["content"] == [{"type": "text", "text": "What?"}]
    boxes = Item(
        id="1", messages=({"role": "user", "content": "Where?"},), target=0, cluster="1", form="boxes"
    )
    assert "bbox_2d" in get_style("instruct").apply(boxes)[0]["content"][0]["text"]
    assert default_style("fovea-nano").name == default_style("me/fovea-nano-2").name == "nano"
    assert default_style("Qwen/Qwen3-VL-2B-Instruct").name == "instruct"
    with pytest.raises(EvaluationError, match="Did you mean 'polite'"):
        get_style("polit")


def test_plans_that_mean_nothing_are_refused():
    with pytest.raises(EvaluationError, match="'sums' is named twice"):
        plan("sums", "sums")
    with pytest.raises(EvaluationError, match="limit is 0"):
        plan(limit=0)
    with pytest.raises(EvaluationError, match="no items"):
        make_parts(plan(tasks=(TaskChoice(name="sums", settings={"count": 0}),)))


# -- the cache -----------------------------------------------------------------------------------------------


def test_what_was_asked_is_not_asked_again_but_scored_again(tmp_path):
    cache = AnswersCache(tmp_path / "cache")
    asked(Adder(failing=("1 + 1",)), plan(), tmp_path / "a", cache=cache)
    again = Adder()
    asked(again, plan(), tmp_path / "b", cache=AnswersCache(tmp_path / "cache"))
    assert again.asked == ["1 + 1"], "a failure is never kept"
    assert all(row["from_cache"] for row in rows(tmp_path / "b" / TIMINGS) if row["item"] != "sum-1")
    asked(Adder(), plan(), tmp_path / "c")
    assert (tmp_path / "b" / SAMPLES).read_bytes() == (tmp_path / "c" / SAMPLES).read_bytes()
    other = Adder()
    asked(other, plan(parameters=Parameters(seed=1)), tmp_path / "d", cache=cache)
    assert len(other.asked) == 8, "other parameters are another question"


def test_the_cache_keeps_a_reply_whole_and_says_where_it_lies(tmp_path, monkeypatch):
    reply = Reply(
        text="ä\n",
        prompt_tokens=1,
        pictures=({"width": 2},),
        earlier=(Reply(text="b"),),
        seconds={"total": 1},
    )
    cache = AnswersCache(tmp_path)
    assert cache.get("k") is None
    cache.put("k", reply)
    cache.put("k", Reply(text="later"))
    kept = AnswersCache(tmp_path).get("k")
    assert reply_to_row(kept) == reply_to_row(reply) and kept.seconds == {} and len(cache) == 1
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named" / "answers"
    cache.close()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / cache.path.name).write_bytes(b"no database" * 500)
    with pytest.raises(EvaluationError, match=r"cannot be used.*--no-cache"):
        AnswersCache(tmp_path / "broken")


# -- scores --------------------------------------------------------------------------------------------------


def test_a_reply_that_a_filter_stopped_is_a_refusal_and_half_of_one_is_scored_as_it_is():
    task, item = Sums(), next(iter(Sums().items()))
    stopped = Reply(text=" ", finish_reason="content_filter")
    assert score_reply(task, item, stopped).outcome == "refused"
    assert score_reply(task, item, replace(stopped, text="1")).outcome == "correct"
    assert score_reply(task, item, Reply(text="")).outcome == "unparsed"


# -- scoring again -------------------------------------------------------------------------------------------


def test_scoring_again_finds_what_a_corrected_scorer_changes(tmp_path, monkeypatch):
    asked(Adder(), plan(), tmp_path)
    before = (tmp_path / SAMPLES).read_bytes()
    result = rescore(RunFolder.open(tmp_path))
    assert result.replies == 8 and result.changed == () and (tmp_path / SAMPLES).read_bytes() == before
    right = Sums.score
    monkeypatch.setattr(
        Sums,
        "score",
        lambda self, item, reply: right(self, item, Reply(text="9" if item.target == 2 else reply.text)),
    )
    result = rescore(RunFolder.open(tmp_path))
    assert [place[2] for place in result.changed] == ["sum-1"]
    assert rows(tmp_path / SAMPLES)[1]["score"]["outcome"] == "wrong"
