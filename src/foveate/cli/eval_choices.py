"""What the flags of `foveate eval run` mean: tasks with their settings, and what no item could be asked with.

Everything here is told before a model is loaded. Owns the words of `--set` and the command that run.json records.
"""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.errors import nearest

if TYPE_CHECKING:
    import typer

    from foveate.evaluate.planning import TaskChoice


def choose_tasks(names: Sequence[str], suite: str | None, settings: Sequence[str]) -> tuple[TaskChoice, ...]:
    """The tasks that are named, or those of a suite, with what `--set` says.

    Raises:
        EvaluationError: neither or both are given, or a setting of no task among them.
    """
    from foveate.evaluate.contract import EvaluationError
    from foveate.evaluate.planning import TaskChoice
    from foveate.evaluate.suites import SUITES, suite_tasks
    from foveate.evaluate.tasks.registry import TASKS, task_class

    if bool(names) == (suite is not None):
        raise EvaluationError(
            "Tasks and a suite are both given" if names else "No task is named",
            why=f"suites are {', '.join(SUITES)}, tasks {', '.join(TASKS)}",
            fix="Such as: foveate eval run --suite smoke",
        )
    chosen = {
        task.name: task for task in (suite_tasks(suite) if suite else [TaskChoice(name=n) for n in names])
    }
    for name in names:
        task_class(name)  # a misspelt one is told before --set is read
    for text in settings:
        name, setting, value = _setting(text, tuple(chosen))
        chosen[name] = TaskChoice(name=name, settings={**chosen[name].settings, setting: value})
    return tuple(chosen.values())


def _setting(text: str, known: Sequence[str]) -> tuple[str, str, Any]:
    """(task, setting, value) of TASK.SETTING=VALUE; the task's own signature says what the value is."""
    from foveate.evaluate.contract import EvaluationError
    from foveate.evaluate.tasks.registry import task_class

    left, equals, value = text.partition("=")
    name, _, setting = left.rpartition(".")
    if not (name and setting and equals):
        raise EvaluationError(
            f"--set {text!r} is not written TASK.SETTING=VALUE", fix="Such as: world.difficulty=3"
        )
    if name not in known:
        raise EvaluationError(f"--set {text!r} is of a task that is not asked", fix=nearest(name, known))
    parameters = inspect.signature(task_class(name)).parameters
    if setting not in parameters:
        raise EvaluationError(
            f"The task {name!r} has no setting {setting!r}", fix=nearest(setting, parameters)
        )
    if "str" in str(parameters[setting].annotation):
        return name, setting, value
    try:
        return name, setting, json.loads(value)
    except ValueError as error:
        raise EvaluationError(
            f"--set {text!r} has no value that fits", why=f"{parameters[setting]}", fix="Such as: 3, true"
        ) from error


# Flags that do not change what is asked, or name a place of this machine.
_PRIVATE = ("output", "resume", "as_json")


def published_command(context: typer.Context) -> str:
    """What to type for the same run; of paths the last name alone, for the command is published."""
    words = ["foveate", "eval", "run"]
    flags: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.param_type_name == "argument":
            words += [Path(one).name if "/" in one else one for one in value or []]  # a task in a file
        elif parameter.name not in _PRIVATE and value != parameter.default and value not in (None, ()):
            if parameter.secondary_opts:
                flags.append((parameter.opts if value else parameter.secondary_opts)[0])
                continue
            for one in value if isinstance(value, list | tuple) else [value]:
                flags += [parameter.opts[0], _without_folders(str(one))]
    return shlex.join([*words, *flags])


def _without_folders(value: str) -> str:
    head, equals, path = value.rpartition("=")
    return f"{head}{equals}{Path(path).name}" if Path(path).exists() and "/" in path else value


def check(style: str | None, visual_budget: str | None, reducer: str | None) -> None:
    """Refuses what no item could be asked with, before a model is loaded.

    Raises:
        FoveateError: no such style, budget or method, or a method without a budget.
    """
    from foveate.evaluate.contract import EvaluationError
    from foveate.evaluate.styles import get_style

    if style is not None:
        get_style(style)
    if reducer is not None and visual_budget is None:
        raise EvaluationError("--reducer needs --visual-budget", fix="Such as: --visual-budget 25%")
    if visual_budget is not None:
        from foveate.reduce.budget import Budget
        from foveate.reduce.registry import find

        Budget.parse(visual_budget)
        if reducer is not None:
            find(reducer)
