"""`world`, `train` and `eval-nano` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

NANO = Path(__file__).parents[2] / "src" / "foveate" / "assets" / "fovea-nano"


@pytest.fixture
def verb(foveate):
    """Run `foveate WORDS` and require an exit code."""

    def run(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = foveate(*map(str, words))
        assert done.returncode == code, done.stderr
        return done

    return run


def test_world_sample_writes_what_it_says(verb, tmp_path):
    done = verb(
        "world", "sample", "--out", tmp_path / "data", "-n", "6", "--families", "count,marker", "--json"
    )
    summary = json.loads(done.stdout)
    rows = Path(summary["data"]).read_text().splitlines()
    assert len(rows) == summary["dialogues"] > 0 and summary["scenes"] == 6
    assert {f for row in rows for f in json.loads(row)["families"]} <= {"count", "marker", "attribute"}
    assert Path(summary["contact_sheet"]).exists()
    again = verb("world", "sample", "--out", tmp_path / "data", code=2)
    assert again.stderr.count("\n") == 1 and "exists already" in again.stderr


def test_world_needs_no_torch(tmp_path):
    code = (
        "import sys; from foveate.cli.main import run; "
        f"run(['world', 'sample', '--out', {str(tmp_path / 'data')!r}, '-n', '2']); "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "words", [["--domain", "shape"], ["--families", "counts"], ["--difficulty", "9"], ["-n", "0"]]
)
def test_world_names_what_is_wrong(verb, tmp_path, words):
    done = verb("world", "sample", "--out", tmp_path / "data", *words, code=2)
    assert done.stderr.startswith("foveate: error: ") and done.stderr.count("\n") == 1


def test_train_nano_trains_resumes_and_its_model_answers(verb, tmp_path):
    words = [
        "--tower-steps",
        "1",
        "--batch-size",
        "2",
        "--no-compile",
        "--threads",
        "1",
        "--json",
        "--device",
        "cpu",
    ]
    verb("train", "nano", "--out", tmp_path / "run", "--steps", "1", *words)
    done = verb("train", "nano", "--out", tmp_path / "run", "--steps", "2", *words)
    last = json.loads(done.stdout.splitlines()[-1])
    assert Path(last["plot"]).exists()
    recipe = json.loads((tmp_path / "run" / "model" / "recipe.json").read_text())
    assert recipe["steps"] == 2 and len(recipe["history"]) == 2
    picture = Path(__file__).parents[2] / "examples" / "shapes.png"
    reply = verb("chat", tmp_path / "run" / "model", picture, "How many?", "--max-tokens", "3", "--json")
    assert json.loads(reply.stdout)["usage"]["image_tokens"] == 144


def test_eval_nano_prints_the_committed_result(verb):
    summary = json.loads(verb("eval-nano", "--json").stdout)
    assert summary == json.loads((NANO / "evaluation.json").read_text())
    rows = summary["difficulty"]["2"]
    assert {"existence", "attribute", "count", "comparison", "relation", "reading", "marker"} <= set(rows)
    for row in rows.values():
        assert row["interval"][0] <= row["accuracy"] <= row["interval"][1]
        assert {"chance", "no_image", "unparsed", "questions"} <= set(row)
    table = verb("eval-nano").stdout
    assert "existence" in table and "no image" in table


def test_eval_nano_runs_again(verb, tmp_path):
    done = verb("eval-nano", "--run", "--per-family", "2", "--out", tmp_path / "mine.json", "--json")
    summary = json.loads(done.stdout)
    assert summary == json.loads((tmp_path / "mine.json").read_text())
    samples = [json.loads(line) for line in (tmp_path / "mine.samples.jsonl").read_text().splitlines()]
    assert len(samples) == 2 * len(summary["difficulty"]["2"])
    right = sum(s["outcome"] == "right" for s in samples)
    assert right == sum(round(r["accuracy"] * r["questions"]) for r in summary["difficulty"]["2"].values())


def test_eval_nano_refuses_what_is_no_level(verb):
    done = verb("eval-nano", "--run", "--difficulty", "two", code=2)
    assert "not a list of numbers" in done.stderr and done.stderr.count("\n") == 1
