"""How an engine speculates, checked when it is said.

Owns ranges only; which draft a name means is in `drafts/opening.py`. Knows no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foveate.errors import FoveateError, nearest

OFF, AUTO, NGRAM = "off", "auto", "ngram"


@dataclass(frozen=True, kw_only=True)
class SpeculationSettings:
    """What drafts, and how much.

    Attributes:
        draft: "auto" (the best there is for the model), "ngram" (copied from the text so far), or a folder or hub
            name of a draft: a small model of the same vocabulary, a head trained for the target.
        depth: longest path; None is the draft's own.
        nodes: largest tree; None is the draft's own.
        adaptive: choose the depth by what was accepted so far and what steps cost, down to none where drafting would
            not pay; else always draft as deep as allowed.

    Raises:
        FoveateError: a value outside its range.
    """

    draft: str = AUTO
    depth: int | None = None
    nodes: int | None = None
    adaptive: bool = True

    def __post_init__(self) -> None:
        if not self.draft or self.draft == OFF:
            raise FoveateError(
                f"The draft is {self.draft!r}",
                why="these are the settings of an engine that speculates",
                fix="Leave speculation out (None), or name a draft: auto, ngram, or a folder.",
            )
        for name in ("depth", "nodes"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 256:
                raise FoveateError(f"The {name} of drafts is {value}", why="it must be 1 to 256")


def parse_speculation(text: str) -> SpeculationSettings | None:
    """What `--speculate TEXT` asks for; None is off. Whether a folder fits the model is seen when it is opened.

    Raises:
        FoveateError: it is neither a method, nor a folder, nor the form of a hub name.
    """
    if text == OFF:
        return None
    is_hub_name = text.count("/") == 1 and not text.startswith((".", "/", "~")) and " " not in text
    if text not in (AUTO, NGRAM) and not is_hub_name and not Path(text).expanduser().is_dir():
        raise FoveateError(
            f"There is no draft {text!r}",
            why="it is neither a method, nor a folder, nor a hub name",
            fix=nearest(text, [OFF, AUTO, NGRAM]),
        )
    return SpeculationSettings(draft=text)
