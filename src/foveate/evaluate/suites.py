"""Named sets of tasks for `foveate eval run --suite`.

Owns which tasks and how many items; both suites ask the embedded forms, so neither needs a download.
"""

from __future__ import annotations

import inspect

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.planning import TaskChoice
from foveate.evaluate.tasks.registry import TASKS, task_class

SUITES = {
    "smoke": "every task with two dozen items: minutes on a laptop, wide intervals",
    "full": "every task with its own number of items",
}
_SMOKE_ITEMS = 24
_SMOKE_ITEMS_OF = {"world": 96}  # a dozen families


def suite_tasks(name: str) -> tuple[TaskChoice, ...]:
    """The tasks of a suite.

    Raises:
        EvaluationError: no such suite, naming the nearest.
    """
    if name not in SUITES:
        raise EvaluationError(f"There is no suite {name!r}", fix=nearest(name, SUITES))
    if name == "full":
        return tuple(TaskChoice(name=task) for task in TASKS)
    return tuple(TaskChoice(name=task, settings=_few(task)) for task in TASKS)


def _few(task: str) -> dict[str, int]:
    if "count" not in inspect.signature(task_class(task)).parameters:
        return {}
    return {"count": _SMOKE_ITEMS_OF.get(task, _SMOKE_ITEMS)}
