"""Reads an answer out of a reply, and never guesses: what is absent or contradictory is None, not a coin flip.

Two public kits differ by 4 points on one model and one benchmark, traced to answer parsing, and both draw a random
option where they can read none (lmms-eval, docs/advanced/mmmu-eval-discrepancy.md). The readers here are pure
functions of the reply and of the allowed answers; none sees the target. Knows no task and no model.

What all readers share: reasoning in `<think>...</think>` is not the answer; "final answer: X", `\\boxed{X}`,
`<answer>X</answer>` and "#### X" outrank "the answer is X", which outranks the rest; two that disagree give None.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from foveate.evaluate.contract import Score
from foveate.evaluate.numerals import one_number

T = TypeVar("T")

_ENCLOSED = (
    re.compile(r"\\boxed\s*\{([^{}]*)\}"),
    re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL),
    re.compile(r"^\s*####\s*(.+)$", re.MULTILINE),
)
_FINAL = re.compile(r"\bfinal answer\b(?:\s+is)?\s*[:=]?\s*", re.IGNORECASE)
_CLAIM = re.compile(
    r"\b(?:answer|correct (?:option|choice)|right (?:option|choice))\b(?:\s+(?:is|would be|must be))?\s*[:=]?\s*",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^(?:(?:(?:it|this|that|there)(?: is|'s| are)|they are|i see|the|an?)\s+)+", re.IGNORECASE
)
_NEGATION = re.compile(
    r"\b(?:no|not|none|neither|nor|never|without|cannot|unable|unsure|unclear|isn|aren|wasn|doesn|don|can|won)(?:'t)?\b",
    re.IGNORECASE,
)
_CAN = re.compile(r"\bcan\b(?!')", re.IGNORECASE)
_HEDGE = re.compile(r"\b(?:or|either|maybe|perhaps|possibly)\b", re.IGNORECASE)
_UNABLE = r"\b(?:can't|cannot|can not|could not|couldn't|unable to|not able to|won't|not allowed to)\s+(?:\w+\s+){0,2}?"
_REFUSALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_UNABLE}(?:access|tell|say|determine|answer|help|assist|process|identify|provide|analy[sz]e|read"
        r"|make out|be sure|discuss|comply|do that|know|be determined|be answered)\b",
        # "I cannot see any dogs" may well be meant as an answer.
        rf"{_UNABLE}(?:see|view|look at|open)\s+(?:\w+\s+){{0,2}}?(?:image|picture|photo|video|it|them|that)s?\b",
        r"\bi (?:do not|don't|really don't) (?:know|see (?:an|any) (?:image|picture))\b",
        r"\bas an ai\b",
        r"\bno (?:image|picture|video) (?:was |is |has been )?(?:provided|attached|given|shown|uploaded)\b",
        r"\b(?:it is |it's )?(?:not possible|impossible) to (?:tell|say|determine|know|answer)\b",
        r"\bi(?:'m| am) (?:sorry|not sure|unsure|not certain)\b",
        r"\bi (?:must|have to) (?:decline|refuse)\b",
    )
)


def answer_text(text: str) -> str:
    """The reply without reasoning, mark-up and typographic variants. Empty where reasoning was never closed."""
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2018", "'")
    if "</think>" in text:
        text = text.rsplit("</think>", 1)[1]
    elif "<think>" in text:
        return ""
    text = re.sub(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    return re.sub(r"\*+|`+|\$", "", text).strip()


def is_refusal(text: str) -> bool:
    """Whether the reply says that it will not or cannot answer ("I cannot see the image", "I don't know")."""
    plain = answer_text(text)
    return any(pattern.search(plain) for pattern in _REFUSALS)


def read_choice(text: str, options: Mapping[str, str] | Sequence[str]) -> str | None:
    """The label of the option that the reply chooses.

    Read are: a label alone ("B", "(b)", "B."), one that opens the reply ("B. a star", "B) because ..."), one in an
    answer's claim ("the answer is B"), one alone on the last line, and an option's exact text. A label in running text
    is not read ("A star is near I"). A label with another option's text, two labels, or "A or B" give None.

    Args:
        options: texts by label, or labels alone.
    """
    texts = dict(options) if isinstance(options, Mapping) else dict.fromkeys(options, "")
    plain = answer_text(text)
    claims = _claims(plain)
    opening = _opening_label(plain, texts, claimed=False)
    if claims:
        readings = {reading for claim in claims if (reading := _one_choice(claim, texts, claimed=True))}
        if opening is not None and not _has_final(plain):
            readings.add(opening)
        return readings.pop() if len(readings) == 1 else None
    found = _one_choice(plain, texts, claimed=False)
    lines = [line for line in plain.splitlines() if line.strip()]
    if len(lines) > 1:
        last = _whole_label(lines[-1], texts)
        if found is None or (last is not None and last != found):
            return last if found is None else None
    return found


def read_yes_no(text: str) -> str | None:
    """ "yes" or "no" where the reply opens with one, or claims it as its answer.

    "There is no cat" is not read: what it answers depends on the question. "Yes. No." gives None.
    """
    plain = answer_text(text)
    claims = _claims(plain)
    readings = {r for each in (claims or [plain]) if (r := _opening_yes_no(each))}
    if claims and not _has_final(plain) and (opening := _opening_yes_no(plain)):
        readings.add(opening)
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
    """A free answer: what is claimed as the answer, else the whole reply; None where it is empty or refuses."""
    plain = answer_text(text)
    claims = {claim.strip(" \t\n.,;:\"'") for claim in _finals(plain)}
    if len(claims) > 1 or is_refusal(plain):
        return None
    return (claims.pop() if claims else plain.strip()) or None


def read_answer(text: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that the reply gives, read by their kind: yes or no, numbers, words; free without any."""
    if not choices:
        return read_short(text)
    if set(choices) == {"yes", "no"}:
        return read_yes_no(text)
    if all(choice.isdigit() for choice in choices):
        number = read_number(text)
        return None if number is None else f"{number:g}"
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


def _after(marker: re.Pattern[str], plain: str) -> list[str]:
    """What follows each occurrence of the marker, up to the next one or the end of the line."""
    found = list(marker.finditer(plain))
    ends = [each.start() for each in found[1:]] + [len(plain)] * bool(found)
    parts = (plain[each.end() : end].split("\n")[0] for each, end in zip(found, ends, strict=True))
    return [part for part in parts if re.search(r"\w", part)]


def _finals(plain: str) -> list[str]:
    return [found for pattern in _ENCLOSED for found in pattern.findall(plain)] + _after(_FINAL, plain)


def _has_final(plain: str) -> bool:
    return bool(_finals(plain))


def _claims(plain: str) -> list[str]:
    """What is claimed as the answer, strongest kind only; empty where nothing is."""
    return _finals(plain) or _after(_CLAIM, plain)


def _agreed(text: str, read: Callable[[str], T | None]) -> T | None:
    plain = answer_text(text)
    claims = _claims(plain)
    if not claims and is_refusal(plain):
        return None
    readings = {reading for part in (claims or [plain]) if (reading := read(part)) is not None}
    if not readings and claims and not _has_final(plain):
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
    """The label that opens `part`; in a claim a bare one will do, elsewhere it needs a bracket or punctuation."""
    part = re.sub(r"^\s*(?:option|choice)\s+", "", part, flags=re.IGNORECASE).strip()
    labels = _any_label(texts)
    found = re.match(rf"[(\[\"']({labels})[)\]\"']|({labels})(?=[).:,;]|\s*$|\s*\n)", part)
    if found is None and claimed:
        found = re.match(rf"({labels})(\b)(?!')", part)
    if found is None:
        return None
    after = part[found.end() :]
    if re.match(rf"\W*(?:\b(?:or|and)\b|/|&|,)?\W*\(?(?:{labels})(?:[).:,;\s]|$)", after) and re.match(
        r"\W*(?:\b(?:or|and)\b|[/&,])", after
    ):
        return None
    return _label(found[1] or found[2] or found[0], texts)


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


def _opening_yes_no(part: str) -> str | None:
    found = re.match(
        r"\W*(yes|no)\b(?=\s*$|\s*[^\w\s]|\s*\n|\s+(?:it|there|they|he|she|the|this|that|these|those|i|we)\b)",
        part,
        re.IGNORECASE,
    )
    if found is None:
        return None
    reading = found[1].casefold()
    other = {"yes": "no", "no": "yes"}[reading]
    # The opposite as a sentence or clause of its own takes it back; "yes, there is no cat" does not.
    if re.search(
        rf"(?:[.!?\n,;/-]|\b(?:or|and|wait|actually))\s*{other}\b(?=\s*$|\s*[^\w\s])", part, re.IGNORECASE
    ):
        return None
    return reading
