"""Models and a task for tests of runs: replies are known, nothing is loaded."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, ClassVar

from PIL import Image

from foveate.errors import MediaError
from foveate.evaluate.contract import (
    BrokenItem,
    EvaluationError,
    Item,
    Message,
    Parameters,
    Picture,
    Reply,
    Score,
    TaskCard,
    user,
)
from foveate.evaluate.run.records import last_question, words_of


class Sums:
    """`a + b` written on no picture at all; item 5 has lost its picture, and a row of the data is broken."""

    card: ClassVar[TaskCard] = TaskCard(
        title="sums", paper="none", licence="made here", source="none", max_tokens=8
    )

    def __init__(self, *, count: int = 10, lost: bool = True, shade: int = 100) -> None:
        self.count, self.lost, self.shade = count, lost, shade

    def items(self):
        for number in range(self.count):
            if number == 3 and self.lost:
                yield BrokenItem(id="row-3", reason="no answer in it")
                continue
            yield Item(
                id=f"sum-{number}",
                messages=(
                    user(Picture(load=lambda n=number: self._draw(n), name=f"p{number}"), f"{number} + 1"),
                ),
                target=number + 1,
                cluster=f"p{number // 2}",
                form="number",
            )

    def _draw(self, number: int) -> Image.Image:
        if number == 5 and self.lost:
            raise MediaError("p5.png does not exist")
        return Image.new("RGB", (8, 8), (self.shade, number, 0))

    def score(self, item: Item, reply: Reply) -> Score:
        text = reply.text.strip()
        return Score.correct_if(int(text) == item.target, int(text)) if text.isdigit() else Score.unparsed()

    def perfect_reply(self, item: Item) -> str:
        return str(item.target)


class Dialogue(Sums):
    """Asks each sum, then whether the model is sure."""

    def next_turn(self, item: Item, replies) -> Message | None:
        return user("Sure?") if len(replies) == 1 else None

    def score(self, item: Item, reply: Reply) -> Score:
        return Score.correct_if(reply.text == "yes" and len(reply.earlier) == 1, reply.earlier[0].text)


class Adder:
    """Answers sums right, out of order: the later an item, the sooner its reply.

    Attributes:
        asked: questions in the order in which they came.
        answered: first terms of the sums in the order of the replies.
        failing: questions it fails on.
    """

    def __init__(self, failing: tuple[str, ...] = (), name: str = "adder") -> None:
        self.asked: list[str] = []
        self.answered: list[int] = []
        self.failing, self.name = failing, name
        self.closed = False
        self.parameters: list[Parameters] = []
        self.conversations: list[list[Message]] = []

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "code": "1"}

    def key(self, messages, parameters) -> str:
        told = [(message["role"], words_of(message)) for message in messages]
        pixels = [p["image"].open().tobytes() for m in messages for p in m["content"] if p["type"] == "image"]
        return hashlib.sha256(repr((told, pixels, parameters)).encode()).hexdigest()

    async def complete(self, messages, parameters) -> Reply:
        question = last_question(messages)
        self.asked.append(question)
        self.parameters.append(parameters)
        self.conversations.append(list(messages))
        if question in self.failing:
            raise EvaluationError("no")
        if not question[0].isdigit():
            return Reply(text="yes")
        number = int(question.split()[0])
        await asyncio.sleep(0.003 * (9 - number % 10))
        self.answered.append(number)
        return Reply(text=str(number + 1), prompt_tokens=3, seconds={"total": 0.1}, cached_tokens=number)

    async def close(self) -> None:
        self.closed = True
