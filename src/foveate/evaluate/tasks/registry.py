"""Tasks by name, imported only when asked for; a test sweeps every entry.

To add one: a file in this package with a class that fits `contract.Task`, and a line here. A task of one's own needs no
line: it is named by its file and class, "path/to/file.py:Class".
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
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
    """The class of this name, imported; "FILE.py:CLASS" is a task of one's own.

    Raises:
        EvaluationError: no such task, naming the nearest; or a file that is not there, fails, or has no such class.
    """
    if ".py:" in name:
        return _own_class(name)
    if name not in TASKS:
        raise EvaluationError(f"There is no task {name!r}", fix=nearest(name, TASKS))
    module, attribute = TASKS[name].split(":")
    found: type[Task] = getattr(importlib.import_module(f"foveate.evaluate.tasks.{module}"), attribute)
    return found


def _own_class(name: str) -> type[Task]:
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise EvaluationError(f"There is no file {file}", fix="Name a task of your own as FILE.py:CLASS.")
    found: type[Task] | None = getattr(_own_module(path.resolve()), attribute, None)
    missing = [part for part in ("card", "items", "score") if not hasattr(found, part)]
    if not inspect.isclass(found) or missing:
        raise EvaluationError(
            f"{attribute!r} in {file} is no task",
            why=f"it has no {', '.join(missing)}" if inspect.isclass(found) else "there is no such class",
            fix="docs/evaluate.md shows a task of 30 lines.",
        )
    return found


@functools.cache
def _own_module(path: Path) -> ModuleType:
    """The file as a module of a name that no package has; errors of its own are shown as they are."""
    spec = importlib.util.spec_from_file_location(f"own_task.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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
