"""Reads an answer out of a reply, and never guesses: what is absent or contradictory is None, not a coin flip.

Two public kits differ by 4 points on one model and one benchmark, traced to answer parsing, and both draw a random
option where they can read none (lmms-eval, docs/advanced/mmmu-eval-discrepancy.md). The readers here are pure
functions of the reply and of the allowed answers; none sees the target. Knows no task and no model.

What all readers share: reasoning in `<think>...</think>` is not the answer; "final answer: X", `\\boxed{X}`,
`<answer>X</answer>` and "#### X" outrank "the answer is X", which outranks the rest; two that disagree give None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from foveate.evaluate.contract import Score
from foveate.evaluate.numerals import one_number
from foveate.evaluate.reply_text import answer_text, claims_in, finals, is_refusal, sentence_claims

__all__ = [
    "answer_text",
    "is_refusal",
    "read_answer",
    "read_choice",
    "read_number",
    "read_short",
    "read_word",
    "read_yes_no",
    "verdict",
]

T = TypeVar("T")

_LEAD = re.compile(
    r"^(?:(?:(?:it|this|that|there)(?: is|'s| are)|they are|i see|the|an?)\s+)+", re.IGNORECASE
)
_NEGATION = re.compile(
    r"\b(?:no|not|none|neither|nor|never|without|cannot|unable|unsure|unclear|isn|aren|wasn|doesn|don|can|won)(?:'t)?\b",
    re.IGNORECASE,
)
_CAN = re.compile(r"\bcan\b(?!')", re.IGNORECASE)
_HEDGE = re.compile(r"\b(?:or|either|maybe|perhaps|possibly)\b", re.IGNORECASE)


def read_choice(text: str, options: Mapping[str, str] | Sequence[str]) -> str | None:
    """The label of the option that the reply chooses.

    Read are: a label alone ("B", "(b)", "B."), one that opens the reply ("B. a star", "B) because ..."), one in an
    answer's claim ("the answer is B"), one alone on the last line, and an option's exact text. A label in running text
    is not read ("A star is near I", "Answer: I think so"). A label with another option's text, two labels, "A or B",
    a label that is taken back ("A. Actually B", "(A) is wrong") and a list of the options give None.

    Args:
        options: texts by label, or labels alone.
    """
    texts = dict(options) if isinstance(options, Mapping) else dict.fromkeys(options, "")
    plain = answer_text(text)
    claims = claims_in(plain)
    opening = _opening_label(plain, texts, claimed=False)
    lines = [_whole_label(line, texts) for line in plain.splitlines() if line.strip()]
    last, alone = (lines[-1] if len(lines) > 1 else None), [label for label in lines if label]
    if claims:
        readings = {reading for claim in claims if (reading := _one_choice(claim, texts, claimed=True))}
        if opening is not None and not finals(plain):
            readings.add(opening)
        if not finals(plain) and last:
            readings.add(last)
        return readings.pop() if len(readings) == 1 else None
    found = _one_choice(plain, texts, claimed=False)
    if found is None:
        return last if last and len(set(alone)) == 1 else None
    return found if last in (None, found) else None


def read_yes_no(text: str) -> str | None:
    """ "yes" or "no" where the reply opens with one, or claims it as its answer.

    "There is no cat" is not read: what it answers depends on the question. "Yes. No." gives None, and so does "No, I
    cannot see the image", which refuses.
    """
    plain = answer_text(text)
    # A claim that is taken back adds both words, so no other claim makes up for it.
    readings = {reading for each in claims_in(plain) for reading in _opening_yes_no(each)}
    if not finals(plain) and not is_refusal(plain):
        readings |= _opening_yes_no(plain)
    return readings.pop() if len(readings) == 1 else None


def read_number(text: str) -> float | None:
    """The one number of the reply, in digits ("1,204", "3.5 million", "12%" as 12) or in words up to ninety-nine.

    Two different numbers give None unless an answer's claim holds one of them; so do bounds ("at least 3"), ranges,
    and refusals.
    """
    return _agreed(text, one_number)


def read_word(text: str, allowed: Mapping[str, str] | Sequence[str]) -> str | None:
    """The one allowed word or phrase in the reply; None where there are several, or a negation or an "or" beside it.

    Args:
        allowed: the answers, or what stands for each ("grey" and "gray" for "grey"). Longer ones are found first.
    """
    meanings = dict(allowed) if isinstance(allowed, Mapping) else {word: word for word in allowed}
    by_form = {_bare(form): meaning for form, meaning in meanings.items()}

    def one(part: str) -> str | None:
        if (exact := by_form.get(_bare(part))) is not None:
            return exact
        without_can = _CAN.sub("", part)
        if _NEGATION.search(without_can) or _HEDGE.search(part):
            return None
        forms = sorted((re.escape(form) for form in by_form if form), key=len, reverse=True)
        if not forms:
            return None
        found = re.findall(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)", part.casefold())
        readings = {by_form[_bare(form)] for form in found}
        return readings.pop() if len(readings) == 1 else None

    return _agreed(text, one)


def read_short(text: str) -> str | None:
    """A free answer: what is claimed as the answer, else the whole reply; None where it is empty or refuses.

    Of weaker claims only sentences of their own are read ("The answer is X."): a free answer may have the word in it.
    """
    plain = answer_text(text)
    claims = {claim.strip(" \t\n.,;:\"'") for claim in finals(plain) or sentence_claims(plain)}
    if claims:
        claim = claims.pop()
        return None if claims or is_refusal(claim) else claim or None
    return None if is_refusal(plain) else plain or None


def read_answer(text: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that the reply gives, read by kind: yes or no, numbers, letters, words; else free text."""
    if not choices:
        return read_short(text)
    if set(choices) == {"yes", "no"}:
        return read_yes_no(text)
    if all(choice.isdigit() for choice in choices):
        number = read_number(text)
        return None if number is None else f"{number:g}"
    if all(len(choice) == 1 for choice in choices):
        return read_choice(text, choices)
    return read_word(text, choices)


def verdict(text: str, parsed: T | None, correct: Callable[[T], bool] | bool, **details: Any) -> Score:
    """The score of a reply from which `parsed` was read: correct, wrong, refused, or unparsed where it is None.

    Args:
        correct: whether what was parsed is right; a function is only called on what was parsed.
    """
    if parsed is None:
        return Score.refused(**details) if is_refusal(text) else Score.unparsed(**details)
    return Score.correct_if(correct(parsed) if callable(correct) else correct, parsed, **details)


# -- parts ----------------------------------------------------------------------------------------------


def _bare(text: str) -> str:
    """Folded, without surrounding punctuation and leading articles, to compare whole answers."""
    text = re.sub(r"\s+", " ", text).strip(" \t\n.,;:!?\"'()[]").casefold()
    return _LEAD.sub("", text)


def _agreed(text: str, read: Callable[[str], T | None]) -> T | None:
    plain = answer_text(text)
    claims = claims_in(plain)
    refused = is_refusal(plain)
    if not claims and refused:
        return None
    readings = {reading for part in (claims or [plain]) if (reading := read(part)) is not None}
    if not readings and claims and not refused and not finals(plain):
        return read(plain)
    return readings.pop() if len(readings) == 1 else None


def _label(found: str, texts: Mapping[str, str]) -> str | None:
    return next((label for label in texts if label.casefold() == found.casefold()), None)


def _any_label(texts: Mapping[str, str]) -> str:
    return "|".join(sorted((re.escape(label) for label in texts), key=len, reverse=True))


def _whole_label(line: str, texts: Mapping[str, str]) -> str | None:
    pattern = rf"\s*(?:(?:option|choice|answer)\s*:?\s*)?[\"'(\[]*({_any_label(texts)})[\"')\].:]*\s*"
    found = re.fullmatch(pattern, line, re.IGNORECASE)
    return _label(found[1], texts) if found else None


def _opening_label(part: str, texts: Mapping[str, str], *, claimed: bool) -> str | None:
    """The label that opens `part` and is not taken back in what follows it.

    Bare labels need punctuation or the end after them; in a claim a reason or their own option's text will do too,
    but no other word: "A man is riding" and "I think so" open with words, not with labels.
    """
    part = re.sub(r"^\s*(?:option|choice)\s+", "", part, flags=re.IGNORECASE).strip()
    labels = _any_label(texts)
    found = re.match(rf"[(\[\"']({labels})[)\]\"']|({labels})(?=[).:,;]|\s*$|\s*\n)", part)
    if found is None and claimed:
        found = re.match(
            rf"({labels})(?=[!?\]\"]|\s+(?:[-\u2013\u2014(=]|(?:because|since|given|as)\b))", part
        )
        if found is None and (own := re.match(rf"({labels})\s+", part)):
            found = own if _past(part[own.end() :], texts[own[1]]) != part[own.end() :] else None
    if found is None:
        return None
    label = next(group for group in found.groups() if group)
    return None if _taken_back(part[found.end() :], label, texts) else label


def _past(said: str, words: str) -> str:
    """`said` without the option's text that opens it; all of it where none does."""
    words = _bare(words)
    found = re.match(rf"\W*{re.escape(words)}(?!\w)", said, re.IGNORECASE) if words else None
    return said[found.end() :] if found else said


_REJECTED = re.compile(
    r"[)\]\"'\s]*(?:(?:[.:,?=-]\s*)?(?:is|are|was|can|could|would|must|should|does|do|seems)(?:\s+\w+ly)?\s*"
    r"(?:not|n't|wrong|incorrect|false)\b|cannot\b|can't\b|won't\b"
    r"|[.:,?!=-]\s*(?:no|wrong|incorrect|false|not (?:correct|right|it|this|that))\s*(?:[.,;!\n]|$))",
    re.IGNORECASE,
)
_TURN = r"(?:(?i:actually|wait|no|or|and|rather|but|so|then|hence|maybe|instead|it is|it's|it must be)\b[\s,:]*){0,4}"
_SETTLED = r"\s+(?i:is|must be|would be)\s+(?i:the )?(?i:correct|right|answer|best)\b"


def _taken_back(after: str, label: str, texts: Mapping[str, str]) -> bool:
    """Whether what follows the label rejects it, names another as the answer, or goes on with a list of options."""
    if _REJECTED.match(_past(after, texts[label])):
        return True
    labels = _any_label(texts)
    if re.match(rf"\W*(?:\b(?:or|and)\b|[/&,])\W*(?:{labels})(?:[).:,;\s]|$)", after):
        return True
    opens = rf"(?:[.,;:!?)\n]|(?<=\s)[-\u2013\u2014])\s*{_TURN}[(\[]?({labels})(?=[)\].:,;!?]|\s*$|\s*\n|{_SETTLED})"
    listed = rf"[(\[]({labels})[)\]]|(?<!\w)({labels})[).:]"
    for pattern in (opens, listed):
        for found in re.finditer(pattern, after):
            other = next(group for group in found.groups() if group)
            rest = _past(after[found.end() :], texts[other])
            if other == label or _REJECTED.match(rest):
                continue
            if pattern is opens or rest != after[found.end() :]:
                return True
    return False


def _one_choice(part: str, texts: Mapping[str, str], *, claimed: bool) -> str | None:
    by_text: dict[str, list[str]] = {}
    for name, words in texts.items():
        if words.strip():
            by_text.setdefault(_bare(words), []).append(name)
    if (whole := _whole_label(part, texts)) is not None:
        return whole
    if len(same := by_text.get(_bare(part), [])) == 1:
        return same[0]
    label = _opening_label(part, texts, claimed=claimed)
    if label is None:
        # "B red star": a bare label before its own option's text.
        found = re.match(rf"({_any_label(texts)})\s+(.+)", part, re.DOTALL)
        named = _label(found[1], texts) if found else None
        return named if found and named and by_text.get(_bare(found[2])) == [named] else None
    said = re.sub(rf"^[(\[\"']?{re.escape(label)}[)\]\"'.:,;\s-]*", "", part, flags=re.IGNORECASE)
    others = by_text.get(_bare(said.splitlines()[0])) if said.strip() else None
    return label if others is None or label in others else None


def _opening_yes_no(part: str) -> set[str]:
    """The word that opens `part`; both where the other takes it back."""
    found = re.match(
        r"\W*(yes|no)\b(?=\s*$|\s*[^\w\s]|\s*\n|\s+(?:it|there|they|he|she|the|this|that|these|those|i|we)\b)",
        part,
        re.IGNORECASE,
    )
    if found is None:
        return set()
    reading = found[1].casefold()
    other = {"yes": "no", "no": "yes"}[reading]
    # The opposite as a sentence or clause of its own takes it back; "yes, there is no cat" does not.
    if re.search(
        rf"(?:[.!?\n,;/-]|\b(?:or|and|but|however|wait|actually))\s*{other}\b(?=\s*$|\s*[^\w\s])",
        part,
        re.IGNORECASE,
    ):
        return {reading, other}
    return {reading}
