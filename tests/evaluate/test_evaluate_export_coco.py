"""Boxes of a run as COCO's JSON: pycocotools reads the files and finds the scores that the summary has."""

from __future__ import annotations

import contextlib
import io

import pytest
from finished_runs import replies, toy, write_run
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from foveate.cli.main import run as command
from foveate.evaluate.contract import EvaluationError, Parameters, Reply
from foveate.evaluate.planning import RunPlan, TaskChoice
from foveate.evaluate.run.export_coco import export_coco
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.summary import summarise
from foveate.evaluate.tasks.registry import get_task

__all__ = ["toy"]


def written(path, name, replace):
    """A finished run of ten items, every third reply changed."""
    settings = {"count": 10, "ask": "all"}
    plan = RunPlan(tasks=(TaskChoice(name=name, settings=settings),), style="plain", parameters=Parameters())
    facts = {"model": {"name": "made-up"}, "commits": [], "versions": {}, "machine": {}, "command": ""}
    folder = RunFolder.create(path, {**plan.describe(), **facts})
    task = get_task(name, **settings)
    for number, item in enumerate(task.items()):
        text = task.perfect_reply(item)
        reply = Reply(text=replace(text) if number % 3 == 0 else text, seconds={"total": 0.1})
        folder.add(name, "baseline", item, reply, task.score(item, reply), from_cache=False)
    return RunFolder.open(path)


@pytest.mark.parametrize(("name", "kind"), [("detection", "bbox"), ("segmentation", "segm")])
def test_pycocotools_finds_the_same_average_precision(tmp_path, name, kind):
    folder = written(tmp_path / "run", name, lambda text: text.split("; ")[0])
    instances, results = export_coco(folder, tmp_path / "out")
    assert instances.name == f"{name}.instances.json" and results.name == f"{name}.results.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(instances))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    (row,) = summarise(folder)["results"]
    assert 0.3 < row["measures"]["mAP"] < 1
    assert evaluation.stats[0] == pytest.approx(row["measures"]["mAP"], abs=1e-3)
    assert evaluation.stats[1] == pytest.approx(row["measures"]["AP50"], abs=1e-3)


def test_a_run_without_boxes_says_so_and_the_command_writes(tmp_path, toy, capsys):
    with pytest.raises(EvaluationError, match="nothing to write"):
        export_coco(write_run(tmp_path / "toy", replies()), tmp_path / "out")
    written(tmp_path / "run", "detection", str)
    arguments = [
        "eval",
        "export",
        str(tmp_path / "run"),
        "--output",
        str(tmp_path / "out"),
        "--format",
        "coco",
    ]
    assert command(arguments) == 0
    assert "detection.results.json" in capsys.readouterr().err
