"""What a reply says about itself: its text without reasoning, what it claims as its answer, and whether it refuses.

Knows no answers: `parsing` reads those. Pure functions of the reply.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

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
_SENTENCE = re.compile(
    r"(?:^|[.!?\n]\s*)(?:(?:so|thus|therefore|hence),? )?(?:(?:the|my) )?(?:correct )?"
    r"answer\s*(?:(?:is|would be|must be)\b:?|:)\s*",
    re.IGNORECASE,
)
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


_REQUEST = re.compile(r"\W*(?:please|let me know|feel free|if you|(?:could|can) you)\b", re.IGNORECASE)


def declines(text: str) -> bool:
    """Whether a long reply is a refusal and no more: no sentence is left without those that refuse or request.

    "A harbour with six ships. The time of day cannot be determined." describes a picture.
    """
    sentences = re.split(r"(?<=[.!?])\s+|\n+", answer_text(text))
    said = [each for each in sentences if re.search(r"\w", each) and not _REQUEST.match(each)]
    kept = [each for each in said if not is_refusal(each)]
    return is_refusal(text) and not kept


_NOTHING = re.compile(r"(?:none|nothing|\[\s*\])\.?", re.IGNORECASE)
_NONE_OF = re.compile(
    r"(?:no, )?there (?:is|are) no (.{1,300}?)"
    r"(?: (?:visible|present|shown|here))?(?: (?:in|on) (?:the|this) (?:image|picture|photo|scene))?\.?",
    re.IGNORECASE,
)


def says_nothing(text: str, asked: Sequence[str] = ()) -> bool:
    """Whether the whole reply is "none", "[]" or "there is no X", where X is what was asked for, all of it.

    "There is no image provided" and "there are no clear boundaries" tell nothing about a car.

    Args:
        asked: names of what was asked for, in the singular.
    """
    plain = answer_text(text)
    if _NOTHING.fullmatch(plain):
        return True
    found = _NONE_OF.fullmatch(plain)
    if found is None or is_refusal(plain):
        return False
    said = found[1].casefold()
    forms = [_forms(name.casefold()) for name in asked]
    known = set[str]().union(*forms)
    # A name may have an "and" of its own.
    absent = {said} if said in known else set(re.split(r"\s*(?:,|\bor\b|\band\b)\s*", said)) - {""}
    if said in ("object", "objects", "such object", "such objects"):
        return bool(asked)
    return bool(forms) and all(absent & each for each in forms) and absent <= known


def _forms(name: str) -> set[str]:
    """The name and its plurals as English makes them, the wrong ones among them: nobody writes those."""
    plurals = {name + "s", name + "es", re.sub("y$", "ies", name), re.sub("person$", "people", name)}
    return {name, *plurals, re.sub("man$", "men", name), re.sub("child$", "children", name)}


# -- claims


def _after(marker: re.Pattern[str], plain: str) -> list[str]:
    """What follows each occurrence of the marker, up to the next one or the end of the line."""
    found = list(marker.finditer(plain))
    ends = [each.start() for each in found[1:]] + [len(plain)] * bool(found)
    parts = (plain[each.end() : end].split("\n")[0] for each, end in zip(found, ends, strict=True))
    return [part for part in parts if re.search(r"\w", part)]


def finals(plain: str) -> list[str]:
    """What is told to be the final answer, or is enclosed or marked as answers are."""
    return [found for pattern in _ENCLOSED for found in pattern.findall(plain)] + _after(_FINAL, plain)


def sentence_claims(plain: str) -> list[str]:
    """Claims that are sentences of their own ("The answer is X."); "question and answer form" has none."""
    return _after(_SENTENCE, plain)


def claims_in(plain: str) -> list[str]:
    """What is claimed as the answer, strongest kind only; empty where nothing is."""
    return finals(plain) or _after(_CLAIM, plain)
