"""Which lessons belong to which step: made as they are wanted (online), or a stored set again and again (offline).

Owns that order, a pure function of the step. Knows no heads.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from foveate.train.draft.prompts import PromptSource
from foveate.train.draft.settings import DraftTraining
from foveate.train.draft.teaching import Lesson, Teacher


class Lessons:
    """The lessons of every step: made as they are wanted, or stored."""

    def __init__(self, teacher: Teacher, source: PromptSource, settings: DraftTraining) -> None:
        self._teacher, self._source, self._settings = teacher, source, settings
        self._round: tuple[int, list[Lesson]] = (-1, [])
        self._stored: list[Lesson] = []

    def of_step(self, step: int) -> list[Lesson]:
        """`batch_size` lessons; the same for the same step."""
        settings = self._settings
        if settings.stored is not None:
            return self._stored_ones(step, settings.stored)
        batches = settings.round_size // settings.batch_size
        number, inside = divmod(step, batches * settings.reuse)
        if self._round[0] != number:
            self._round = (number, self._make(number))
        turn, place = divmod(inside, batches)
        return self._batch(self._round[1], place, f"round {number} turn {turn}")

    def hold(self, lessons: Sequence[Lesson]) -> None:
        """Takes these for the stored ones, so that several runs need not make them."""
        assert len(lessons) == self._settings.stored, (len(lessons), self._settings.stored)
        self._stored = list(lessons)

    def _batch(self, lessons: list[Lesson], place: int, order_of: str) -> list[Lesson]:
        """One batch of the lessons in a shuffled order."""
        order, size = list(range(len(lessons))), self._settings.batch_size
        random.Random(f"{self._settings.seed} {order_of}").shuffle(order)
        return [lessons[each] for each in order[place * size : (place + 1) * size]]

    def _make(self, number: int) -> list[Lesson]:
        size = self._settings.round_size
        return self._teacher.teach(
            [self._source.prompt(place) for place in range(number * size, (number + 1) * size)],
            sampled=self._settings.sampled,
        )

    def _stored_ones(self, step: int, count: int) -> list[Lesson]:
        if not self._stored:
            self._stored = [
                one for number in range(count // self._settings.round_size) for one in self._make(number)
            ]
        epoch, place = divmod(step, count // self._settings.batch_size)
        return self._batch(self._stored, place, f"epoch {epoch}")
