"""The one number that a piece of text states, in digits or in English words. Knows no replies: see `parsing`."""

from __future__ import annotations

import re

_SMALL_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_ROUND_NUMBERS = "twenty thirty forty fifty sixty seventy eighty ninety"
UNITS, TENS = _SMALL_NUMBERS.split(), _ROUND_NUMBERS.split()
WORDS = {word: value for value, word in enumerate(UNITS)} | {
    word: 10 * value for value, word in enumerate(TENS, start=2)
}
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_NUMBER = re.compile(
    r"(?<![\w.])(?P<digits>[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-−]?\.\d+)(?![\w]|\.\d)"
    rf"|(?<![\w-])(?P<tens>{'|'.join(TENS)})(?:[- ](?P<unit>{'|'.join(UNITS[1:10])}))?(?!\w)"
    rf"|(?<![\w-])(?P<word>{'|'.join(UNITS)})(?![\w-])",
    re.IGNORECASE,
)
_SCALE_AFTER = re.compile(rf"\s*({'|'.join(_SCALES)})\b", re.IGNORECASE)
_NEAR = 80  # characters beside a number that may qualify it; a reply of numbers alone is read in linear time
_NOT_EXACT = re.compile(
    r"(?:\b(?:at least|at most|(?:more|fewer|less|greater|larger|bigger|smaller|higher|lower|other) than|or equal to"
    r"|up to|over|under|above|below|exceed(?:s|ing)?|(?:minimum|maximum)(?: of)?|min|max|no|not|never|cannot)|n't)"
    r"(?:\s+(?:be|have|see|just|only|exactly|really|about|approximately))*\s+$"
    # Signs, but neither arrows nor tags.
    r"|(?<![-=])(?:[<\u2264\u2265]|(?<![\w/\"'])>)=?\s*$",
    re.IGNORECASE,
)
_NOT_EXACT_AFTER = re.compile(
    r"\s*(?:\+(?!\s*[\d.])|plus\b(?!\s+\w)|max(?:imum)?\b|minimum\b)"
    r"|%?(?:\s+[^\W\d]+){0,2}?\s+(?:or (?:more|fewer|less|greater|larger|smaller|higher|lower|above|below|over|under)"
    r"|at (?:the )?(?:least|most)|and (?:up|above|over|below|under))\b(?!\s+the\b)"
    # Parts, which are other numbers: two thirds, two and a half.
    r"|\s+(?:hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?)\b"
    r"|\s+and (?:a|one|three) (?:half|third|quarters?)\b",
    re.IGNORECASE,
)
# "one" is a number at the start of a reply or after these; elsewhere it is mostly a pronoun ("the red one").
_ONE_AFTER = re.compile(r"(?:^|\b(?:is|are|only|exactly|just|see|count|total|be)|[:=])\s*$", re.IGNORECASE)


def one_number(part: str) -> float | None:
    """The number; None where there is none, or two different ones, or only a bound ("at least 3", "3+") or a part."""
    values: set[float] = set()
    for found in _NUMBER.finditer(part):
        before = part[max(0, found.start() - _NEAR) : found.start()]
        after = part[found.end() : found.end() + _NEAR]
        word = (found["word"] or "").casefold()
        if word == "one" and (not _ONE_AFTER.search(before) or re.match(r"\s+of\b", after)):
            continue
        if _NOT_EXACT.search(before):
            return None
        if found["digits"]:
            value = float(found["digits"].replace(",", "").replace("−", "-"))
        elif found["tens"]:
            value = float(WORDS[found["tens"].casefold()] + WORDS.get((found["unit"] or "").casefold(), 0))
        else:
            value = float(WORDS[word])
        if scale := _SCALE_AFTER.match(after):
            value *= _SCALES[scale[1].casefold()]
            after = after[scale.end() :]
        if _NOT_EXACT_AFTER.match(after):
            return None
        values.add(value)
    return values.pop() if len(values) == 1 else None
