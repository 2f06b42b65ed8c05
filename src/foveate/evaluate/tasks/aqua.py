"""Ambiguous questions at four levels: answer, infer what is meant, list the possibilities, or ask back (AQuA)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.ambiguity import LEVELS, Ambiguous, ambiguous
from foveate.evaluate.contract import (
    BrokenItem,
    EvaluationError,
    Item,
    Message,
    Reply,
    Score,
    Scored,
    TaskCard,
    user,
)
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.parsing import is_refusal
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.evaluate.strategy import STRATEGIES, Judgement, judge_strategy
from foveate.world.asking import VALUES

# What is left of the reward when the strategy is right and the facts are not (the paper's lambda is 0.3).
_STRATEGY_ALONE = 0.7
# Whether a bare "red" inferred what "this object" is cannot be seen from the reply: at levels 0 and 1 either is right.
_RIGHT = (("answer", "infer"), ("answer", "infer"), ("list",), ("ask",))


class Aqua:
    """AQuA: the strategy of a reply and its facts, scored apart.

    A reply that asks back gets a second turn: the user says which object is meant, and the facts are those of the
    second reply. `Score.value` is AQuA's reward: 1 for strategy and facts, 0.7 for the strategy alone.

    Args:
        data: `test.jsonl` or another split of the data set jihyoung/AQuA, exported by `examples/export_dataset.py`
            (columns filename, level, question, answer), with COCO's train2017 pictures beside it or in `image`. Its
            answers are free text: strategies are scored, facts are not.
        count: questions of the embedded form, a quarter of them of each level.
        difficulty: of the world's scenes, 2 or 3; simpler ones have too few objects for level 3.
    """

    card: ClassVar = TaskCard(
        title="ambiguous questions",
        paper="AQuA, arXiv 2603.07394",
        licence="CC-BY-4.0",
        source="hf jihyoung/AQuA, one split by examples/export_dataset.py; COCO train2017",
        metric="reward",
        max_tokens=96,
    )

    def __init__(self, *, data: str | None = None, count: int = 200, difficulty: int = 2) -> None:
        if difficulty not in (2, 3):
            raise EvaluationError(f"AQuA has no difficulty {difficulty}", fix="Choose 2 or 3.")
        self.data, self.count, self.difficulty = data, count, difficulty

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return (item for level in LEVELS for item in self._of_level(level))
        path = data_file(self.data, ("test.jsonl", "*.jsonl"))
        return items_from(path, partial(_published, path.parent))

    def score(self, item: Item, reply: Reply) -> Score:
        first = reply.earlier[0] if reply.earlier else reply
        judged, level = _judged(item, first), int(item.target["level"])
        if judged.strategy == "none":
            return Score.refused() if is_refusal(first.text) else Score.unparsed()
        right = judged.strategy in _RIGHT[level]
        facts = _facts(
            item, judged if not reply.earlier else _judged(item, reply), clarified=bool(reply.earlier)
        )
        if judged.strategy == "ask" and not reply.earlier:
            facts = None  # nothing was claimed yet
        correct = right and facts is not False
        return Score(
            outcome="correct" if correct else "wrong",
            value=1.0 if correct else _STRATEGY_ALONE * right,
            parsed=judged.strategy,
            details={
                "level": level,
                "strategy_right": right,
                "facts_right": facts,
                "given": list(judged.given),
            },
        )

    def next_turn(self, item: Item, replies: Sequence[Reply]) -> Message | None:
        """After a question back, what is meant, exactly; in the public data nobody knows."""
        intended = item.target.get("intended")
        if len(replies) > 1 or intended is None or _judged(item, replies[0]).strategy != "ask":
            return None
        return user(f"I mean the {intended}. What {item.target['key']} is the {intended}?")

    def perfect_reply(self, item: Item, replies: Sequence[Reply] = ()) -> str:
        answers, intended = item.target["answers"], item.target["intended"]
        if replies or item.target["level"] < 2:
            return f"The {intended} is {answers[intended]}."
        if item.target["level"] == 2:
            return "; ".join(f"the {name} is {answer}" for name, answer in answers.items())
        return "Which one do you mean?"

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """Balanced accuracy of four strategies and of three (an answer with a name or without), the whole confusion,
        overconfidence (one answer where several or a question were due), over-asking, and facts where told."""
        rows = [(int(each.item.target["level"]), each.score) for each in scored]
        by_level = {level: [s for own, s in rows if own == level] for level in LEVELS}
        present = [level for level in LEVELS if by_level[level]]
        said = {
            level: [s.parsed if s.parsed in STRATEGIES else "none" for s in by_level[level]]
            for level in present
        }
        measures = {
            f"confusion_{level}_{name}": _share([s == name for s in said[level]])
            for level in present
            for name in (*STRATEGIES, "none")
        }
        four = [_share([s == STRATEGIES[level] for s in said[level]]) for level in present]
        three = [_share([s in _RIGHT[level] for s in said[level]]) for level in present]
        told = [s.details["facts_right"] for _, s in rows if s.details.get("facts_right") is not None]
        single = [s in _RIGHT[0] for level in (2, 3) for s in said.get(level, ())]
        asked = [s == "ask" for level in (0, 1) for s in said.get(level, ())]
        return measures | {
            "balanced_accuracy": sum(four) / len(four) if four else 0.0,
            "balanced_accuracy_of_three": sum(three) / len(three) if three else 0.0,
            "overconfident": _share(single),
            "asked_needlessly": _share(asked),
            "facts": _share(told),
        }

    def _of_level(self, level: int) -> Iterator[Item]:
        share = self.count // len(LEVELS) + (level < self.count % len(LEVELS))
        for index, scene in test_scenes("shapes", 40 + level, difficulty=self.difficulty):
            if share == 0:
                return
            made = ambiguous(scene, level, random.Random(f"aqua {level} {index}"))
            if made is not None:
                share -= 1
                yield _item(made, level, index)


def _item(made: Ambiguous, level: int, index: int) -> Item:
    return Item(
        id=f"level-{level}-{index}",
        messages=(user(scene_picture(made.scene, f"shapes {index}, level {level}"), made.text),),
        target={"level": level, "key": made.key, "answers": made.answers, "intended": made.intended},
        cluster=str(index),
        tags=(f"level-{level}", made.key),
    )


def _published(folder: Path, place: str, row: Row) -> Item:
    level = int(column(row, "level"))
    if level not in LEVELS:
        raise ValueError(f"there is no level {level}")
    picture = picture_from(column(row, "image", "filename"), folder)
    return Item(
        id=place,
        messages=(user(picture, str(column(row, "question"))),),
        target={"level": level, "reference": str(row.get("answer") or "")},
        cluster=str(row.get("filename") or picture.name),
        tags=(f"level-{level}",),
    )


def _judged(item: Item, reply: Reply) -> Judgement:
    question = item.messages[-1]["content"][-1]["text"]
    key = item.target.get("key")
    return judge_strategy(question, reply.text, VALUES[key] if key else None)


def _facts(item: Item, judged: Judgement, *, clarified: bool) -> bool | None:
    """Whether exactly the right values were given; None where nobody knows them."""
    answers: dict[str, Any] | None = item.target.get("answers")
    if answers is None:
        return None
    wanted = {answers[item.target["intended"]]} if clarified else set(answers.values())
    if not clarified and judged.strategy in _RIGHT[0]:
        return set(judged.given) <= wanted  # one answer: of any candidate
    return set(judged.given) == wanted


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
