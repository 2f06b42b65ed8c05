"""The tasks and prompt styles of `foveate eval`, from their registries."""

from __future__ import annotations

from collections.abc import Callable

from foveate.evaluate.listing import task_records
from foveate.evaluate.styles import STYLES
from sections.markdown import table


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def tasks() -> str:
    """A row a task: what it asks on the world, and which published data it reads instead."""
    rows = [
        (
            f"`{one['name']}`",
            one["title"],
            one["metric"],
            str(one["settings"].get("count", "")),
            one["paper"],
            _cell(one["source"]),
            one["licence"],
        )
        for one in task_records()
    ]
    header = ("task", "what is asked", "score", "items on the world", "paper", "public data", "its licence")
    return table(header, rows)


def styles() -> str:
    """A row a prompt style."""
    rows = [(f"`{style.name}`", style.help, style.box_format) for style in STYLES.values()]
    return table(("style", "what it adds", "boxes as"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "eval-tasks": tasks,
    "eval-styles": styles,
}
