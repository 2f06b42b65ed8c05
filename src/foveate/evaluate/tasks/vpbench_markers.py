"""Markers on the world's own question, "Which marker is on the red star?": VPBench's looks on pictures made here.

fovea-nano knows this question, and neither of VPBench's two. Marker styles differ from the world's default by the same
factors as VPBench's do from its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import ClassVar

from foveate.evaluate.contract import Item, Reply, Score, TaskCard, user
from foveate.evaluate.embedded import FIRST, STRETCH, scene_picture
from foveate.evaluate.parsing import read_choice, verdict
from foveate.evaluate.perturb.markers import DEFAULT_LOOK, marker_look
from foveate.world import sample_scene
from foveate.world.questions import ask

_STRETCH = 12


class MarkedObjects:
    """The answer is the marker's own label.

    `offset` skips as many pictures, so that several samples share none.
    """

    card: ClassVar = TaskCard(
        title="which marker is on a named object",
        paper="after VPBench, arXiv 2512.17875",
        licence="made here",
        source="the world; no public form",
        max_tokens=8,
    )

    def __init__(
        self, *, count: int = 200, offset: int = 0, difficulty: int = 2, marker_style: str = DEFAULT_LOOK
    ) -> None:
        self.count, self.offset, self.difficulty = count, offset, difficulty
        self.style = marker_look(marker_style).world_style()

    def items(self) -> Iterable[Item]:
        return self._made()

    def score(self, item: Item, reply: Reply) -> Score:
        chosen = read_choice(reply.text, item.target["labels"])
        return verdict(reply.text, chosen, chosen == item.target["answer"])

    def perfect_reply(self, item: Item) -> str:
        """The label."""
        return str(item.target["answer"])

    def _made(self) -> Iterator[Item]:
        made, first = 0, FIRST + STRETCH * _STRETCH
        for index in range(first + self.offset, first + STRETCH):
            if made == self.count:
                return
            scene = sample_scene("shapes", "test", index, difficulty=self.difficulty, marker_style=self.style)
            question = ask(scene, "marker", random.Random(index))
            if question is None:
                continue
            made += 1
            name = f"world-{index}"
            yield Item(
                id=name,
                messages=(user(scene_picture(scene, name), question.text),),
                target={"answer": question.answer, "labels": list(question.choices)},
                cluster=name,
                tags=question.tags,
                form="word",
            )
