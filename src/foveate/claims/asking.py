"""Questions about the world put to fovea-nano through the engine, under a visual budget; and rows that can be paired.

Owns which pictures a seed has, the two-pass conversation, and the form of a row of right and wrong. Every question
of an arm is waiting when the engine begins, so an arm is one batch. Knows no margin and no claim.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from foveate.claims.base import Progress, Row
from foveate.evaluate.statistics import Interval, bootstrap_mean, bootstrap_ratio

if TYPE_CHECKING:
    from PIL.Image import Image

    from foveate.engine import Engine, VisualBudget
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.base import Reducer
    from foveate.world import Question

# Test pictures of `eval-nano` and `bench` have smaller numbers, so none of theirs comes back here.
_FIRST, _STRETCH = 50_000_000, 100_000
_LONGEST = 32  # tokens of an answer; none of the families asked here needs more than a word or a line
_CACHES = 2**29  # bytes; the machine's free memory is not ours to plan with


@dataclass(frozen=True, kw_only=True)
class Dialogue:
    """A picture and what is asked about it in turn.

    Attributes:
        number: of the picture in the test split; dialogues of one picture are not independent.
        family: of the first question.
    """

    number: int
    family: str
    image: Image
    turns: tuple[Question, ...]


@dataclass(frozen=True, kw_only=True)
class Replies:
    """What came back, in the order of the dialogues.

    Attributes:
        right: of each turn a row with one entry a dialogue that has the turn.
        kept, total: visual tokens of a picture, mean over the dialogues.
        blocks: most blocks of the cache that were in use at once.
    """

    right: tuple[tuple[bool, ...], ...]
    kept: float
    total: float
    blocks: int


@functools.lru_cache(maxsize=8)
def dialogues(
    domain: str,
    families: tuple[str, ...],
    *,
    pictures: int,
    each: int,
    seed: int,
    difficulty: int = 2,
    size: int = 168,
) -> tuple[Dialogue, ...]:
    """Held-out pictures with up to `each` questions of every family, each a dialogue of its own.

    The same for every arm; pictures of two seeds or two domains are never the same. Pictures that cannot be asked
    every family are passed over. `size` is their height in pixels.
    """
    from PIL import Image

    from foveate.world import make_example

    found: list[Dialogue] = []
    made, number = 0, _FIRST + _STRETCH * seed
    while made < pictures:
        example = make_example(
            domain,
            "test",
            number,
            size=size,
            questions=each * len(families),
            difficulty=difficulty,
            families=families,
        )
        number += 1
        if {turns[0].family for turns in example.dialogues} != set(families):
            continue
        made += 1
        image = Image.fromarray(example.rendering.rgb)
        found += [
            Dialogue(number=example.index, family=turns[0].family, image=image, turns=turns[:1])
            for turns in example.dialogues
        ]
    assert number <= _FIRST + _STRETCH * (seed + 1), "a seed has run into the pictures of the next"
    # One family after the other: rows of outcomes then name each once.
    return tuple(sorted(found, key=lambda dialogue: families.index(dialogue.family)))


def ask_all(
    model: VisionLanguageModel,
    asked: Sequence[Dialogue],
    visual: VisualBudget | None,
    *,
    blind: bool = False,
    progress: Progress = lambda done: None,
) -> Replies:
    """Asks every first question, then every second one behind the model's own first answer, greedily.

    Args:
        visual: the budget; None for all tokens.
        blind: leave the picture out.
        progress: told how many answers there are.
    """
    from foveate.engine import Engine, EngineConfig
    from foveate.evaluate.nano import outcome

    engine = Engine(model, EngineConfig(max_sequences=32, memory_bytes=_CACHES))
    history: list[list[dict[str, Any]]] = [[] for _ in asked]
    right: list[tuple[bool, ...]] = []
    kept = total = answers = 0
    for turn in range(max(len(dialogue.turns) for dialogue in asked)):
        requests: dict[str, int] = {}
        for place, dialogue in enumerate(asked):
            if len(dialogue.turns) > turn:
                content: list[dict[str, str]] = [{"type": "text", "text": dialogue.turns[turn].text}]
                if turn == 0 and not blind:
                    content.insert(0, {"type": "image"})
                history[place].append({"role": "user", "content": content})
                images = [] if blind else [dialogue.image]
                requests[_request(engine, history[place], images, visual)] = place
        texts = {}
        for name, text in _run(engine, answers, progress).items():
            texts[requests[name]] = text
            statistics = engine.request_statistics(name)
            if turn == 0 and statistics is not None:
                kept, total = kept + statistics.image_tokens_kept, total + statistics.image_tokens
        answers += len(texts)
        right.append(tuple(outcome(asked[p].turns[turn], texts[p]) == "right" for p in sorted(texts)))
        for place, text in texts.items():
            history[place].append({"role": "assistant", "content": [{"type": "text", "text": text}]})
    blocks = engine.statistics().most_blocks_in_use
    return Replies(right=tuple(right), kept=kept / len(asked), total=total / len(asked), blocks=blocks)


def ask_by_reference(
    model: VisionLanguageModel,
    asked: Sequence[Dialogue],
    reducer: Reducer,
    budget: str,
    progress: Progress = lambda done: None,
) -> Replies:
    """First questions one by one, for methods that drop tokens between layers: the engine has none of those."""
    from foveate.evaluate.nano import outcome
    from foveate.models.generation import SamplingOptions
    from foveate.reduce import generate_reduced, reduce_prompt

    right, kept, total = [], 0, 0
    for done, dialogue in enumerate(asked, start=1):
        question = dialogue.turns[0]
        content = [{"type": "image"}, {"type": "text", "text": question.text}]
        prompt = model.prepare([{"role": "user", "content": content}], images=[dialogue.image])
        reduced = reduce_prompt(model, prompt, None, reducer, budget, question=question.text)
        tokens = generate_reduced(model, reduced, SamplingOptions(max_new_tokens=_LONGEST))
        text = "".join(token.text for token in tokens)
        right.append(outcome(question, text) == "right")
        kept, total = kept + reduced.keep_maps[0].count, total + reduced.keep_maps[0].total
        progress(done)
    return Replies(right=(tuple(right),), kept=kept / len(asked), total=total / len(asked), blocks=0)


def _request(
    engine: Engine, messages: list[dict[str, Any]], images: list[Image], visual: VisualBudget | None
) -> str:
    from foveate.engine import SamplingParameters

    return engine.add_request(messages, SamplingParameters(max_tokens=_LONGEST), images=images, visual=visual)


def _run(engine: Engine, before: int, progress: Progress) -> dict[str, str]:
    """Text of every waiting request by name, to the end."""
    texts: dict[str, str] = {}
    done = before
    while engine.has_work:
        for output in engine.step():
            texts[output.request_id] = texts.get(output.request_id, "") + output.text
            done += output.finished
        progress(done)
    return texts


# -- rows -------------------------------------------------------------------------------------------------


def row_of(arm: str, seed: int, asked: Sequence[Dialogue], replies: Replies, *, turn: int = 0) -> Row:
    """One arm and seed: accuracy of every family for people, and each question's outcome for pairing."""
    mine = [dialogue for dialogue in asked if len(dialogue.turns) > turn]
    right = replies.right[turn]
    shares = {}
    for family in dict.fromkeys(dialogue.family for dialogue in mine):
        own = [r for r, dialogue in zip(right, mine, strict=True) if dialogue.family == family]
        shares[family] = sum(own) / len(own)
    return {
        "arm": arm,
        "seed": seed,
        "kept": replies.kept,
        "of": replies.total,
        **shares,
        "accuracy": sum(right) / len(right),
        "questions": len(right),
        "families": _runs([dialogue.family for dialogue in mine]),
        "pictures": _runs([str(dialogue.number % _STRETCH) for dialogue in mine]),
        "right": "".join(str(int(one)) for one in right),
    }


def _runs(values: Sequence[str]) -> str:
    """ "count count reading" as "count*2 reading*1": a row stays short."""
    return " ".join(f"{value}*{len(list(group))}" for value, group in itertools.groupby(values))


def _values(runs: str) -> list[str]:
    """The inverse of `_runs`."""
    parts = (run.rsplit("*", 1) for run in runs.split())
    return [value for value, times in parts for _ in range(int(times))]


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Outcomes of one arm over all seeds [N], and the picture that each belongs to."""

    right: list[int]
    pictures: list[tuple[int, str]]


def pooled(rows: Sequence[Row], arm: str, families: Sequence[str] | None = None) -> Pooled:
    """All questions of an arm, seed by seed, of some families or of all; the same order for every arm."""
    right, pictures = [], []
    for row in sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"]):
        families_of, pictures_of = _values(row["families"]), _values(row["pictures"])
        for one, family, picture in zip(row["right"], families_of, pictures_of, strict=True):
            if families is None or family in families:
                right.append(int(one))
                pictures.append((row["seed"], picture))
    return Pooled(right=right, pictures=pictures)


def pair(
    rows: Sequence[Row], first: str, second: str, families: Sequence[str] | None = None
) -> tuple[list[int], list[int], list[tuple[int, str]]]:
    """Outcomes of two arms on the same questions, and the picture of each."""
    one, other = pooled(rows, first, families), pooled(rows, second, families)
    assert one.pictures == other.pictures, f"{first} and {second} were not asked the same"
    return one.right, other.right, one.pictures


def difference(
    rows: Sequence[Row], first: str, second: str, families: Sequence[str] | None = None
) -> Interval:
    """Accuracy of the first arm minus that of the second, all seeds together, pictures resampled."""
    one, other, pictures = pair(rows, first, second, families)
    return bootstrap_mean([a - b for a, b in zip(one, other, strict=True)], pictures)


def ratio(rows: Sequence[Row], first: str, second: str, families: Sequence[str] | None = None) -> Interval:
    """Accuracy of the first arm over that of the second, likewise."""
    return bootstrap_ratio(*pair(rows, first, second, families))
