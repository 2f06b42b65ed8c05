"""Box formats and detection scenarios, from their tables in code."""

from __future__ import annotations

from collections.abc import Callable

from foveate.evaluate.boxes import FORMATS, write_boxes
from foveate.evaluate.tasks.scenarios import SCENARIOS
from sections.markdown import table

_EXAMPLE = [("star", (0.25, 0.5, 0.5, 0.75))]


def formats() -> str:
    """A row a format, with one box as it is written there."""
    rows = []
    for name, kind in FORMATS.items():
        unit = {None: "pixels", 1: "fractions"}.get(kind.divisor, f"0 to {kind.divisor}")
        written = write_boxes(_EXAMPLE, name, size=(640, 480))
        rows.append(
            (
                f"`{name}`",
                unit,
                "top, left, bottom, right" if kind.upright else "left, top, right, bottom",
                f"`{written}`",
            )
        )
    return table(("format", "coordinates", "order", "one box on 640 × 480 pixels"), rows)


def scenarios() -> str:
    """A row a scenario: its definition on the world, and what the review measures it on."""
    rows = [(f"`{name}`", one.definition, one.review) for name, one in SCENARIOS.items()]
    return table(("scenario", "on the world", "in the review"), rows)


SECTIONS: dict[str, Callable[[], str]] = {"box-formats": formats, "detection-scenarios": scenarios}
