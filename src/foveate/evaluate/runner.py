"""Asks a model every item of a run and keeps what comes back; can be stopped at any moment and gone on with.

A reply comes from the cache, from the model, or not at all: then the item is a failure, counted and asked again when
the run goes on, and never a wrong answer. Owns concurrency, turns of a conversation, and when to give up. Knows no
statistics and not which kind of model answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from foveate.errors import FoveateError, MediaError, PromptError, ReductionError
from foveate.evaluate.answers_cache import AnswersCache
from foveate.evaluate.contract import (
    EvaluationError,
    Item,
    Message,
    Model,
    Picture,
    Reply,
    assistant,
)
from foveate.evaluate.planning import Part, RunPlan, make_parts
from foveate.evaluate.provenance import commit, versions
from foveate.evaluate.run.folder import Place, RunFolder
from foveate.evaluate.run.records import messages_digest
from foveate.evaluate.run.verdict import score_reply
from foveate.evaluate.run_files import RUN

T = TypeVar("T")
Progress = Callable[[int], None]
MOST_TURNS = 16  # of one conversation; a task that never ends it is a mistake
GIVE_UP_AFTER = 20  # failures of the model in a row
_KINDS: tuple[tuple[type[FoveateError], str], ...] = (
    (MediaError, "picture"),
    (PromptError, "prompt"),
    (ReductionError, "visual budget"),
)


class GaveUpError(EvaluationError):
    """The model failed so often in a row that the rest was not asked; the run can be gone on with."""


class _AskError(Exception):
    """What kept one item from having a reply, on its way to the run folder."""

    def __init__(self, kind: str, error: Exception, *, by_model: bool) -> None:
        super().__init__(str(error))
        self.kind, self.by_model = kind, by_model


@dataclass(kw_only=True)
class _State:
    """What the workers of one run share."""

    done: int = 0
    failed_in_a_row: int = 0
    last_failure: str = ""


def begin(
    plan: RunPlan, model: Model, path: Path, *, machine: Mapping[str, Any], command: str, resume: bool = False
) -> tuple[RunFolder, list[Part]]:
    """The run's folder and what is to be asked; with `resume` the run in the folder, if it holds any.

    Raises:
        EvaluationError: the folder holds a run and `resume` is not set, or it holds another run; or the plan asks for
            a task or setting that does not exist.
    """
    parts, left_out = make_parts(plan)
    facts = model.describe()
    code = f", answering code {facts['code']}" if "code" in facts else ""
    run = {
        "command": command,
        "model": facts,
        **plan.describe(),
        "parts": [part.describe() for part in parts],
        "left_out": left_out,
        "commits": [f"{commit()}{code}"],
        "versions": versions(),
        "machine": dict(machine),
    }
    if resume and (path / RUN).is_file():
        folder = RunFolder.open(path, to_go_on=True)
        folder.resumes(run)
        return folder, parts
    return RunFolder.create(path, run), parts


class Runner:
    """One run at work.

    Args:
        cache: None asks everything anew.
        concurrency: items asked at the same time.
        give_up_after: failures of the model in a row after which the rest is left for another time.
        progress: told how many items are done, those of an earlier session included.
    """

    def __init__(
        self,
        model: Model,
        parts: Sequence[Part],
        folder: RunFolder,
        *,
        cache: AnswersCache | None = None,
        concurrency: int = 8,
        give_up_after: int = GIVE_UP_AFTER,
        progress: Progress = lambda done: None,
    ) -> None:
        self.model, self.parts, self.folder = model, parts, folder
        self.cache, self.concurrency, self.give_up_after = cache, concurrency, give_up_after
        self._progress, self._state = progress, _State()

    async def run(self) -> None:
        """Asks what the folder has no reply to. However it ends, the folder's files are whole and in order.

        Raises:
            GaveUpError: the model failed too often in a row.
            EvaluationError: the folder's replies were to other questions than these items ask now.
        """
        self._check_kept()
        self.folder.keep_asked(self._places(), [part.describe() for part in self.parts])
        self._note_broken()
        self._state.done = len(self.folder.samples)
        self._progress(self._state.done)
        waiting = self._waiting()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.concurrency):
                    group.create_task(self._work(waiting))
        except ExceptionGroup as several:  # the first tells what happened; the others followed from it
            raise several.exceptions[0] from several
        finally:
            self.folder.put_in_order(self._places())

    def _places(self) -> Iterator[Place]:
        """Of all that is asked now, broken rows among them, in order."""
        return ((part.name, part.variant.name, item) for part in self.parts for item in part.order)

    def _check_kept(self) -> None:
        """Replies of an earlier session answer the questions that the items ask now."""
        asked = {(part.name, part.variant.name, item.id): item for part in self.parts for item in part.items}
        for place, row in self.folder.samples.items():
            if place not in asked or messages_digest(asked[place].messages) != row["messages"]:
                raise EvaluationError(
                    f"{self.folder.path} has a reply to an item {place[2]!r} of {place[0]} that is not asked now",
                    why="the task's items have changed since the run began",
                    fix="Begin a new run in another --output.",
                )

    def _note_broken(self) -> None:
        for part in self.parts:
            for row in part.broken:
                if (part.name, part.variant.name, row.id) not in self.folder.failures:
                    self.folder.fail(part.name, part.variant.name, row.id, kind="data", message=row.reason)

    def _waiting(self) -> Iterator[tuple[Part, Item]]:
        """Items without a reply, those that failed before among them; shared by the workers."""
        for part in self.parts:
            for item in part.items:
                if (part.name, part.variant.name, item.id) not in self.folder.samples:
                    yield part, item

    async def _work(self, waiting: Iterator[tuple[Part, Item]]) -> None:
        for part, item in waiting:
            place = part.name, part.variant.name
            try:
                reply, from_cache = await self._ask(part, item)
            except _AskError as failure:
                self.folder.fail(*place, item.id, kind=failure.kind, message=str(failure))
                self._count_failure(failure)
            else:
                self.folder.add(
                    *place, item, reply, score_reply(part.task, item, reply), from_cache=from_cache
                )
                self._state.failed_in_a_row = 0
            self._state.done += 1
            self._progress(self._state.done)

    def _count_failure(self, failure: _AskError) -> None:
        if not failure.by_model:
            return
        self._state.failed_in_a_row += 1
        if self._state.failed_in_a_row >= self.give_up_after:
            raise GaveUpError(
                f"The model failed {self._state.failed_in_a_row} times in a row and the rest was not asked",
                why=f"the last failure: {failure}",
                fix="Correct that and go on with --resume.",
            )

    async def _ask(self, part: Part, item: Item) -> tuple[Reply, bool]:
        """The last reply of the item's conversation, and whether all of it came from the cache."""
        messages = await self._opened(part.style.apply(item), part)
        next_turn = getattr(part.task, "next_turn", None)
        replies: list[Reply] = []
        all_from_cache = True
        for _ in range(MOST_TURNS):
            reply, from_cache = await self._reply(messages, part)
            all_from_cache &= from_cache
            replies.append(replace(reply, box_format=part.style.box_format))
            following: Message | None = None if next_turn is None else next_turn(item, list(replies))
            if following is None:
                return replace(replies[-1], earlier=tuple(replies[:-1])), all_from_cache
            messages += [assistant(reply.text), *await self._opened([following], part)]
        raise EvaluationError(
            f"The task {part.name!r} does not end the conversation of {item.id!r}",
            why=f"its next_turn still has something to say after {MOST_TURNS} replies",
            fix="next_turn must give None in the end.",
        )

    async def _opened(self, messages: Sequence[Message], part: Part) -> list[Message]:
        """The messages with every picture opened once and changed as the variant asks."""
        try:
            return await asyncio.to_thread(_open_pictures, messages, part)
        except (FoveateError, OSError) as error:
            raise _AskError("picture", error, by_model=False) from error

    async def _reply(self, messages: list[Message], part: Part) -> tuple[Reply, bool]:
        """One reply, and whether it came from the cache."""
        if self.cache is None:
            return await self._by_model(self.model.complete(messages, part.parameters)), False
        key = await self._by_model(asyncio.to_thread(self.model.key, messages, part.parameters))
        if (kept := self.cache.get(key)) is not None:
            return kept, True
        reply = await self._by_model(self.model.complete(messages, part.parameters))
        self.cache.put(key, reply)
        return reply, False

    async def _by_model(self, work: Awaitable[T]) -> T:
        """What the model gives; what it refuses is the item's failure."""
        try:
            return await work
        except FoveateError as error:
            kind, by_model = _kind(error)
            raise _AskError(kind, error, by_model=by_model) from error


def _kind(error: FoveateError) -> tuple[str, bool]:
    """A word for the kind of failure, and whether the model is to blame rather than the item."""
    if isinstance(kind := getattr(error, "kind", None), str):
        return kind, True
    return next(((name, False) for of, name in _KINDS if isinstance(error, of)), ("model", True))


def _open_pictures(messages: Sequence[Message], part: Part) -> list[Message]:
    return [
        message
        if isinstance(message["content"], str)
        else {**message, "content": [_opened_part(one, part) for one in message["content"]]}
        for message in messages
    ]


def _opened_part(one: dict[str, Any], part: Part) -> dict[str, Any]:
    if not isinstance(picture := one.get("image"), Picture):
        return one
    pixels = part.variant.changed(picture).open()
    return {**one, "image": Picture(load=lambda: pixels, name=picture.name)}
