"""What a reply to an ambiguous question does: answers, says which thing it took to be meant, lists, or asks back.

A judge made of rules, so that it runs anywhere and says the same every time; how far it agrees with labels made by
hand is published in docs/evaluate.md. It sees the question and the reply, never the level or the target. Knows no task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foveate.evaluate.parsing import answer_text, is_refusal

Strategy = Literal["answer", "infer", "list", "ask", "none"]
STRATEGIES: tuple[Strategy, ...] = ("answer", "infer", "list", "ask")  # of levels 0 to 3

_QUOTED = re.compile(r'"[^"]*"|\u201c[^\u201d]*\u201d')
_ASKS_WITHOUT_MARK = re.compile(
    r"\bplease (?:\w+ ){0,2}(?:specific|specify|clarify|say|tell|name|point|indicate)"
    r"|\b(?:depends? on|know(?:ing)?|tell me|sure|clear|say) (?:which|what|whom?)\b"
    r"|\bneed (?:\w+ ){0,2}information\b|\bmore than one\b.*\bwhich\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\b(?:no|not|neither|nor|never|none)\b|n't\b", re.IGNORECASE)
_SEVERAL = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"\bone\b.*\b(?:another|the other|others|a second|the second)\b",
        r"\b(?:while|whereas|respectively)\b",
        r"\bboth\b|\beither\b.*\bor\b",
        r"\b(?:several|two|three|four|five|multiple|many)\b[^.?!]*:",
        r"\bif you mean\b.*\bif you mean\b",
        r"(?:^|[.;,:]|\band)\s*(?:the|a|an)\s[^.;,]*(?:[;,]|\band)\s*the\s+(?:\w+\s+){1,6}",
        r"^\s*[-*\u2022\d].*\n\s*[-*\u2022\d]",
    )
)
_PLACED = re.compile(
    r"\b(?:in (?:the )?(?:front|middle|cent(?:re|er)|foreground|background)|on the (?:left|right)|at the (?:top|bottom)"
    r"|(?:largest|biggest|main|nearest|closest|most prominent))\b|\byou (?:probably )?mean\b|\byou to mean\b",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"^(?:i (?:think|believe|assume|guess)(?: that)?|assuming|that (?:would be|is)|it is|it's|presumably)?[\s,]*"
    r"the\s+((?:[\w-]+\s+){0,3}?[\w-]+)(?=\s+(?:is|are|has|have|looks?|says|seems?|was|shows|would|on|in|at|with)\b|,)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a reply does.

    Attributes:
        strategy: "answer": one answer; "infer": one answer and what it is about; "list": several answers; "ask": a
            question back and no answer; "none": none of these, such as a refusal.
        given: the values that the reply gives as answers, where the possible ones are known.
    """

    strategy: Strategy
    given: tuple[str, ...] = ()


def judge_strategy(question: str, text: str, values: Sequence[str] | None = None) -> Judgement:
    """The strategy of one reply.

    A reply that gives answers and asks as well is judged by its answers: the user has them.

    Args:
        question: what the user asked, to tell a name that the reply adds from one that it repeats.
        values: every possible answer in words; None where answers are free text. Lists are then told by their
            wording, and every other text is taken for an answer.
    """
    plain = _QUOTED.sub("''", answer_text(text)) if values is None else answer_text(text)
    sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n(?=\S)", plain) if re.search(r"\w", s)]
    if not sentences:
        return Judgement(strategy="none")
    questions = [s for s in sentences if s.rstrip(" '\")").endswith("?")]
    asks = bool(questions) or any(_ASKS_WITHOUT_MARK.search(s) for s in sentences)
    if values is None:
        separator = "\n" if "\n" in plain else " "
        said = separator.join(s for s in sentences if s not in questions and not _ASKS_WITHOUT_MARK.search(s))
        return Judgement(strategy=_free(question, said, asks, refused=is_refusal(plain)))
    stated = [s for s in sentences if s not in questions]
    given = _given(stated, values)
    if len(given) > 1:
        return Judgement(strategy="list", given=given)
    if given:
        return Judgement(strategy="infer" if _names(question, " ".join(stated)) else "answer", given=given)
    return Judgement(strategy="ask" if asks else "none")


def _free(question: str, said: str, asks: bool, *, refused: bool) -> Strategy:
    if any(pattern.search(said) for pattern in _SEVERAL):
        return "list"
    if asks:
        return "ask"
    if refused or not said:
        return "none"
    return "infer" if _names(question, said) else "answer"


def _given(sentences: Sequence[str], values: Sequence[str]) -> tuple[str, ...]:
    """Values outside questions and negated clauses, in the order in which they come."""
    one = re.compile(rf"\b(?:{'|'.join(map(re.escape, values))})\b", re.IGNORECASE)
    clauses = [clause for sentence in sentences for clause in re.split(r"[,;:]|\bbut\b", sentence)]
    found = [value.casefold() for c in clauses if not _NEGATED.search(c) for value in one.findall(c)]
    return tuple(dict.fromkeys(found))


def _names(question: str, said: str) -> bool:
    """Whether the reply says which thing it is about, in words that the question did not have."""
    if _PLACED.search(said):
        return True
    subject = _SUBJECT.search(said)
    if subject is None:
        return False
    asked = set(re.findall(r"\w+", question.casefold()))
    return not set(subject[1].casefold().split()) <= asked
