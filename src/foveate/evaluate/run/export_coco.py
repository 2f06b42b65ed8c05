"""A run's boxes and outlines as COCO's JSON: truth and results of each task that has them, for any other scorer.

    OUTPUT/TASK.instances.json    images, annotations and categories; a picture for each question
    OUTPUT/TASK.results.json      what was found, with the scores of `coco.results_json`

A variant's name follows the task's after two underscores. Items that failed are in neither file. Knows no model.
"""

from __future__ import annotations

import json
from pathlib import Path

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.provenance import write_atomically
from foveate.evaluate.run.export import file_name, key_of
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.rebuild import scored, task_of
from foveate.evaluate.run.summary import grouped
from foveate.evaluate.tasks.instances import InstanceTask


def export_coco(run: RunFolder | Path, output: Path) -> list[Path]:
    """Writes the files there and returns them.

    Raises:
        EvaluationError: no run, none of its tasks asks for boxes or outlines of classes, or the data is gone.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    written = []
    for (name, variant), rows in grouped(folder).items():
        task = task_of(folder, name, variant)
        if not rows or not isinstance(task, InstanceTask):
            continue
        for kind, data in zip(("instances", "results"), task.coco_json(scored(task, rows)), strict=True):
            path = output / f"{file_name(key_of(name, variant))}.{kind}.json"
            write_atomically(path, json.dumps(data) + "\n")
            written.append(path)
    if not written:
        tasks = ", ".join(record["name"] for record in folder.run["tasks"])
        raise EvaluationError(
            "There is nothing to write as COCO's JSON",
            why=f"this run's tasks ({tasks}) find no objects by class",
            fix="Run detection or segmentation.",
        )
    return written
