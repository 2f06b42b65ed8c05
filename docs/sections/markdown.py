"""Reading result files and writing Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def read(path: str) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def spread(found: Mapping[str, float], digits: int = 2) -> str:
    """A median with its range."""
    middle, low, high = (f"{found[name]:.{digits}f}" for name in ("median", "minimum", "maximum"))
    return f"{middle} ({low} to {high})"
