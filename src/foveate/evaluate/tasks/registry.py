"""Tasks by name, imported only when asked for; a test sweeps every entry.

To add one: a file in this package with a class that fits `contract.Task`, and a line here.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError, Task

# name: "module:Class" below foveate.evaluate.tasks, grouped as the docs' table shows them
TASKS: dict[str, str] = {
    "world": "world:World",
    "vpbench-depth": "vpbench_depth:RelativeDepth",
    "vpbench-correspondence": "vpbench_correspondence:SemanticCorrespondence",
    "vpbench-markers": "vpbench_markers:MarkedObjects",
    "detection": "detection:Detection",
    "segmentation": "segmentation:Segmentation",
    "referring": "referring:Referring",
    "remote-sensing-scenes": "remote_sensing_questions:SceneClassification",
    "remote-sensing-counting": "remote_sensing_questions:Counting",
    "remote-sensing-vqa": "remote_sensing_questions:RemoteSensingQuestions",
    "remote-sensing-captions": "remote_sensing_captions:RemoteSensingCaptions",
    "remote-sensing-grounding": "remote_sensing_grounding:RemoteSensingGrounding",
    "pope": "hallucination:Pope",
    "aqua": "aqua:Aqua",
    "docvqa": "reading:DocVqa",
    "chartqa": "reading:ChartQa",
    "multiple-choice": "multiple_choice:MultipleChoice",
    "dialogue": "dialogue:Dialogue",
    "video": "video:VideoQuestions",
}


def task_class(name: str) -> type[Task]:
    """The class of this name, imported.

    Raises:
        EvaluationError: no such task, naming the nearest.
    """
    if name not in TASKS:
        raise EvaluationError(f"There is no task {name!r}", fix=nearest(name, TASKS))
    module, attribute = TASKS[name].split(":")
    found: type[Task] = getattr(importlib.import_module(f"foveate.evaluate.tasks.{module}"), attribute)
    return found


def get_task(name: str, **settings: Any) -> Task:
    """The task with these settings; what is not named keeps its default.

    Raises:
        EvaluationError: no such task, or a setting that it does not have.
    """
    kind = task_class(name)
    known = inspect.signature(kind).parameters
    for setting in settings:
        if setting not in known:
            raise EvaluationError(
                f"The task {name!r} has no setting {setting!r}", fix=nearest(setting, known)
            )
    return kind(**settings)
