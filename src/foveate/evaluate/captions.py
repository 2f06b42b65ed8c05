"""Caption metrics over a whole set of replies: BLEU, ROUGE-L and CIDEr, as COCO's caption evaluation computes them.

Own implementations, because the usual package (pycocoevalcap) brings 100 MB and a Java program for its tokeniser. From
the same tokens the figures are the same; tokens here are lower-case words and numbers without punctuation, which is
what that tokeniser leaves of plain sentences. Knows no task.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_TOKEN = re.compile(r"[a-z0-9]+(?:[.,'-][a-z0-9]+)*", re.IGNORECASE)
_ORDERS = (1, 2, 3, 4)
_ROUGE_BETA = 1.2  # recall counts more, as in COCO's evaluation
_CIDER_SIGMA = 6.0  # of the penalty on lengths that differ

Tokens = list[str]
Grams = Counter[tuple[str, ...]]


def tokens(text: str) -> Tokens:
    """Lower-case words and numbers."""
    return [token.lower() for token in _TOKEN.findall(text)]


def caption_metrics(replies: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4 (of the corpus), ROUGE-L and CIDEr (means), and the mean length in words.

    Args:
        replies: one for each picture; an empty one counts as such.
        references: one or more for each picture.

    Returns:
        BLEU and ROUGE-L from 0 to 1; CIDEr from 0 to 10, which papers print times 100 or, where they say CIDEr-D,
        times 10. CIDEr weighs words by how few pictures mention them, so it depends on the set, and is 0 for one.
    """
    said = [tokens(reply) for reply in replies]
    truth = [[tokens(reference) for reference in each] for each in references]
    return {
        **bleu(said, truth),
        "ROUGE-L": sum(map(rouge_l, said, truth)) / max(1, len(said)),
        "CIDEr": sum(cider(said, truth)) / max(1, len(said)),
        "words": sum(map(len, said)) / max(1, len(said)),
    }


def _grams(words: Tokens, order: int) -> Grams:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def bleu(said: Sequence[Tokens], truth: Sequence[Sequence[Tokens]]) -> dict[str, float]:
    """Papineni et al. 2002: clipped n-gram precisions of the corpus, geometric mean, brevity penalty.

    The reference length is that of the reference nearest in length, the shorter in a tie.
    """
    length = sum(map(len, said))
    wanted = sum(
        min((abs(len(r) - len(words)), len(r)) for r in refs)[1]
        for words, refs in zip(said, truth, strict=True)
    )
    penalty = 1.0 if length >= wanted or not length else math.exp(1 - wanted / length)
    scores, product = {}, 1.0
    for order in _ORDERS:
        matched = total = 0
        for words, refs in zip(said, truth, strict=True):
            most: Grams = Counter()
            for reference in refs:
                most |= _grams(reference, order)
            own = _grams(words, order)
            matched += (own & most).total()
            total += own.total()
        product *= matched / total if total else 0.0
        scores[f"BLEU-{order}"] = penalty * product ** (1 / order)
    return scores


def rouge_l(words: Tokens, references: Sequence[Tokens]) -> float:
    """Lin 2004: longest common subsequence; best precision and best recall over the references, as COCO takes them."""
    if not words:
        return 0.0
    common = [_longest_common(words, reference) for reference in references]
    precision = max(c / len(words) for c in common)
    recall = max(c / len(r) if r else 0.0 for c, r in zip(common, references, strict=True))
    if not precision or not recall:
        return 0.0
    square = _ROUGE_BETA**2
    return (1 + square) * precision * recall / (recall + square * precision)


def _longest_common(first: Tokens, second: Tokens) -> int:
    row = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for j, other in enumerate(second, start=1):
            above = row[j]
            row[j] = diagonal + 1 if word == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]


def cider(said: Sequence[Tokens], truth: Sequence[Sequence[Tokens]]) -> list[float]:
    """CIDEr-D of each reply (Vedantam et al., arXiv 1411.5726), the variant that COCO's evaluation calls CIDEr."""
    mentions: Counter[tuple[str, ...]] = Counter()
    for refs in truth:
        mentions.update(
            {gram for reference in refs for order in _ORDERS for gram in _grams(reference, order)}
        )
    pictures = math.log(max(1, len(truth)))

    def weighed(words: Tokens, order: int) -> dict[tuple[str, ...], float]:
        return {
            gram: count * (pictures - math.log(max(1, mentions[gram])))
            for gram, count in _grams(words, order).items()
        }

    scores = []
    for words, refs in zip(said, truth, strict=True):
        total = 0.0
        for order in _ORDERS:
            own = weighed(words, order)
            for reference in refs:
                # COCO's code takes the number of bigrams for the length.
                difference = max(0, len(words) - 1) - max(0, len(reference) - 1)
                penalty = math.exp(-(difference**2) / (2 * _CIDER_SIGMA**2))
                total += penalty * _clipped_cosine(own, weighed(reference, order))
        scores.append(10 * total / (len(_ORDERS) * max(1, len(refs))))
    return scores


def _clipped_cosine(own: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]) -> float:
    shared = sum(min(weight, other[gram]) * other[gram] for gram, weight in own.items() if gram in other)
    norms = math.sqrt(sum(w * w for w in own.values()) * sum(w * w for w in other.values()))
    return shared / norms if norms else 0.0
