"""The load generator's definitions."""

from __future__ import annotations

from collections.abc import Callable

from foveate.evaluate.load import DEFINITIONS
from sections.markdown import table


def definitions() -> str:
    return table(("figure", "meaning"), [(f"`{name}`", meaning) for name, meaning in DEFINITIONS.items()])


SECTIONS: dict[str, Callable[[], str]] = {"load-definitions": definitions}
