"""What a method needs of a model, and whether a tower can give it.

Owns the declaration and the reasons for refusal. Knows no torch and no method.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SalienceNeed = Literal["cls", "column", "any"]
WORDS = {"cls": "CLS row", "column": "column mean", "any": "CLS row or column mean"}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Attributes:
    salience: the row a method scores with: "cls" (a tower with a CLS token), "column", "any" (the CLS row
        where there is one, else the column mean), or None.
    shallow: depth of a second, earlier salience row, as a share of the tower's layers; None for none.
    features: whether the projected features are compared.
    keys: whether the tower's keys are compared.
    resizing: whether pictures are made smaller before the tower, so that it must take other sizes.
    question: whether the choice depends on the question, so that it cannot be reused for another.
    language: what is read inside the language model, in words; "" for methods that act before it.
    """

    salience: SalienceNeed | None = None
    shallow: float | None = None
    features: bool = False
    keys: bool = False
    question: bool = False
    resizing: bool = False
    language: str = ""

    def missing(self, salience_kind: str | None, resizes: bool, *, plain_decoder: bool = True) -> str:
        """Why a model cannot serve; empty if it can.

        Args:
            salience_kind: "cls", "column" or None, what the tower gives.
            resizes: whether it takes pictures of other sizes than the processor makes.
            plain_decoder: whether every language layer is causal over all tokens.
        """
        if self.language and not plain_decoder:
            return (
                "it drops tokens between layers, and this decoder has sliding windows or tokens that see each other "
                "both ways"
            )
        if self.resizing and not resizes:
            return "it shrinks pictures before the tower, and this tower takes tiles of one size"
        if self.salience in ("cls", "column") and salience_kind != self.salience:
            has = WORDS.get(salience_kind or "", "no salience row")
            return f"it scores with the {WORDS[self.salience]}, and this tower has the {has}"
        if self.salience == "any" and salience_kind is None:
            return "it scores with a salience row, and this tower gives none"
        return ""

    def describe(self) -> str:
        """For tables: what is read, in words."""
        parts = []
        if self.salience is not None:
            parts.append(WORDS[self.salience])
        if self.shallow is not None:
            parts.append("an early row")
        if self.keys:
            parts.append("tower keys")
        if self.features:
            parts.append("features")
        if self.resizing:
            parts.append("a smaller picture")
        if self.question:
            parts.append("the question")
        if self.language:
            parts.append(f"language model: {self.language}")
        return ", ".join(parts) or "nothing"
