"""Which tokens of a stream stay, in which slots of which pages: bookkeeping without tensors.

Owns the order of what is kept, what leaves when, and the pages. A second of vision and the text around it have pages
of their own and leave together, whole pages at a time; text leaves token by token, oldest first, and a page of it is
free when its last token has left. The order is the order of arrival: with the turns of old seconds gone, their replies
stand behind one another as StreamingVLM's "previous text". Knows no models and no keys.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foveate.decode.streaming.settings import StreamSettings


class Kind(enum.StrEnum):
    """Why a token is kept."""

    SINK = "sink"  # for ever
    TEXT = "text"  # while it is among the newest of the text
    TURN = "turn"  # while its second is in the vision window


class PagePool:
    """Page numbers with counted references; pages are shared by a stream and its forks."""

    def __init__(self, pages: int) -> None:
        self._free = list(range(pages - 1, -1, -1))
        self._references = [0] * pages
        self.most_in_use = 0

    @property
    def in_use(self) -> int:
        """Pages that somebody refers to."""
        return len(self._references) - len(self._free)

    def take(self) -> int:
        """A free page."""
        assert self._free, f"all {len(self._references)} pages are in use: the bound was wrong"
        page = self._free.pop()
        self._references[page] = 1
        self.most_in_use = max(self.most_in_use, self.in_use)
        return page

    def retain(self, page: int) -> None:
        """One more refers to it."""
        assert self._references[page] > 0, f"page {page} is free"
        self._references[page] += 1

    def release(self, page: int) -> None:
        """One fewer refers to it."""
        assert self._references[page] > 0, f"page {page} is free"
        self._references[page] -= 1
        if not self._references[page]:
            self._free.append(page)


@dataclass(kw_only=True)
class Run:
    """Tokens in a row with one reason to stay. `indices` count the tokens of the whole stream; `media` is whatever
    the caller needs to place the pictures among them."""

    kind: Kind
    second: int
    tokens: list[int]
    slots: list[int]
    indices: list[int]
    media: tuple[Any, ...] = ()

    def drop(self, count: int) -> list[int]:
        """Takes the first `count` tokens away; their slots."""
        gone = self.slots[:count]
        del self.tokens[:count], self.slots[:count], self.indices[:count]
        return gone


@dataclass
class _Arena:
    """Pages that one part of the stream fills one after the other; `live` counts the tokens kept in each."""

    live: dict[int, int] = field(default_factory=dict)
    filling: int | None = None
    filled: int = 0


class StreamWindow:
    """What is kept of one stream."""

    def __init__(self, settings: StreamSettings, pool: PagePool) -> None:
        self.settings, self.pool = settings, pool
        self.runs: list[Run] = []
        self.arrived = 0  # tokens of the whole stream, gone ones too
        self._sinks = 0
        self._arenas: dict[object, _Arena] = {}

    def __len__(self) -> int:
        return sum(len(run.tokens) for run in self.runs)

    def tokens(self) -> list[int]:
        """Ids of what is kept, in order."""
        return [token for run in self.runs for token in run.tokens]

    def slots(self) -> list[int]:
        """Where each of them is."""
        return [slot for run in self.runs for slot in run.slots]

    def indices(self) -> list[int]:
        """The place of each in the whole stream."""
        return [index for run in self.runs for index in run.indices]

    def media(self) -> list[Any]:
        """Of the turns that are kept, in order."""
        return [item for run in self.runs for item in run.media]

    def pages(self) -> Iterator[int]:
        """All pages it refers to."""
        for arena in self._arenas.values():
            yield from arena.live

    def append(
        self, kind: Kind, tokens: Sequence[int], second: int, media: tuple[Any, ...] = ()
    ) -> list[int]:
        """Adds tokens at the end; their slots. Text fills up the sinks before it fills the window of text."""
        assert kind is not Kind.SINK, "the first of the text become sinks"
        slots: list[int] = []
        first = 0
        if kind is Kind.TEXT and self._sinks < self.settings.sink_tokens:
            first = min(len(tokens), self.settings.sink_tokens - self._sinks)
            self._sinks += first
            slots += self._add(Kind.SINK, tokens[:first], second, ())
        return slots + self._add(kind, tokens[first:], second, media)

    def _add(self, kind: Kind, tokens: Sequence[int], second: int, media: tuple[Any, ...]) -> list[int]:
        if not tokens:
            return []
        slots = self._take((kind, second) if kind is Kind.TURN else kind, len(tokens))
        indices = range(self.arrived, self.arrived + len(tokens))
        self.arrived += len(tokens)
        last = self.runs[-1] if self.runs else None
        if last is not None and (last.kind, last.second) == (kind, second):
            last.tokens += tokens
            last.slots += slots
            last.indices += indices
            last.media += media
        else:
            self.runs.append(
                Run(
                    kind=kind,
                    second=second,
                    tokens=list(tokens),
                    slots=list(slots),
                    indices=list(indices),
                    media=media,
                )
            )
        return slots

    def _take(self, name: object, count: int) -> list[int]:
        arena, size = self._arenas.setdefault(name, _Arena()), self.settings.page_tokens
        slots = []
        for _ in range(count):
            if arena.filling is None or arena.filled == size:
                self._close_page(arena)
                arena.filling, arena.filled = self.pool.take(), 0
                arena.live[arena.filling] = 0
            slots.append(arena.filling * size + arena.filled)
            arena.filled += 1
            arena.live[arena.filling] += 1
        return slots

    def _close_page(self, arena: _Arena) -> None:
        """A full page all of whose tokens have left is free as soon as no more can come into it."""
        if arena.filling is not None and not arena.live[arena.filling]:
            del arena.live[arena.filling]
            self.pool.release(arena.filling)

    def evict(self, second: int) -> int:
        """Makes room for a new second: what is kept afterwards leaves its place in both windows. Tokens gone."""
        before = len(self)
        if self.settings.vision_seconds is not None:
            self._evict_turns(second - self.settings.vision_seconds)
        if self.settings.text_tokens is not None:
            text = sum(len(run.tokens) for run in self.runs if run.kind is Kind.TEXT)
            self._evict_text(max(0, text - self.settings.text_tokens))
        return before - len(self)

    def _evict_turns(self, last: int) -> None:
        """Turns of seconds up to `last` leave, with their pages."""
        gone = {run.second for run in self.runs if run.kind is Kind.TURN and run.second <= last}
        self.runs = [run for run in self.runs if run.kind is not Kind.TURN or run.second not in gone]
        for second in sorted(gone):
            for page in self._arenas.pop((Kind.TURN, second)).live:
                self.pool.release(page)

    def _evict_text(self, count: int) -> None:
        """The oldest `count` tokens of text leave."""
        arena, size = self._arenas.get(Kind.TEXT), self.settings.page_tokens
        for run in self.runs:
            if run.kind is not Kind.TEXT or not count:
                continue
            assert arena is not None
            gone = run.drop(min(count, len(run.tokens)))
            count -= len(gone)
            for page in (slot // size for slot in gone):
                arena.live[page] -= 1
                if not arena.live[page] and page != arena.filling:
                    del arena.live[page]
                    self.pool.release(page)
        self.runs = [run for run in self.runs if run.tokens]

    def fork(self) -> StreamWindow:
        """A second window with the same past; what it appends goes into pages of its own."""
        other = StreamWindow(self.settings, self.pool)
        other.runs = [
            replace(run, tokens=list(run.tokens), slots=list(run.slots), indices=list(run.indices))
            for run in self.runs
        ]
        other.arrived, other._sinks = self.arrived, self.settings.sink_tokens
        shared = _Arena(live=dict.fromkeys(self.pages(), 0))
        for page in shared.live:
            self.pool.retain(page)
        other._arenas = {"shared": shared}
        return other

    def close(self) -> None:
        """Gives all pages back."""
        for page in list(self.pages()):
            self.pool.release(page)
        self.runs, self._arenas = [], {}
