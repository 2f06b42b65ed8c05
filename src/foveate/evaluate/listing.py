"""The table of tasks as `foveate eval tasks` and the docs show it: card, what it asks, settings with defaults.

Owns the record; imports every task's file.
"""

from __future__ import annotations

import inspect
from dataclasses import asdict
from typing import Any

from foveate.evaluate.tasks.registry import TASKS, task_class


def task_records() -> list[dict[str, Any]]:
    """Every task in the registry's order, JSON-ready."""
    return [_record(name) for name in TASKS]


def _record(name: str) -> dict[str, Any]:
    kind = task_class(name)
    settings = {
        parameter.name: parameter.default
        if isinstance(parameter.default, str | int | float | bool | None)
        else repr(parameter.default)
        for parameter in inspect.signature(kind).parameters.values()
    }
    return {
        "name": name,
        **asdict(kind.card),
        "about": next(iter((inspect.getdoc(kind) or "").splitlines()), ""),
        "settings": settings,
    }
