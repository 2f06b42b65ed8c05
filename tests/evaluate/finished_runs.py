"""Run folders with answers that a test makes up: a task without a model, written as a real run is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from PIL import Image

from foveate.evaluate.contract import (
    BrokenItem,
    Item,
    Parameters,
    Picture,
    Reply,
    Score,
    Scored,
    TaskCard,
    user,
)
from foveate.evaluate.parsing import read_word
from foveate.evaluate.planning import RunPlan, TaskChoice
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.tasks import registry

COLOURS = ("red", "green", "blue")


class Toy:
    """What colour is the square? `questions` of them share a picture."""

    card: ClassVar[TaskCard] = TaskCard(
        title="toy", paper="none", licence="made here", source="made here", max_tokens=4
    )

    def __init__(self, *, count: int = 30, questions: int = 1, words: str = "What colour") -> None:
        self.count, self.questions, self.words = count, questions, words

    def items(self) -> Iterable[Item | BrokenItem]:
        for number in range(self.count):
            colour = COLOURS[number % 3]
            picture = Picture(
                load=lambda colour=colour: Image.new("RGB", (320, 200), colour), name=f"{number}.png"
            )
            yield Item(
                id=f"toy-{number:04}",
                messages=(user(picture, f"{self.words} is the square?"),),
                target=colour,
                cluster=f"picture {number // self.questions}",
                tags=(f"colour:{colour}", "even" if number % 2 == 0 else "odd"),
                form="word",
            )

    def score(self, item: Item, reply: Reply) -> Score:
        if reply.text.startswith("sorry"):
            return Score.refused()
        found = read_word(reply.text, COLOURS)
        return Score.unparsed() if found is None else Score.correct_if(found == item.target, found)

    def perfect_reply(self, item: Item) -> str:
        return item.target

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        reds = [one for one in scored if one.item.target == "red"]
        return {"red recall": sum(one.score.value for one in reds) / len(reds) if reds else float("nan")}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    """The task under the name "toy" for as long as the test runs."""
    module = ModuleType("foveate.evaluate.tasks.toy")
    module.Toy = Toy
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.TASKS, "toy", "toy:Toy")
    return Toy


def write_run(
    path: Path,
    replies: Mapping[str, str],
    *,
    settings: Mapping[str, Any] | None = None,
    variants: Sequence[Any] = (),
    varied: Mapping[str, Mapping[str, str]] | None = None,
    failed: Mapping[str, tuple[str, str]] | None = None,
    model: str = "made-up",
    style: str = "plain",
    parameters: Parameters | None = None,
    limit: int | None = None,
    planned: int | None = None,
) -> RunFolder:
    """A finished run of the toy task.

    Args:
        replies: texts by item, of the baseline; `varied` has those of each other variant by its name.
        failed: (kind, message) by item.
        planned: items that the run was to ask in each variant; None says nothing of it.
    """
    settings = settings or {}
    plan = RunPlan(
        tasks=(TaskChoice(name="toy", settings=settings),),
        style=style,
        parameters=parameters or Parameters(),
        limit=limit,
        **({"variants": tuple(variants)} if variants else {}),
    )
    folder = RunFolder.create(
        path,
        {
            **plan.describe(),
            "model": {"name": model},
            "commits": ["0123abc"],
            "versions": {"python": "3.11"},
            "machine": {"processor": "made up"},
            "command": "foveate eval run toy",
            "parts": [
                {"task": "toy", "variant": variant.name, "available": planned, "asked": planned, "broken": 0}
                for variant in plan.variants
                if planned is not None
            ],
        },
    )
    changes = {variant.name: variant.task_settings for variant in plan.variants}
    for variant, texts in {"baseline": replies, **(varied or {})}.items():
        task = Toy(**{**settings, **changes[variant]})
        items = {item.id: item for item in task.items()}
        for name, text in texts.items():
            reply = Reply(text=text, seconds={"total": 0.1})
            score = task.score(items[name], reply)
            folder.add("toy", variant, items[name], reply, score, from_cache=False)
    for name, (kind, message) in (failed or {}).items():
        folder.fail("toy", "baseline", name, kind=kind, message=message)
    return RunFolder.open(path)


def replies(wrong: Iterable[int] = (), *, count: int = 30, **others: Iterable[int]) -> dict[str, str]:
    """Right answers of the toy task but for the items of these numbers: `wrong`, or another text by its name."""
    texts = {number: COLOURS[number % 3] for number in range(count)}
    texts |= {number: COLOURS[(number + 1) % 3] for number in wrong}
    for text, numbers in others.items():
        texts |= dict.fromkeys(numbers, text)
    return {f"toy-{number:04}": text for number, text in texts.items()}
