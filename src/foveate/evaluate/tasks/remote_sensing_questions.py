"""Questions about pictures from above: what place, what is there, how many, what colour, where (VRSBench's VQA)."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.errors import nearest
from foveate.evaluate.contract import (
    AnswerForm,
    BrokenItem,
    EvaluationError,
    Item,
    Reply,
    Score,
    Scored,
    TaskCard,
    user,
)
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.parsing import answer_text, read_number, read_short, read_word, read_yes_no, verdict
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.world.questions import ask

SIZE = 1024  # height of the embedded pictures: a car is 33, 20 or 13 pixels long by difficulty
PICTURES = "Images_val"  # where VRSBench keeps the pictures of its test questions
# What VRSBench calls each of the world's families, so that both are broken down alike.
TYPES = {
    "scene": "scene type",
    "existence": "object existence",
    "count": "object quantity",
    "attribute": "object color",
    "position": "object position",
}
_LICENCE = "CC-BY-4.0 (text); DOTA's and DIOR's pictures for academic use only"
_SOURCE = "huggingface.co/datasets/xiang709/VRSBench, VRSBench_EVAL_vqa.json with Images_val"
_SIDES = {"upper": "top", "lower": "bottom", "center": "centre", "middle": "centre"}
_COLOURS = (
    *("white", "black", "grey", "gray", "red", "green", "blue", "yellow"),
    *("orange", "brown", "purple", "pink", "beige", "tan", "silver"),
)
_SPELLINGS = {"grey": "gray"}
_ARTICLE = re.compile(r"^(?:the|an|a) ")
_FORMS: dict[str, AnswerForm] = {"yes": "word", "number": "number", "word": "word", "text": "word"}


class RemoteSensingQuestions:
    """Short questions about aerial pictures.

    Yes and no, numbers, colours, parts of the picture and places are read by the shared rules. VRSBench's other
    answers are free text: right where they are the true words, whatever their case and articles. The paper has a
    hosted model judge them, which forgives synonyms; figures here are therefore lower than the published ones.

    Args:
        data: VRSBench's `VRSBench_EVAL_vqa.json` (image_id, question, ground_truth, type) with Images_val/ beside it,
            or their folder; None asks about the world's aerial scenes.
        families: of the embedded form, comma separated: scene, existence, count, attribute, position.
        count: questions of the embedded form, the families in turn.
        difficulty: of its scenes, 1 (larger things) to 3 (tiny and many).
        size: height of its pictures in pixels.
    """

    card: ClassVar = TaskCard(
        title="questions about aerial pictures",
        paper="VRSBench, arXiv 2406.12384",
        licence=_LICENCE,
        source=_SOURCE,
        max_tokens=32,
    )
    stretch: ClassVar[int] = 20
    published_types: ClassVar[tuple[str, ...]] = ()  # of VRSBench that are asked; all where empty
    default_families: ClassVar[tuple[str, ...]] = tuple(TYPES)

    def __init__(
        self,
        *,
        data: str | None = None,
        families: str = "",
        count: int = 200,
        difficulty: int = 2,
        size: int = SIZE,
    ) -> None:
        named = [name.strip() for name in families.split(",") if name.strip()]
        for name in named:
            if name not in TYPES:
                raise EvaluationError(f"There is no family {name!r}", fix=nearest(name, TYPES))
        self.families = named or list(self.default_families)
        self.data, self.count, self.difficulty, self.size = data, count, difficulty, size

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._embedded(), self.count)
        path = data_file(self.data, ("*EVAL_vqa*.json", "*vqa*.json", "*vqa*.jsonl"))
        return items_from(path, partial(self._published, path.parent / PICTURES))

    def score(self, item: Item, reply: Reply) -> Score:
        wanted = item.target["answer"]
        parsed = _READERS[item.target["kind"]](reply.text, item.target)
        return verdict(reply.text, parsed, lambda said: said == wanted)

    def perfect_reply(self, item: Item) -> str:
        return str(item.target["answer"])

    def _embedded(self) -> Iterator[Item]:
        for index, scene in test_scenes("aerial", self.stretch, difficulty=self.difficulty):
            family = self.families[index % len(self.families)]
            question = ask(scene, family, random.Random(f"remote sensing {family} {index}"))
            if question is None:
                continue
            kind = {"existence": "yes", "count": "number"}.get(family, "word")
            target: dict[str, Any] = {"answer": question.answer, "kind": kind}
            if kind == "word":
                target["allowed"] = list(question.choices)
            yield Item(
                id=f"{family}-{index}",
                messages=(user(scene_picture(scene, f"aerial {index}", size=self.size), question.text),),
                target=target,
                cluster=str(index),
                tags=(TYPES[family], scene.place, *question.tags),
                form=_FORMS[kind],
            )

    def _published(self, folder: Path, place: str, row: Row) -> list[Item]:
        name, kind_of = str(column(row, "image_id", "image")), str(column(row, "type")).strip().lower()
        if self.published_types and kind_of not in self.published_types:
            return []
        answer = str(column(row, "ground_truth", "answer")).strip().rstrip(".").lower()
        target: dict[str, Any] = {"answer": answer, "kind": "text"}
        if answer in ("yes", "no"):
            target["kind"] = "yes"
        elif kind_of == "object quantity" and (number := read_number(answer)) is not None:
            target = {"answer": f"{number:g}", "kind": "number"}
        elif kind_of == "object color" and answer in _COLOURS:
            allowed = [colour for colour in _COLOURS if colour not in _SPELLINGS]
            target = {"answer": _SPELLINGS.get(answer, answer), "kind": "word", "allowed": allowed}
        return [
            Item(
                id=str(row.get("question_id", place)),
                messages=(user(picture_from(name, folder), str(column(row, "question"))),),
                target=target,
                cluster=name,
                tags=(kind_of,),
                form=_FORMS[target["kind"]],
            )
        ]


class SceneClassification(RemoteSensingQuestions):
    """Which kind of place a picture from above shows; arguments as `RemoteSensingQuestions`."""

    card: ClassVar = TaskCard(
        title="what place is seen from above",
        paper="VRSBench, arXiv 2406.12384",
        licence=_LICENCE,
        source=_SOURCE,
        max_tokens=16,
    )
    stretch = 21
    published_types = ("scene type", "rural or urban")
    default_families = ("scene",)


class Counting(RemoteSensingQuestions):
    """How many small things there are; the mean error of the numbers read is told too."""

    card: ClassVar = TaskCard(
        title="counting small things from above",
        paper="VRSBench, arXiv 2406.12384",
        licence=_LICENCE,
        source=_SOURCE,
        max_tokens=16,
    )
    stretch = 22
    published_types = ("object quantity",)
    default_families = ("count",)

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """Mean absolute error where a number was wanted and read, and the share within one."""
        errors = [
            abs(float(each.score.parsed) - float(each.item.target["answer"]))
            for each in scored
            if each.score.parsed is not None and each.item.target["kind"] == "number"
        ]
        if not errors:
            return {}
        near = sum(error <= 1 for error in errors)
        return {"mean_absolute_error": sum(errors) / len(errors), "within_one": near / len(errors)}


# -- readers ----------------------------------------------------------------------------------------------


def _number(text: str, target: Mapping[str, Any]) -> str | None:
    number = read_number(text)
    return None if number is None else f"{number:g}"


def _word(text: str, target: Mapping[str, Any]) -> str | None:
    allowed = {word: word for word in target["allowed"]}
    if "top left" in allowed:  # one of nine parts of the picture, which models name in other words too
        text = text.lower().replace("-", " ")
        for other, side in _SIDES.items():
            text = text.replace(other, side)
    return read_word(text, allowed | {other: one for other, one in _SPELLINGS.items() if one in allowed})


def _text(text: str, target: Mapping[str, Any]) -> str | None:
    """As `read_short`, and the true words where only case, articles or the final stop are others."""
    wanted, said = target["answer"], read_short(text)
    # The whole reply first: true words may look like a refusal.
    if _words(wanted) in (_words(answer_text(text)), _words(said or "")):
        return str(wanted)
    return None if said is None else _words(said) or None


def _words(text: str) -> str:
    return _ARTICLE.sub("", text.lower().strip(" \t\n.!"))


_READERS: dict[str, Callable[[str, Mapping[str, Any]], str | None]] = {
    "yes": lambda text, target: read_yes_no(text),
    "number": _number,
    "word": _word,
    "text": _text,
}
