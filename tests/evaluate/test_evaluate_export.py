"""A run in lmms-eval's files: the same fields as its own output, places in the data, and its own reader where it is."""

from __future__ import annotations

import json

import pytest
from finished_runs import replies, toy, write_run

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.run.export import export_lmms_eval
from foveate.evaluate.tasks.registry import TASKS

pytestmark = pytest.mark.usefixtures("toy")
__all__ = ["toy"]
# What lmms-eval 0.7.3 wrote for a task of ours asked of `foveate serve` (examples/lmms_eval); its metrics apart.
FIELDS = {"doc_id", "target", "filtered_resps", "token_counts", "doc_hash", "input_media", "input"}
RESULTS = {
    "results",
    "configs",
    "versions",
    "n-shot",
    "n-samples",
    "higher_is_better",
    "config",
    "model_name",
    "date",
}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_has_the_fields_of_that_format_and_our_own_beside_them(tmp_path):
    texts = {name: text for name, text in replies(wrong=[4]).items() if int(name[-4:]) % 2 == 0}
    write_run(tmp_path / "run", texts, model="some/model", failed={"toy-0001": ("timeout", "60 s")})
    samples, results = export_lmms_eval(tmp_path / "run", tmp_path / "out")
    assert samples.parent.name == "some__model" and samples.name.endswith("_samples_toy.jsonl")
    rows = lines(samples)
    assert set(rows[0]) >= FIELDS
    assert [row["doc_id"] for row in rows] == list(range(0, 30, 2))  # places in the data, not in the sample
    assert rows[2]["score"] == 0.0 and rows[2]["outcome"] == "wrong" and rows[2]["target"] == "green"
    assert rows[2]["filtered_resps"] == "blue" and rows[2]["input"] == "What colour is the square?"
    assert len({row["doc_hash"] for row in rows}) == 15 and rows[0]["input_media"] == ["0.png"]
    document = json.loads(results.read_text(encoding="utf-8"))
    assert set(document) >= RESULTS
    assert (
        document["results"]["toy"]["score,none"] == 14 / 15
        and "red recall,none" in document["results"]["toy"]
    )
    assert document["n-samples"]["toy"] == {"original": 16, "effective": 15}
    assert document["model_name_sanitized"] == samples.parent.name


def test_variants_are_tasks_of_their_own(tmp_path):
    variants = (BASELINE, Variant(name="loud", axis="wording", task_settings={"words": "WHAT COLOUR"}))
    write_run(tmp_path / "run", replies(), variants=variants, varied={"loud": replies(wrong=[0])})
    plain, loud, _ = export_lmms_eval(tmp_path / "run", tmp_path / "out")
    assert plain.name.endswith("_samples_toy.jsonl") and loud.name.endswith("_samples_toy__loud.jsonl")
    assert lines(loud)[0]["input"] == "WHAT COLOUR is the square?"
    assert lines(loud)[0]["doc_hash"] != lines(plain)[0]["doc_hash"]


def test_a_task_that_is_gone_has_no_places(tmp_path, monkeypatch):
    write_run(tmp_path / "run", replies())
    monkeypatch.delitem(TASKS, "toy")
    with pytest.raises(EvaluationError, match="no task 'toy'"):
        export_lmms_eval(tmp_path / "run", tmp_path / "out")


def test_lmms_evals_own_reader_finds_every_score(tmp_path):
    loader = pytest.importorskip("lmms_eval.baselines.loader", reason="lmms-eval is not installed")
    write_run(tmp_path / "run", replies(wrong=[4]))
    samples, _ = export_lmms_eval(tmp_path / "run", tmp_path / "out")
    scores, results = loader.load_baseline(str(samples), "toy")
    assert scores == {number: float(number != 4) for number in range(30)}
    assert results["results"]["toy"]["score,none"] == 29 / 30
