"""`foveate eval` as people call it: runs, their files, what is printed, and what is refused before a model loads."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from stub_endpoint import Raw, StubEndpoint, said

from foveate.cli.main import run
from foveate.evaluate.suites import SUITES, suite_tasks
from foveate.evaluate.tasks.registry import TASKS


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))


def called(capsys, *words) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    code = run(["eval", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_tasks_are_listed_with_their_settings(capsys):
    code, out, _ = called(capsys, "tasks")
    assert code == 0 and all(name in out for name in TASKS)
    code, out, _ = called(capsys, "tasks", "--json")
    records = {one["name"]: one for one in json.loads(out)}
    assert list(records) == list(TASKS)
    assert records["world"]["settings"] == {"families": "", "count": 240, "difficulty": 2, "size": 168}
    assert records["world"]["about"].startswith("Questions") and records["world"]["licence"] == "made here"


def test_every_suite_asks_every_task():
    for name in SUITES:
        assert [task.name for task in suite_tasks(name)] == list(TASKS)
    assert all(task.settings.get("count", 0) <= 96 for task in suite_tasks("smoke"))


def test_a_run_of_fovea_nano_leaves_its_files_and_goes_on_without_asking_again(capsys, tmp_path):
    place = tmp_path / "run"
    words = ("run", "world", "--set", "world.count=12", "--limit", 5, "--seed", 3, "-o", place)
    code, out, err = called(capsys, *words)
    assert code == 0 and "world" in out and "random sample of at most 5 items" in err
    names = {"run.json", "samples.jsonl", "failures.jsonl", "timings.jsonl", "summary.json", "report.html"}
    assert names == {file.name for file in place.iterdir()}
    record = json.loads((place / "run.json").read_text())
    assert record["command"] == "foveate eval run world --set world.count=12 --limit 5 --seed 3"
    assert record["style"]["name"] == "nano" and record["model"]["name"] == "fovea-nano"
    assert record["parts"][0]["available"] == 12 and str(tmp_path) not in (place / "run.json").read_text()
    before = (place / "samples.jsonl").read_bytes()
    assert before.count(b"\n") == 5
    code, _, err = called(capsys, *words)
    assert code == 2 and "holds a run already" in err
    code, out, _ = called(capsys, *words, "--resume", "--json")
    assert code == 0 and json.loads(out)["items"] == 5
    assert not any(row["from_cache"] for row in lines(place / "timings.jsonl")), "nothing was asked again"
    code, _, err = called(capsys, "score", place)
    assert code == 0 and "replies scored: 5, changed: 0" in err
    assert (place / "samples.jsonl").read_bytes() == before


def test_what_fails_is_counted_shown_and_asked_again(capsys, tmp_path, monkeypatch):
    """A server that answers badly, then not at all, then well; its key is nowhere to be read."""
    monkeypatch.setenv("EYE_KEY", "fv_secret")
    state = {"broken": True}

    def script(number: int, body: dict) -> Raw:
        if state["broken"]:
            return Raw("<html><title>Login</title></html>") if number % 2 else Raw("", status=400)
        return said("yes")

    with StubEndpoint(script) as server:
        words = ["run", "world", "--set", "world.families=existence", "--set", "world.count=6", "--endpoint"]
        words += [server.url, "--key-from", "EYE_KEY", "--concurrency", 1, "-o", tmp_path / "run"]
        code, _, err = called(capsys, *words, "--give-up-after", 4)
        assert code == 2 and "failed 4 times in a row" in err and "Login" in err
        assert "the key in EYE_KEY is sent to 127.0.0.1" in err and "fv_secret" not in err
        assert "2 without a reply (HTTP 400)" in err and "2 without a reply (HTML)" in err
        assert "neither right nor wrong" in err
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["items"] == 0 and summary["failed"] == 4
        state["broken"] = False
        code, _, _ = called(capsys, *words, "--resume")
        assert code == 0 and len(lines(tmp_path / "run" / "samples.jsonl")) == 6
        assert lines(tmp_path / "run" / "failures.jsonl") == []
    assert server.heads[-1]["authorization"] == "Bearer fv_secret"
    text = server.bodies[-1]["messages"][0]["content"][1]["text"]
    assert text.endswith("\nAnswer with a single word or phrase."), "others than fovea-nano are told the form"
    for file in (tmp_path / "run").iterdir():
        assert "fv_secret" not in file.read_text(), file.name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["wrold"], "Did you mean 'world'?"),
        ([], "No task is named: suites are smoke, full"),
        (["world", "--suite", "smoke"], "both given"),
        (["--suite", "smok"], "Did you mean 'smoke'?"),
        (["world", "--set", "world.coutn=3"], "Did you mean 'count'?"),
        (["world", "--set", "pope.count=3"], "a task that is not asked"),
        (["world", "--set", "count=3"], "TASK.SETTING=VALUE"),
        (["world", "--set", "world.count=many"], "no value that fits"),
        (["world", "--style", "nanno"], "Did you mean 'nano'?"),
        (["world", "--variants", "makers"], "Did you mean 'markers'?"),
        (["world", "--reducer", "random"], "--reducer needs --visual-budget"),
        (["world", "--visual-budget", "300%"], "300%"),
        (["world", "--visual-budget", "25%", "--reducer", "randon"], "Did you mean 'random'?"),
        (["world", "--endpoint", "http://127.0.0.1:9", "--model", "x"], "--model is given with --endpoint"),
        (
            ["world", "--endpoint", "http://h", "--key-from", "NO_SUCH"],
            "NO_SUCH: this environment variable is not",
        ),
        (["world", "--key-from", "HOME"], "--key-from is given without --endpoint"),
        (["world", "--model-name", "x"], "--model-name is given without --endpoint"),
        (["world", "--codec", "jpeg:85"], "--codec is given without --endpoint"),
        (["world", "--timeout", "5"], "--timeout is given without --endpoint"),
        (["world", "--retries", "0"], "--retries is given without --endpoint"),
        (["world", "--endpoint", "http://h", "--model-name", "x", "--retries", "-1"], "retries is -1"),
        (["world", "--endpoint", "http://h", "--model-name", "x", "--codec", "gif"], "no codec"),
        (["world", "--endpoint", "http://h", "--model-name", "x", "--body", "[]"], "must be an object"),
        (["world", "--endpoint", "http://h", "--model-name", "x", "--body", "{"], "it is no JSON"),
    ],
)
def test_what_cannot_be_is_told_before_a_model_is_loaded(capsys, tmp_path, monkeypatch, words, told):
    monkeypatch.setitem(sys.modules, "foveate.models.loading", None)  # loading would fail
    code, _, err = called(capsys, "run", *words, "-o", tmp_path / "run")
    assert code == 2 and told in err and not (tmp_path / "run").exists()


def test_verbs_on_a_folder_without_a_run_say_so(capsys, tmp_path):
    for verb in ("score", "report"):
        code, _, err = called(capsys, verb, tmp_path)
        assert code == 2 and "holds no run of foveate eval" in err
