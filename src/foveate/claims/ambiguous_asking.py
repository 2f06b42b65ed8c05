"""Questions of AQuA's four levels put to fovea-nano under a visual budget: what each reply does, and how sure it is.

Owns which pictures a seed has and the form of a row. Knows no margin and no claim.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.claims.base import Progress, Row
from foveate.evaluate.statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    from PIL.Image import Image

    from foveate.engine import VisualBudget
    from foveate.evaluate.ambiguity import Ambiguous
    from foveate.models.base import VisionLanguageModel

LEVELS = (0, 1, 2, 3)
# Other claims and `eval run` ask about pictures with smaller numbers.
_FIRST, _STRETCH = 80_000_000, 100_000
_LONGEST = 24  # tokens; fovea-nano's answers to these have one to three
_CACHES = 2**29  # bytes; the machine's free memory is not ours to plan with
_LETTERS = {"answer": "s", "infer": "s", "list": "l", "ask": "q", "none": "n"}
SINGLE = "s"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with its picture."""

    level: int
    made: Ambiguous
    image: Image


@functools.lru_cache(maxsize=4)
def questions(each: int, seed: int) -> tuple[Asked, ...]:
    """`each` questions of every level, level by level, each about a picture of its own; the same for every arm."""
    from PIL import Image

    from foveate.evaluate.ambiguity import ambiguous
    from foveate.world import render, sample_scene

    found: list[Asked] = []
    number = _FIRST + _STRETCH * seed
    for level in LEVELS:
        while len(found) < each * (level + 1):
            made = ambiguous(
                sample_scene("shapes", "test", number), level, random.Random(f"ambiguous {number}")
            )
            number += 1
            if made is not None:
                found.append(Asked(level=level, made=made, image=Image.fromarray(render(made.scene).rgb)))
    assert number <= _FIRST + _STRETCH * (seed + 1), "a seed has run into the pictures of the next"
    return tuple(found)


def ask_ambiguous(
    model: VisionLanguageModel,
    asked: Sequence[Asked],
    visual: VisualBudget | None,
    *,
    blind: bool = False,
    progress: Progress = lambda done: None,
) -> list[tuple[str, float]]:
    """Every reply with the probability that the model gave to it, greedily decoded, in the order of the questions."""
    from foveate.engine import Engine, EngineConfig, SamplingParameters

    engine = Engine(model, EngineConfig(max_sequences=32, memory_bytes=_CACHES))
    parameters = SamplingParameters(max_tokens=_LONGEST, top_logprobs=0)
    places: dict[str, int] = {}
    for place, one in enumerate(asked):
        content = [{"type": "text", "text": one.made.text}]
        if not blind:
            content.insert(0, {"type": "image"})
        messages = [{"role": "user", "content": content}]
        images = [] if blind else [one.image]
        places[engine.add_request(messages, parameters, images=images, visual=visual)] = place
    texts, logprobs, done = [""] * len(asked), [0.0] * len(asked), 0
    while engine.has_work:
        for output in engine.step():
            place = places[output.request_id]
            texts[place] += output.text
            logprobs[place] += sum(token.logprob for token in output.logprobs)
            done += output.finished
        progress(done)
    return [(text, math.exp(logprob)) for text, logprob in zip(texts, logprobs, strict=True)]


def row_of(arm: str, seed: int, asked: Sequence[Asked], replies: Sequence[tuple[str, float]]) -> Row:
    """One arm and seed: shares by level for people, and for pairing what each reply does, fits and is given.

    `right_0`, `right_1`: the named or salient object's attribute; `single_2`, `single_3`: one answer where
    several or a question were due; `unfit_2`, `unfit_3`: one answer that is no candidate's; `sure_N`: probability of
    the reply. `does` has a letter a question (s: one answer, l: list, q: question, n: none), `fits` 1 where every
    value given is a candidate's.
    """
    from foveate.evaluate.strategy import judge_strategy
    from foveate.world.asking import VALUES

    judged = [
        judge_strategy(one.made.text, text, VALUES[one.made.key])
        for one, (text, _) in zip(asked, replies, strict=True)
    ]
    does = "".join(_LETTERS[each.strategy] for each in judged)
    fits = [
        bool(each.given) and set(each.given) <= set(one.made.answers.values())
        for one, each in zip(asked, judged, strict=True)
    ]
    row: Row = {"arm": arm, "seed": seed}
    for level in LEVELS:
        mine = [place for place, one in enumerate(asked) if one.level == level]
        single = [does[place] == SINGLE for place in mine]
        if level < 2:
            row[f"right_{level}"] = _mean([s and fits[place] for s, place in zip(single, mine, strict=True)])
        else:
            row[f"single_{level}"] = _mean(single)
            row[f"unfit_{level}"] = _mean(
                [s and not fits[place] for s, place in zip(single, mine, strict=True)]
            )
        row[f"sure_{level}"] = _mean([replies[place][1] for place in mine])
    return row | {
        "questions": len(asked),
        "levels": "".join(str(one.level) for one in asked),
        "does": does,
        "fits": "".join(str(int(fit)) for fit in fits),
        "sure": [round(sure, 6) for _, sure in replies],
    }


def confident_errors(rows: Sequence[Row], arm: str, level: int) -> Interval:
    """Of the replies of one level (2 or 3) whose strategy is wrong, the share that gives one answer."""
    due = {2: "l", 3: "q"}[level]
    flags = [
        float(does == SINGLE)
        for row in _of_arm(rows, arm)
        for own, does in zip(row["levels"], row["does"], strict=True)
        if int(own) == level and does != due
    ]
    assert flags, f"{arm} made no error at level {level}: there is nothing to judge"
    return bootstrap_mean(flags)


def difference(rows: Sequence[Row], first: str, second: str) -> Interval:
    """Probability of the reply at levels 2 and 3: the first arm minus the second, question by question."""
    one, other = (_sureness(rows, arm) for arm in (first, second))
    return bootstrap_mean([a - b for a, b in zip(one, other, strict=True)])


def _sureness(rows: Sequence[Row], arm: str) -> list[float]:
    return [
        sure
        for row in _of_arm(rows, arm)
        for level, sure in zip(row["levels"], row["sure"], strict=True)
        if int(level) >= 2
    ]


def _of_arm(rows: Sequence[Row], arm: str) -> list[Row]:
    return sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
