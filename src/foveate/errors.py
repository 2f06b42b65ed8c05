"""Errors that answer a user: what happened, why, and what to do next.

Every room raises these for bad input; the command line prints one line and exits with code 2. Our own
broken invariants are asserts, never these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FoveateError(Exception):
    """Bad input or a missing piece, told in one line.

    Args:
        what: what went wrong, naming the file, flag or value.
        why: the reason, with the numbers compared.
        fix: the next step, preferably a command.
    """

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.what.rstrip(".")]
        if self.why:
            parts.append(self.why.rstrip("."))
        line = ": ".join(parts)
        return f"{line}. {self.fix}" if self.fix else f"{line}."


class MediaError(FoveateError):
    """An image or video cannot be opened or breaks a limit."""


class ModelError(FoveateError):
    """A checkpoint cannot be found, read or run."""


class PromptError(FoveateError):
    """A conversation does not fit the model: too long, or images for a text-only model."""


class ContextLengthError(PromptError):
    """A prompt longer than the model's context, or one that leaves no room for an answer."""


class ReductionError(FoveateError):
    """A visual budget or a way of reducing visual tokens that cannot be used as asked."""


class MissingExtraError(FoveateError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}",
            why="it is not installed",
            fix=f"Run: pip install 'foveate[{extra}]'",
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known word closest to `name`, or the whole list where none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
