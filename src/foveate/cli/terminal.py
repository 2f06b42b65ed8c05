"""Print helpers: dim notes on stderr, a one-line notice that removes itself, numbers as people read them.

Knows nothing of models. Answers go to stdout and everything about them to stderr, so `foveate chat … > file`
keeps the answer alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

DIM, RESET, CLEAR_LINE = "\x1b[2m", "\x1b[0m", "\r\x1b[K"


def styled() -> bool:
    """True when stderr is a terminal that takes colour (https://no-color.org)."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """One line beside the answer: dim on a terminal, plain elsewhere, always on stderr."""
    sys.stdout.flush()
    print(f"{DIM}{text}{RESET}" if styled() else text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def notice(text: str) -> Iterator[None]:
    """Show `text` while the block runs, on a terminal only, and take it away again."""
    if not styled():
        yield
        return
    print(f"{DIM}{text}{RESET}", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def seconds(value: float) -> str:
    """A duration: 85 ms, 2.41 s."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 token, 2 tokens, 12,544 tokens."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def mebibytes(size: float) -> str:
    """A size in bytes as MiB or GiB."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart under their names, no rules: easy to read and to cut."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
