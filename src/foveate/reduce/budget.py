"""The one dial: how many visual tokens of an image the language model sees.

Owns `full | N | 25% | auto`, what is refused and why, and the rule of `auto`. Knows no model and no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from foveate.errors import ReductionError, nearest

Kind = Literal["full", "count", "share", "auto"]

HOW = "Write full, auto, a number of tokens such as 144, or a share such as 25%."

# What the question asks for, the words that tell, and the share of tokens that `auto` gives it. Reading suffers
# most under reduction and loses at every budget (reduction.md, sections 5 and 8); presence and colour least.
# The first kind that matches wins.
QUESTION_KINDS: tuple[tuple[str, str, Fraction], ...] = (
    (
        "reading",
        r"\b(read|reads|text|texts|word|words|written|writes?|letters?|spell\w*|transcrib\w*|ocr|document|"
        r"invoice|receipt|chart|table|plot|axis|caption|title|sign says?|label|labels|number plate|price|"
        r"says?)\b",
        Fraction(1),
    ),
    ("counting", r"\b(how many|count|number of)\b", Fraction(1, 2)),
    (
        "place",
        r"\b(where|left|right|above|below|behind|in front|between|next to|coordinates?|locate|point)\b",
        Fraction(1, 2),
    ),
    ("description", r"\b(describe|description|explain|summar\w*|detail\w*|list)\b", Fraction(1, 2)),
    ("presence or attribute", r"\b(is there|are there|what colou?r|is the|does|which)\b", Fraction(1, 4)),
)
OTHER_KIND, OTHER_SHARE = "other", Fraction(1, 2)
# Of 40 pages of the world half lie above this at 168 pixels and of 40 scenes of shapes none (`edges.edge_share`).
TEXT_RICH_EDGES = 0.03
FEWEST_BY_AUTO = 16


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many tokens of one image will be kept, known before it is encoded.

    Attributes:
        kept: tokens the language model will see.
        ceiling: the most that may be kept; above `kept` only where a method's grids cannot give every number.
        total: tokens it would see without a reducer.
        asked: the budget as it was asked for.
        reason: why `kept` is what it is, in words.
    """

    kept: int
    ceiling: int
    total: int
    asked: str
    reason: str = ""

    @property
    def is_full(self) -> bool:
        """Whether nothing is dropped."""
        return self.kept == self.total


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A parsed dial; make it with `Budget.parse`.

    Attributes:
        kind: "full", "count", "share" or "auto".
        count: tokens, of kind "count".
        share: of an image's tokens, above 0 and at most 1, of kind "share".
    """

    kind: Kind
    count: int = 0
    share: Fraction = Fraction(1)

    @classmethod
    def parse(cls, value: str | int | Budget) -> Budget:
        """Reads a dial.

        Raises:
            ReductionError: nothing would be kept, more than all would, or the text is no budget.
        """
        if isinstance(value, Budget):
            return value
        text = str(value).strip().lower()
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ReductionError(f"The visual budget {value!r} is a {type(value).__name__}", fix=HOW)
        if text in ("full", "auto"):
            return cls(kind="full" if text == "full" else "auto")
        if match := re.fullmatch(r"([+-]?\d+(?:\.\d+)?)\s*%", text):
            return cls._of_percent(Fraction(match[1]), text)
        if re.fullmatch(r"[+-]?\d+", text):
            return cls._of_count(int(text))
        if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)", text):
            percent = float(text) * 100
            raise ReductionError(
                f"The visual budget {text} is neither a whole number of tokens nor a share",
                fix=f"For that share of the tokens write {percent:g}%.",
            )
        words = re.fullmatch(r"[a-z]+", text)
        raise ReductionError(
            f"The visual budget {value!r} cannot be read",
            fix=f"{nearest(text, ('full', 'auto'))} {HOW}" if words else HOW,
        )

    @classmethod
    def _of_percent(cls, percent: Fraction, text: str) -> Budget:
        if percent <= 0:
            raise ReductionError(f"The visual budget {text} keeps no token", fix="Ask for more than 0%.")
        if percent > 100:
            raise ReductionError(
                f"The visual budget {text} is more than all tokens", fix="Ask for at most 100%, or full."
            )
        return cls(kind="share", share=percent / 100)

    @classmethod
    def _of_count(cls, count: int) -> Budget:
        if count <= 0:
            raise ReductionError(
                f"The visual budget {count} keeps no token", fix="Ask for 1 or more, or full."
            )
        return cls(kind="count", count=count)

    def __str__(self) -> str:
        """The dial that parses to this budget."""
        if self.kind == "count":
            return str(self.count)
        if self.kind == "share":
            return f"{float(self.share * 100):g}%"
        return self.kind

    def plan(self, total: int, *, question: str = "", edges: float | None = None) -> Plan:
        """Tokens kept of an image of `total`; a share is rounded down, and one token at least stays.

        Args:
            question: what is asked, for "auto".
            edges: share of the picture under strong edges (`edges.edge_share`), for "auto".

        Raises:
            ReductionError: more tokens are asked for than the image has.
        """
        asked = str(self)
        if self.kind == "full":
            return Plan(kept=total, ceiling=total, total=total, asked=asked, reason="nothing is dropped")
        if self.kind == "count":
            if self.count > total:
                raise ReductionError(
                    f"The visual budget {self.count} is more than the image has",
                    why=f"it becomes {total} visual tokens",
                    fix=f"Ask for at most {total}, for a share such as 50%, or for full.",
                )
            return Plan(
                kept=self.count, ceiling=self.count, total=total, asked=asked, reason="as many as asked"
            )
        if self.kind == "share":
            kept = max(1, int(self.share * total))
            return Plan(kept=kept, ceiling=kept, total=total, asked=asked, reason=f"{asked} of {total}")
        share, reason = decide(question, edges)
        kept = min(total, max(FEWEST_BY_AUTO, int(share * total)))
        return Plan(kept=kept, ceiling=kept, total=total, asked=asked, reason=reason)


def question_kind(question: str) -> tuple[str, Fraction]:
    """What a question asks for and the share that `auto` gives it; "other" where no word tells."""
    lowered = question.lower()
    for name, pattern, share in QUESTION_KINDS:
        if re.search(pattern, lowered):
            return name, share
    return OTHER_KIND, OTHER_SHARE


def decide(question: str, edges: float | None) -> tuple[Fraction, str]:
    """The share that "auto" keeps, and why.

    A picture under many strong edges, as a page of print is, gets twice what the question alone would.
    """
    name, share = question_kind(question)
    reason = f"auto: a question of kind {name!r} gets {float(share):.0%}"
    if edges is not None and edges >= TEXT_RICH_EDGES and share < 1:
        share = min(Fraction(1), 2 * share)
        reason += f"; the picture looks rich in text ({edges:.0%} strong edges), so {float(share):.0%}"
    return share, reason
