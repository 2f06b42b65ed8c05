"""Reading documents and charts: ANLS in DocVQA's format, relaxed accuracy in ChartQA's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.contract import BrokenItem, Item, Reply, Score, TaskCard, user
from foveate.evaluate.embedded import asked_scenes, scene_picture
from foveate.evaluate.parsing import answer_text, read_number, read_short, verdict
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from

_ANLS_THRESHOLD = 0.5  # a less similar answer is worth nothing (Biten et al. 2019, arXiv 1907.00490)
_TOLERANCE = 0.05  # of a number, as a share of the right one (Masry et al. 2022, arXiv 2203.10244)


class DocVqa:
    """Printed lines and tables; a reply is worth its similarity to the nearest right answer (ANLS).

    Args:
        data: `val_v1.0.json` or its like of DocVQA, task 1 (an object with the list `data`; pictures under
            `documents/` beside it).
        count: questions of the embedded form, lines and table cells of the world's pages in turn.
    """

    card: ClassVar = TaskCard(
        title="reading documents",
        paper="DocVQA, arXiv 2007.00398; ANLS, arXiv 1907.00490",
        licence="of the UCSF Industry Documents Library; research only",
        source="docvqa.org, task 1: val_v1.0.json or val_v1.0_withQT.json, documents/*.png",
        metric="ANLS",
        max_tokens=48,
    )

    def __init__(self, *, data: str | None = None, count: int = 200, difficulty: int = 2) -> None:
        self.data, self.count, self.difficulty = data, count, difficulty

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(_of_the_world(("reading", "table"), 45, self.difficulty), self.count)
        path = data_file(self.data, ("val_v1.0*.json", "*.json", "*.jsonl"))
        return items_from(path, partial(_document, path.parent), key="data")

    def score(self, item: Item, reply: Reply) -> Score:
        """Correct from an ANLS of 0.5; the value is the ANLS itself."""
        parsed = _said(reply.text, item.target["answers"])
        value = 0.0 if parsed is None else anls(parsed, item.target["answers"])
        base = verdict(reply.text, parsed, value > 0)
        return Score(outcome=base.outcome, value=value, parsed=base.parsed)

    def perfect_reply(self, item: Item) -> str:
        return str(item.target["answers"][0])


class ChartQa:
    """Bar charts; a number may be 5 % off, anything else must be the right text.

    A percent sign is a unit: "12%" is 12. ChartQA's tolerance holds for years too, as its authors have it.

    Args:
        data: `test_human.json` or `test_augmented.json` (a list of imgname, query, label), charts under `png/`.
        count: questions of the embedded form: values and extremes of the world's bar charts.
    """

    card: ClassVar = TaskCard(
        title="reading charts",
        paper="ChartQA, arXiv 2203.10244",
        licence="GPL-3.0",
        source="github.com/vis-nlp/ChartQA: test/test_human.json, test/test_augmented.json, test/png/*.png",
        metric="relaxed accuracy",
        max_tokens=32,
    )

    def __init__(self, *, data: str | None = None, count: int = 200, difficulty: int = 2) -> None:
        self.data, self.count, self.difficulty = data, count, difficulty

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(_of_the_world(("chart",), 46, self.difficulty), self.count)
        path = data_file(self.data, ("test_human.json", "*.json", "*.jsonl"))
        return items_from(path, partial(_chart, path.parent))

    def score(self, item: Item, reply: Reply) -> Score:
        target = str(item.target["answers"][0])
        wanted = _as_number(target)
        if wanted is None:
            said = _said(reply.text, [target])
            return verdict(reply.text, said, lambda text: _plain(text) == _plain(target))
        number = read_number(reply.text)
        return verdict(reply.text, number, lambda found: abs(found - wanted) <= _TOLERANCE * abs(wanted))

    def perfect_reply(self, item: Item) -> str:
        return str(item.target["answers"][0])


def anls(said: str, answers: Sequence[str]) -> float:
    """Average normalised Levenshtein similarity of one reply: to the nearest answer, 0 below a half."""
    best = 0.0
    for answer in answers:
        one, other = _plain(said), _plain(answer)
        longest = max(len(one), len(other))
        best = max(best, 1.0 if longest == 0 else 1 - edit_distance(one, other) / longest)
    return best if best >= _ANLS_THRESHOLD else 0.0


def edit_distance(one: str, other: str) -> int:
    """Levenshtein: insertions, deletions and substitutions of one character, each worth 1."""
    row = list(range(len(other) + 1))
    for place, character in enumerate(one, start=1):
        before, row[0] = row[0], place
        for at, against in enumerate(other, start=1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (character != against))
    return row[-1]


def _said(text: str, answers: Sequence[str]) -> str | None:
    """As `read_short`, but for a reply that is a true answer word for word: "I am sorry" may be printed there."""
    whole = answer_text(text)
    return whole if _plain(whole) in map(_plain, answers) else read_short(text)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _as_number(text: str) -> float | None:
    """The number that the whole text is; a text with one in it ("2 apples") is no number."""
    try:
        return float(text.strip().rstrip("%").replace(",", ""))
    except ValueError:
        return None


def _of_the_world(families: Sequence[str], stretch: int, difficulty: int) -> Iterator[Item]:
    for index, scene, question in asked_scenes("page", families, stretch, difficulty=difficulty):
        yield Item(
            id=f"{question.family}-{index}",
            messages=(user(scene_picture(scene, f"page {index}"), question.text),),
            target={"answers": [question.answer]},
            cluster=str(index),
            tags=(question.family, *question.tags),
            form="number" if question.answer.isdigit() else "word",
        )


def _document(folder: Path, place: str, row: Row) -> Item:
    answers = column(row, "answers", "answer")
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers) or not answers:
        raise ValueError("answers is not a list of texts")
    picture = picture_from(column(row, "image"), folder)
    kinds: Any = row.get("question_types") or ()
    if isinstance(kinds, str):
        kinds = (kinds,)
    return Item(
        id=str(row.get("questionId", place)),
        messages=(user(picture, str(column(row, "question"))),),
        target={"answers": answers},
        cluster=str(row.get("docId", picture.name)),
        tags=tuple(str(kind) for kind in kinds),
        form="word",
    )


def _chart(folder: Path, place: str, row: Row) -> Item:
    name = column(row, "imgname", "image")
    if isinstance(name, str) and (folder / "png" / name).exists():
        name = f"png/{name}"
    picture = picture_from(name, folder)
    label = str(column(row, "label", "answer"))
    return Item(
        id=place,
        messages=(user(picture, str(column(row, "query", "question"))),),
        target={"answers": [label]},
        cluster=picture.name,
        form="number" if _as_number(label) is not None else "word",
    )
