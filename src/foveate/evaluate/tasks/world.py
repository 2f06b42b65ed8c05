"""The world's own questions: every family, exact truth, no download.

Each picture carries one question, so items are independent. Answers are right as `evaluate.nano` has them; a wordier
reply ("There are 3 stars.") is read by the rules that all tasks share, so that other models can be asked as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, ClassVar

from foveate.errors import nearest
from foveate.evaluate import parsing
from foveate.evaluate.boxes import read_boxes, write_boxes
from foveate.evaluate.contract import AnswerForm, EvaluationError, Item, Reply, Score, TaskCard, user
from foveate.evaluate.embedded import FIRST, scene_picture
from foveate.evaluate.nano import outcome
from foveate.evaluate.overlap import intersection_over_union
from foveate.world import FAMILIES, Question, Scene, sample_scene
from foveate.world.questions import ask

_STRETCH = 4_000  # pictures for each family, from the first of the test split's that tasks have
_SAME_PLACE = 0.5  # intersection over union from which a box is right


class World:
    """Questions about the world's pictures.

    Args:
        families: kinds of questions, comma separated; all by default.
        count: questions, spread over the families.
        difficulty: of the pictures, 1 to 3.
        size: their height in pixels.

    Raises:
        EvaluationError: no such family, or more questions than its stretch holds.
    """

    card: ClassVar[TaskCard] = TaskCard(
        title="Questions about procedural scenes",
        paper="this project, docs/world.md",
        licence="made here",
        source="none: pictures are drawn as they are needed",
        max_tokens=160,  # a listing of nine objects
    )

    def __init__(self, *, families: str = "", count: int = 240, difficulty: int = 2, size: int = 168) -> None:
        self.families = [name.strip() for name in families.split(",") if name.strip()] or list(FAMILIES)
        for name in self.families:
            if name not in FAMILIES:
                raise EvaluationError(f"The world has no family {name!r}", fix=nearest(name, FAMILIES))
        self.count, self.difficulty, self.size = count, difficulty, size

    def items(self) -> Iterator[Item]:
        """Family by family; the picture is drawn when it is opened."""
        for number, family in enumerate(self.families):
            share = self.count // len(self.families) + (number < self.count % len(self.families))
            yield from self._of_family(family, share)

    def _of_family(self, family: str, count: int) -> Iterator[Item]:
        domains = ("shapes", "page") if family in ("reading", "caption") else (FAMILIES[family][0],)
        first = FIRST + _STRETCH * list(FAMILIES).index(family)
        made = 0
        for number in range(_STRETCH):
            if made == count:
                return
            domain, index = domains[number % len(domains)], first + number
            scene = sample_scene(domain, "test", index, difficulty=self.difficulty)
            question = ask(scene, family, random.Random(f"world task {family} {index}"), attempts=3)
            if question is None:
                continue
            made += 1
            yield self._item(scene, question, f"{family}-{self.difficulty}-{index}")
        if made < count:
            raise EvaluationError(
                f"{made} of {count} questions of the family {family!r} could be made",
                why=f"it has {_STRETCH} pictures, and those of difficulty {self.difficulty} do not all allow one",
                fix="Ask for fewer.",
            )

    def _item(self, scene: Scene, question: Question, name: str) -> Item:
        picture = scene_picture(scene, f"world {name}, {self.size} pixels", size=self.size)
        return Item(
            id=name,
            messages=(user(picture, question.text),),
            target={
                "family": question.family,
                "text": question.text,
                "answer": question.answer,
                "choices": list(question.choices),
            },
            cluster=name,
            tags=(question.family, *question.tags),
            form=_form(question),
        )

    def score(self, item: Item, reply: Reply) -> Score:
        """Right, wrong, refused or unparsed. Boxes are right from an intersection over union of 0.5."""
        question = _question(item)
        text = reply.text.strip()
        if question.family == "grounding":
            return _grounded(question, reply)
        if outcome(question, text) == "right":
            return Score.correct_if(True, text)
        if question.choices:
            # A number that is no option was read all the same: it is wrong, not unreadable.
            return parsing.verdict(
                text, parsing.read_answer(text, question.choices), lambda found: found == question.answer
            )
        answer = None if parsing.is_refusal(text) else parsing.answer_text(text) or None
        return parsing.verdict(text, answer, lambda found: outcome(question, found) == "right")

    def perfect_reply(self, item: Item) -> str:
        """The answer itself; a box in thousandths, as `Reply` has them by default."""
        question = _question(item)
        if question.family != "grounding":
            return question.answer
        return write_boxes([("", _box(question))], Reply(text="").box_format, size=(1, 1))


def _form(question: Question) -> AnswerForm:
    if question.family == "grounding":
        return "boxes"
    if question.choices and all(choice.isdigit() for choice in question.choices):
        return "number"
    return "word" if question.choices else "free"


def _question(item: Item) -> Question:
    facts: dict[str, Any] = item.target
    return Question(**{**facts, "choices": tuple(facts["choices"])})


def _box(question: Question) -> tuple[float, float, float, float]:
    """The answer's box, as parts of the picture."""
    left, top, right, bottom = (int(edge) / 100 for edge in question.answer.strip("[]").split(","))
    return left, top, right, bottom


def _grounded(question: Question, reply: Reply) -> Score:
    shown = reply.pictures[-1] if reply.pictures else {"width": 1, "height": 1}
    reading = read_boxes(reply.text, reply.box_format, size=(shown["width"], shown["height"]))
    # One object is asked for: no box, or several, is no answer.
    found = reading.shapes[0] if len(reading.shapes) == 1 else None
    overlap = 0.0 if found is None else intersection_over_union(found, _box(question))
    details: dict[str, Any] = {"overlap": round(overlap, 4), "broken": list(reading.broken)}
    return parsing.verdict(reply.text, found, overlap >= _SAME_PLACE, **details)
