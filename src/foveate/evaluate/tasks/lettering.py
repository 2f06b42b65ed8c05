"""Letters of options, moved on in a circle. Shared by tasks of multiple choice; knows no questions."""

from __future__ import annotations

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lettered(texts: Sequence[str], *, shift: int = 0) -> tuple[dict[str, str], list[str]]:
    """The options by letter as a question lists them, and the letter of each in the order they were given.

    Args:
        texts: of the options, at most 26.
        shift: by how many places the options are moved on, the last ones coming first again.
    """
    letters = [LETTERS[(place - shift) % len(texts)] for place in range(len(texts))]
    return dict(sorted(zip(letters, texts, strict=True))), letters
