"""Questions about marked points: their settings, lettered options that name markers, and the letter read from a reply.

What VPBench's tasks share. Knows no pictures and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveate.evaluate.contract import Item, Reply, Score
from foveate.evaluate.parsing import read_choice, verdict
from foveate.evaluate.perturb.markers import DEFAULT_LOOK, marker_look
from foveate.evaluate.tasks.lettering import lettered


class MarkedOptions:
    """A task whose options each name a marker; what it asks is its subclass's.

    Args:
        data: the published files; None makes the embedded form.
        count: questions of the embedded form.
        marker_style: how markers look, by the name of a style.
        option_shift: by how many places the options are moved on, the last ones coming first again.
    """

    def __init__(
        self,
        *,
        data: str | None = None,
        count: int = 100,
        marker_style: str = DEFAULT_LOOK,
        option_shift: int = 0,
    ) -> None:
        self.data, self.count, self.shift = data, count, option_shift
        self.look = marker_look(marker_style)

    def score(self, item: Item, reply: Reply) -> Score:
        """The chosen option's letter; where markers are numbered, a marker's number alone counts as its option too."""
        target = item.target
        chosen = read_choice(reply.text, target["options"])
        if chosen is None and not set(target["labels"]) & set(target["options"]):
            named = read_choice(reply.text, tuple(target["labels"]))
            chosen = target["labels"].get(named) if named else None
        return verdict(reply.text, chosen, chosen == target["answer"])

    def perfect_reply(self, item: Item) -> str:
        """The right option's letter."""
        return f"({item.target['answer']})"

    def _with_options(
        self, question: str, texts: Sequence[str], labels: Sequence[str], right: int
    ) -> tuple[str, dict[str, Any]]:
        """The question with its options listed, and the item's target.

        Args:
            texts: of the options.
            labels: of the marker that each option names.
            right: place of the right one among them.
        """
        options, letters = lettered(texts, shift=self.shift)
        listed = "\n".join(f"({letter}) {text}" for letter, text in options.items())
        named = {label: letter for letter, label in sorted(zip(letters, labels, strict=True))}
        return f"{question}\n{listed}", {"answer": letters[right], "options": options, "labels": named}
