"""Options of questions about marked points: lettered, moved on in a circle, and read from a reply.

Shared by VPBench's tasks. Knows no pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveate.evaluate.contract import Item, Reply, Score
from foveate.evaluate.parsing import read_choice, verdict

_LETTERS = "ABCD"


def lettered(
    texts: Sequence[str], labels: Sequence[str], right: int, *, shift: int = 0
) -> tuple[str, dict[str, Any]]:
    """The list of options as the question shows it, and the item's target.

    Args:
        texts: of the options.
        labels: of the marker that each option names.
        right: place of the right one among them.
        shift: by how many places the options are moved on, the last ones coming first again.
    """
    order = [(place + shift) % len(texts) for place in range(len(texts))]
    options = {_LETTERS[place]: texts[at] for place, at in enumerate(order)}
    target = {
        "answer": _LETTERS[order.index(right)],
        "options": options,
        "labels": {labels[at]: _LETTERS[place] for place, at in enumerate(order)},
    }
    return "\n".join(f"({letter}) {text}" for letter, text in options.items()), target


def score(item: Item, reply: Reply) -> Score:
    """The chosen option's letter; where markers are numbered, a marker's number alone counts as its option too."""
    target = item.target
    chosen = read_choice(reply.text, target["options"])
    if chosen is None and not set(target["labels"]) & set(target["options"]):
        named = read_choice(reply.text, tuple(target["labels"]))
        chosen = target["labels"].get(named) if named else None
    return verdict(reply.text, chosen, chosen == target["answer"])
