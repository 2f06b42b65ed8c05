"""Limits as fields of frozen dataclasses: a default, its unit and the reason for it, side by side.

Owns the field, the check that a number is one, and the table for the docs. Knows no particular limit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import field
from typing import Any

from foveate.errors import FoveateError


class SafetySettingsError(FoveateError):
    """A limit that cannot be enforced as written."""


def limit(default: Any, unit: str, why: str) -> Any:
    """A dataclass field with what the docs say of it; `unit` is empty for words and lists."""
    return field(default=default, metadata={"unit": unit, "why": why})


def require_range(settings: Any, name: str, *, least: float = 0.0, above: bool = False) -> None:
    """Raise `SafetySettingsError` unless the field is a finite number of at least (or `above`) `least`."""
    value = getattr(settings, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if number and (value > least if above else value >= least):
        return
    raise SafetySettingsError(
        f"{type(settings).__name__}.{name} is {value!r}",
        why=f"it must be a number {'above' if above else 'of at least'} {least:g}",
        fix=f"The default is {_shown(_field(settings, name).default)}.",
    )


def limits_table(settings: type) -> str:
    """The limits of a settings class in Markdown, in the order of its fields."""
    rows = ["| Setting | Default | Why |", "|---|---|---|"]
    for entry in dataclasses.fields(settings):
        amount = f"{_shown(entry.default)} {entry.metadata['unit']}".strip()
        rows.append(f"| `{entry.name}` | {amount} | {entry.metadata['why']} |")
    return "\n".join(rows)


def _field(settings: Any, name: str) -> dataclasses.Field[Any]:
    return next(entry for entry in dataclasses.fields(settings) if entry.name == name)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (tuple, list)):
        return ", ".join(str(part) for part in value) or "none"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
