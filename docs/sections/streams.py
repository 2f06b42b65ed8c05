"""What streams were measured to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sections.markdown import percent, read, table

COMMENTS = "results/stream/comments.json"
_QUESTIONS = {
    "exact": "comments right to the word",
    "changed": "of them where something changes",
    "counted": "as many objects as there are",
    "memory": "names the colour told at the start",
}


def comments() -> str:
    """Early and late of every arm; a dash where an arm has no such answer."""
    result = read(COMMENTS)
    arms: dict[str, dict[str, Any]] = {}
    for row in result["arms"]:
        arms.setdefault(row["arm"], {})[row["part"]] = row
    lines = []
    for name, parts in arms.items():
        cells = [
            f"{percent(parts['early']['shares'][key])}, {percent(parts['late']['shares'][key])}"
            if key in parts["late"]["shares"] and key in parts["early"]["shares"]
            else "-"
            for key in _QUESTIONS
        ]
        lines.append([name, *cells])
    span, seconds = result["span"], result["seconds"]
    about = (
        f"Shares in the first and in the last {span} of {seconds} seconds, {result['streams']} test streams. "
        f"`{result['command']}`."
    )
    return f"{table(('arm', *_QUESTIONS.values()), lines)}\n\n{about}"


SECTIONS: dict[str, Callable[[], str]] = {"stream-comments": comments}
