"""A task of one's own: the one that docs/evaluate.md shows, as it stands there, and files that are none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from foveate.cli.main import run as command
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Task
from foveate.evaluate.tasks.registry import get_task

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shown(tmp_path):
    """The documented task in a file."""
    document = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- task-example -->\n```python\n(.*?)```", document, re.DOTALL)
    assert len(code.splitlines()) <= 30
    path = tmp_path / "my_task.py"
    path.write_text(code, encoding="utf-8")
    return path


def test_the_documented_task_is_one_and_scores_as_it_should(shown):
    task = get_task(f"{shown}:MyQuestions", data=str(ROOT / "examples"))
    assert isinstance(task, Task)
    items = list(task.items())
    assert len(items) == 16 and len({item.id for item in items}) == 16
    for item in items:
        assert task.score(item, Reply(text=item.target)).outcome == "correct"
        assert task.score(item, Reply(text="")).outcome == "unparsed"
        assert task.score(item, Reply(text="something else")).outcome == "wrong"


def test_the_documented_command_runs_it_and_bad_rows_are_no_wrong_answers(
    shown, tmp_path, monkeypatch, capsys
):
    """Three rows can be asked; one has no answer, of one the picture is not there."""
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(ROOT / "examples" / "shapes.png", data)
    row = {"image": "shapes.png", "question": "Is there a red circle?", "answer": "no"}
    rows = [row, {**row, "question": "How many objects are there?", "answer": "5"}, {**row, "answer": ""}]
    rows += [{**row, "image": "gone.png"}, {**row, "answer": "yes"}]
    (data / "questions.json").write_text(json.dumps(rows), encoding="utf-8")
    name, out = f"{shown}:MyQuestions", tmp_path / "run"
    assert command(["eval", "run", name, "--set", f"{name}.data={data}", "--output", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    (found,) = summary["results"]
    assert found["items"] == 3 and found["outcomes"]["correct"] == 2 and found["outcomes"]["wrong"] == 1
    assert sum(found["failures"].values()) == 2 and found["clusters"] == 1
    assert "without a reply" in capsys.readouterr().err
    assert "gone.png" in (out / "report.html").read_text(encoding="utf-8")


def test_a_broken_row_says_what_it_lacks(shown, tmp_path):
    (tmp_path / "questions.json").write_text('[{"image": "a.png", "question": "What?"}]', encoding="utf-8")
    (broken,) = get_task(f"{shown}:MyQuestions", data=str(tmp_path)).items()
    assert isinstance(broken, BrokenItem) and not isinstance(broken, Item)
    assert broken.reason == "no answer"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.py:MyQuestions", "There is no file"),
        ("{shown}:Mine", "there is no such class"),
        ("{shown}:verdict", "there is no such class"),
        ("{shown}:Item", "it has no card, items, score"),
        ("my_tasks:MyQuestions", "There is no task 'my_tasks:MyQuestions'"),
    ],
)
def test_what_is_no_task_is_told(name, said, shown):
    with pytest.raises(EvaluationError, match=re.escape(said)):
        get_task(name.format(shown=shown))
