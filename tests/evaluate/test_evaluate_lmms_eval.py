"""The example task of lmms-eval: its files without that kit, and the documented command where it is installed.

FOVEATE_LMMS_EVAL names a Python that has lmms-eval; without it the command is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "lmms_eval"
ROWS = json.loads((ROOT / "examples" / "questions.json").read_text(encoding="utf-8"))
PYTHON = os.environ.get("FOVEATE_LMMS_EVAL")


class Loader(yaml.SafeLoader):
    """Names of functions as they stand."""


Loader.add_constructor("!function", lambda loader, node: node.value)


@pytest.fixture(scope="module")
def utils():
    spec = importlib.util.spec_from_file_location("lmms_eval_example_utils", EXAMPLE / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_task_names_functions_and_data_that_are_there(utils):
    task = yaml.load((EXAMPLE / "foveate_examples.yaml").read_text(encoding="utf-8"), Loader)
    for key in ("doc_to_visual", "doc_to_text", "process_results"):
        file, name = task[key].split(".")
        assert file == "utils" and callable(getattr(utils, name))
    assert (ROOT / task["dataset_kwargs"]["data_files"][task["test_split"]]).is_file()
    assert [one["metric"] for one in task["metric_list"]] == ["exact_match"]
    assert all(task["doc_to_target"] in row for row in ROWS)


def test_rows_are_asked_and_scored(utils):
    for row in ROWS:
        (picture,) = utils.doc_to_visual(row)
        assert picture.mode == "RGB" and utils.doc_to_text(row, None) == row["question"]
        assert utils.process_results(row, [f" {row['answer']}\n"]) == {"exact_match": 1.0}
        assert utils.process_results(row, [f"not {row['answer']}"]) == {"exact_match": 0.0}


def documented_command() -> list[str]:
    """The command of README.md as it stands there."""
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    found = re.search(r"python (-m lmms_eval .*?)\n```", text, re.DOTALL)
    return shlex.split(found[1].replace("\\\n", " "))


def test_the_documented_command_names_this_task():
    words = documented_command()
    assert words[:2] == ["-m", "lmms_eval"]
    assert (ROOT / words[words.index("--include_path") + 1]).is_dir()
    assert (EXAMPLE / f"{words[words.index('--tasks') + 1]}.yaml").is_file()


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="FOVEATE_LMMS_EVAL names no Python with lmms-eval")
def test_the_documented_command_gives_what_is_documented(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-m", "foveate.cli", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        words = [word.replace("http://127.0.0.1:8000", address) for word in documented_command()]
        words[words.index("--output_path") + 1] = str(tmp_path)
        environment = {
            **os.environ,
            "OPENAI_API_KEY": "none",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path),
        }
        subprocess.run([PYTHON, *words], cwd=ROOT, env=environment, check=True, timeout=280)
    finally:
        server.terminate()
        server.wait(timeout=30)
    (samples,) = tmp_path.rglob("*_samples_foveate_examples.jsonl")
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert sum(row["exact_match"] for row in rows) == 11 and len(rows) == 16
