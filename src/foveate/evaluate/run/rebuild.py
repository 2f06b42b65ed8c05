"""A finished run's tasks and items again, for what the samples file does not hold: pictures and corpus measures.

Owns finding them by what run.json says; knows no model. Data that is no longer where it was is told, not guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from foveate.evaluate.contract import EvaluationError, Item, Scored, Task
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.records import Row, reply_from_row, score_from_row
from foveate.evaluate.tasks.registry import get_task


def named(records: Any) -> dict[str, Row]:
    """Records of run.json by their name."""
    return {record["name"]: record for record in records}


def task_of(folder: RunFolder, task: str, variant: str) -> Task:
    """The task as this variant asked it.

    Raises:
        EvaluationError: no such task here, a setting that it no longer has, or data that is gone.
    """
    settings: dict[str, Any] = dict(named(folder.run["tasks"])[task].get("settings", {}))
    settings |= named(folder.run["variants"])[variant].get("task_settings", {})
    return get_task(task, **settings)


def items_of(task: Task, wanted: Collection[str]) -> dict[str, Item]:
    """The items of these ids; it stops reading at the last one.

    Raises:
        EvaluationError: the task no longer has one of them.
    """
    missing, found = set(wanted), dict[str, Item]()
    if missing:
        for item in task.items():
            if isinstance(item, Item) and item.id in missing:
                found[item.id] = item
                missing.remove(item.id)
                if not missing:
                    break
    if missing:
        raise EvaluationError(
            f"{len(missing)} items are not in the task's data any more, {min(missing)!r} among them"
        )
    return found


def scored(task: Task, rows: Collection[Mapping[str, Any]]) -> list[Scored]:
    """Samples as corpus measures take them, in the order given."""
    items = items_of(task, {row["item"] for row in rows})
    return [
        Scored(
            item=items[row["item"]], reply=reply_from_row(row["reply"]), score=score_from_row(row["score"])
        )
        for row in rows
    ]
