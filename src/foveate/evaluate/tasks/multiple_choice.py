"""Multiple choice in the formats of MMBench, SEED-Bench and MMMU, in any order of the options, and circular."""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.contract import BrokenItem, Item, Picture, Reply, Score, Scored, TaskCard, user
from foveate.evaluate.embedded import asked_scenes, scene_picture
from foveate.evaluate.parsing import read_choice, verdict
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.evaluate.tasks.lettering import LETTERS, lettered

_PLACE = re.compile(r"<image (\d)>")


class MultipleChoice:
    """Questions with lettered options. A reply counts by its letter or by an option's exact text.

    Args:
        data: an MMBench `.tsv`, a SEED-Bench `.json`, or MMMU as JSON lines (each split exported by
            `examples/export_dataset.py`). The format is told by the columns. MMMU's open questions are counted as
            broken: they have no options.
        count: questions of the embedded form: attributes, counts and charts of the world with four options.
        option_shift: by how many places the options are moved on, the last ones coming first again.
        circular: ask every question once in each such order; `corpus_measures` tells how many were right in all.
    """

    card: ClassVar = TaskCard(
        title="multiple choice",
        paper="MMBench, arXiv 2307.06281; SEED-Bench, arXiv 2307.16125; MMMU, arXiv 2311.16502",
        licence="Apache-2.0 (MMBench, MMMU), CC-BY-NC-4.0 (SEED-Bench)",
        source="MMBench_DEV_EN.tsv; SEED-Bench.json; hf MMMU/MMMU by examples/export_dataset.py",
        max_tokens=32,
    )

    def __init__(
        self,
        *,
        data: str | None = None,
        count: int = 200,
        difficulty: int = 2,
        option_shift: int = 0,
        circular: bool = False,
    ) -> None:
        self.data, self.count, self.difficulty = data, count, difficulty
        self.option_shift, self.circular = option_shift, circular

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.chain.from_iterable(itertools.islice(self._of_the_world(), self.count))
        path = data_file(self.data, ("*.tsv", "*.json", "*.jsonl"))
        key = "questions" if path.suffix == ".json" else None
        return items_from(path, partial(self._published, path.parent, {}), key=key)

    def score(self, item: Item, reply: Reply) -> Score:
        chosen = read_choice(reply.text, item.target["options"])
        return verdict(reply.text, chosen, chosen == item.target["answer"])

    def perfect_reply(self, item: Item) -> str:
        return str(item.target["answer"])

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """The share of questions right in every order they were asked in, where they were asked in several."""
        if not self.circular:
            return {}
        right: dict[str, list[bool]] = {}
        for each in scored:
            right.setdefault(each.item.target["question"], []).append(each.score.outcome == "correct")
        return {"circular_accuracy": sum(map(all, right.values())) / max(1, len(right))}

    def _asked(
        self,
        name: str,
        text: str,
        options: Sequence[str],
        answer: int,
        pictures: Sequence[Picture],
        cluster: str,
        tags: tuple[str, ...] = (),
    ) -> list[Item]:
        """The item in its order, or one of every order."""
        shifts = range(len(options)) if self.circular else [self.option_shift % len(options)]
        items = []
        for shift in shifts:
            by_letter, letters = lettered(options, shift=shift)
            listed = "\n".join(f"{letter}. {option}" for letter, option in by_letter.items())
            items.append(
                Item(
                    id=f"{name}-shift-{shift}" if self.circular else name,
                    messages=(user(*_interleaved(f"{text}\n{listed}", pictures)),),
                    target={"answer": letters[answer], "options": by_letter, "question": name},
                    cluster=cluster,
                    tags=tags,
                    form="choice",
                )
            )
        return items

    def _of_the_world(self) -> Iterator[list[Item]]:
        shapes = asked_scenes("shapes", ("attribute", "count"), 47, difficulty=self.difficulty)
        charts = asked_scenes("page", ("chart",), 48, difficulty=self.difficulty)
        for index, scene, question in itertools.chain.from_iterable(
            zip(shapes, shapes, charts, strict=False)
        ):
            if question.answer in LETTERS:
                continue  # "Which bar?": an option's text would be another option's letter
            rng = random.Random(f"choices {index}")
            others = [choice for choice in question.choices if choice != question.answer]
            options = rng.sample(
                [question.answer, *rng.sample(others, min(3, len(others)))], min(4, 1 + len(others))
            )
            yield self._asked(
                f"{question.family}-{index}",
                question.text,
                options,
                options.index(question.answer),
                [scene_picture(scene, f"{scene.domain} {index}")],
                str(index),
                (question.family,),
            )

    def _published(self, folder: Path, seen: dict[str, Picture], place: str, row: Row) -> list[Item]:
        pictures = _pictures(row, folder, seen)
        options = _options(row)
        letter = str(column(row, "answer")).strip().upper()
        if letter not in LETTERS or LETTERS.index(letter) >= len(options):
            raise ValueError(f"the answer {letter!r} is none of {len(options)} options")
        hint = row.get("hint")
        text = "\n".join([*([str(hint)] if hint and hint != "nan" else []), str(column(row, "question"))])
        kind = row.get("category") or row.get("question_type_id") or row.get("subfield")
        return self._asked(
            str(row.get("index") or row.get("question_id") or row.get("id") or place),
            text,
            options,
            LETTERS.index(letter),
            pictures,
            str(row.get("data_id") or " ".join(picture.name for picture in pictures)),
            (str(kind),) if kind else (),
        )


def _options(row: Row) -> list[str]:
    """The options in their published order.

    Raises:
        ValueError: fewer than two.
    """
    if "choice_a" in row:  # SEED-Bench
        found = [row.get(f"choice_{letter}") for letter in "abcd"]
    elif "options" in row:  # MMMU: a list, or a list's text as Python writes it
        listed: Any = row["options"]
        if isinstance(listed, str):
            try:
                listed = ast.literal_eval(listed)
            except (ValueError, SyntaxError):
                raise ValueError("options is not a list") from None
        if row.get("question_type") == "open":
            raise ValueError("an open question: it has no options")
        found = list(listed) if isinstance(listed, list | tuple) else []
    else:  # MMBench: columns A to D, those that a question has not are empty
        found = [value for letter in "ABCDEF" if (value := row.get(letter)) not in (None, "", "nan")]
    options = [str(option) for option in found if option is not None]
    if len(options) < 2:
        raise ValueError("fewer than two options")
    return options


def _pictures(row: Row, folder: Path, seen: dict[str, Picture]) -> list[Picture]:
    """The row's pictures. MMBench gives a repeated one as the index of an earlier row, which `seen` holds."""
    if row.get("data_type") == "video":
        raise ValueError("a question about a video, not a picture")
    numbered = [row[f"image_{n}"] for n in range(1, 8) if row.get(f"image_{n}")]
    if numbered:
        return [picture_from(value, folder) for value in numbered]
    value = column(row, "image", "data_id")
    picture = seen[value] if isinstance(value, str) and value in seen else picture_from(value, folder)
    if row.get("index"):
        seen[str(row["index"])] = picture
    return [picture]


def _interleaved(text: str, pictures: Sequence[Picture]) -> list[Picture | str]:
    """Pictures where the text has MMMU's "<image 1>"; those that it does not place come first."""
    placed = {int(number) for number in _PLACE.findall(text)} & set(range(1, len(pictures) + 1))
    parts: list[Picture | str] = [p for number, p in enumerate(pictures, start=1) if number not in placed]
    for place, part in enumerate(_PLACE.split(text)):
        if place % 2 and int(part) in placed:
            parts.append(pictures[int(part) - 1])
        elif place % 2 == 0 and part.strip():
            parts.append(part.strip())
    return parts
