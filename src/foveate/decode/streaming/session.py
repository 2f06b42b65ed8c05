"""A stream that is watched: frames in by their time, a comment on every second, questions at any time.

Owns what is done with frames (taken, or dropped and counted), the loop that writes a reply, and the answers given on a
fork of the state. Knows no video files, no clocks of the outside and no HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from foveate.decode.streaming.frames import FrameCounts, FrameReader, shortened
from foveate.decode.streaming.settings import (
    StreamBound,
    StreamDefaults,
    StreamError,
    StreamSettings,
    bound_of,
)
from foveate.decode.streaming.state import Piece, StreamState, require_streamable, token_bytes
from foveate.decode.streaming.turns import Turns
from foveate.decode.streaming.window import Kind
from foveate.errors import FoveateError
from foveate.models.generation import IncrementalDetokenizer, end_token_ids
from foveate.models.parts.free_memory import free_bytes
from foveate.models.records import PreparedMedia

if TYPE_CHECKING:
    from foveate.media import ImageSource
    from foveate.models.base import VisionLanguageModel


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was said. `finish_reason` is "stop" or "length"; times in seconds."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SecondReport:
    """One second of the stream, watched and commented on.

    Attributes:
        second: of the stream's own time.
        frames: frames of it that were looked at.
        reply: the comment.
        evicted: tokens that left before this second came in.
        tokens, pages: kept now; bytes: of those pages.
        encode_seconds, prefill_seconds, decode_seconds: the tower; the new tokens; the reply.
    """

    second: int
    frames: int
    reply: Answer
    evicted: int
    tokens: int
    pages: int
    bytes: int
    encode_seconds: float
    prefill_seconds: float
    decode_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.encode_seconds + self.prefill_seconds + self.decode_seconds


class StreamingSession:
    """One stream on one model. Not for two threads at once.

    Args:
        settings: None for those that the checkpoint was trained for, or ours.
        width, height: of the frames in pixels; the bound is computed from them.
        prompt: asked of every second, "" for frames alone; None as with `settings`.
        system: instructions at the start of the stream, which stay for ever as sinks.
        memory_bytes: what keys and values may take; None for what is free on the device now.

    Attributes:
        bound: the most it can hold.
        frames: what became of the frames.

    Raises:
        StreamError: the model cannot be streamed, or the window is larger than memory or context.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        settings: StreamSettings | None = None,
        *,
        width: int,
        height: int,
        prompt: str | None = None,
        system: str | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        defaults = StreamDefaults.of(model.folder)
        self.model, self.settings = model, settings or defaults.settings
        self.prompt = defaults.prompt if prompt is None else prompt
        require_streamable(model, self.settings)
        self._turns = Turns(model, system)
        self._reader = FrameReader(model, self.settings, width=width, height=height, question=self.prompt)
        self.bound: StreamBound = self._bound()
        memory = free_bytes(model.device)[0] if memory_bytes is None else memory_bytes
        self.bound.require(memory=memory, context=model.context_length)
        self.frames = FrameCounts()
        self._state = StreamState(model, self.settings, self.bound)
        self._stops = end_token_ids(model)
        self._pending: list[PreparedMedia] = []
        self._tick = -1  # of the newest frame, counted in 1 / frames_per_second
        self._carry: list[int] = []  # decided, and not yet run
        self._begun = False
        if self._turns.opening:
            self._state.extend([Piece(kind=Kind.TEXT, tokens=self._turns.opening, second=-1)])

    def _bound(self) -> StreamBound:
        reader = self._reader
        frames = (reader.grid,) * self.settings.frames_per_second
        turn = len(self._turns.between) + len(self._turns.turn(self.prompt, frames))
        turn -= (reader.grid.tokens - reader.tokens) * len(frames)
        opening = len(self._turns.opening)
        kept = self.settings.sink_tokens or self.settings.text_tokens
        if kept is not None and kept < opening:
            what = "sink_tokens" if self.settings.sink_tokens else "text_tokens"
            raise StreamError(
                f"The stream opens with {opening} tokens",
                why=f"{what} is {kept}, which would lose the rest",
                fix=f"Set {what} to {opening} or more, or shorten the instructions.",
            )
        return bound_of(self.settings, turn_tokens=turn, token_bytes=token_bytes(self.model))

    @property
    def second(self) -> int:
        """Of the newest frame; -1 before the first."""
        return self._tick // self.settings.frames_per_second

    @property
    def token_ids(self) -> list[int]:
        """All that is kept, in order, what is decided and not yet run included."""
        return [*self._state.window.tokens(), *self._carry]

    @property
    def kept(self) -> tuple[int, int, int]:
        """Tokens kept now, pages they are in, and bytes of those pages."""
        pool, page = self._state.window.pool, self.settings.page_tokens
        pages = pool.in_use
        return len(self._state.window), pages, pages * page * token_bytes(self.model)

    def push_frame(
        self, image: ImageSource | Callable[[], ImageSource], seconds: float
    ) -> SecondReport | None:
        """A frame at its time. The report of a second comes with its last frame, or with the first of a later one.

        Of the frames that fall into the same part of a second (1 / frames_per_second) the first is taken; one whose
        time is before that of a frame taken already comes too late. Both are dropped and counted.

        Args:
            image: anything `open_image` takes, or a function that makes it, called only if the frame is taken.
            seconds: of the stream, from 0.

        Raises:
            StreamError: a time that is no time, or a frame that becomes more tokens than the bound was made for.
            MediaError: it cannot be opened.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise StreamError(
                f"A frame comes at {seconds!r} seconds",
                why="times of a stream count from 0",
                fix="Correct the source.",
            )
        longest = self.settings.longest_seconds
        if longest is not None and seconds >= longest:
            raise StreamError(f"The stream was opened for {longest} seconds", fix="Open it anew.")
        self.frames.seen += 1
        rate = self.settings.frames_per_second
        tick = math.floor(seconds * rate + 1e-6)
        if tick <= self._tick:
            self.frames.dropped["rate" if tick == self._tick else "late"] += 1
            return None
        try:
            item = self._reader.prepared(image() if callable(image) else image)
        except FoveateError:
            self.frames.dropped["refused"] += 1
            raise
        report = self.flush() if tick // rate > self.second else None
        self._tick = tick
        self._pending.append(item)
        self.frames.used += 1
        if tick % rate == rate - 1:
            return report or self.flush()
        return report

    def flush(self) -> SecondReport | None:
        """Ends the second that is under way: its report; None where no frame is waiting."""
        if not self._pending:
            return None
        media, second = tuple(self._pending), self.second
        self._pending = []
        evicted = self._state.evict(second)
        started = time.perf_counter()
        frames = tuple(self._reader.seen(media))
        encoded = time.perf_counter()
        between = self._turns.between if self._begun else []
        whole = self._turns.turn(self.prompt, tuple(item.grid for item in media))
        short = shortened(whole, self.model.image_token_id, [frame.keep for frame in frames])
        turn = Piece(kind=Kind.TURN, tokens=[*between, *short], second=second, frames=frames)
        logits = self._state.extend([*self._carried(second), turn])
        self._carry, self._begun = [], True
        prefilled = time.perf_counter()
        reply = self._reply(self._state, logits, second, self.settings.reply_tokens, started)
        # The last token of a reply cut short is run with what comes next.
        self._carry = list(reply.token_ids[-1:]) if reply.finish_reason == "length" else []
        tokens, pages, held = self.kept
        return SecondReport(
            second=second,
            frames=len(media),
            reply=reply,
            evicted=evicted,
            tokens=tokens,
            pages=pages,
            bytes=held,
            encode_seconds=encoded - started,
            prefill_seconds=prefilled - encoded,
            decode_seconds=time.perf_counter() - prefilled,
        )

    def _carried(self, second: int) -> list[Piece]:
        return [Piece(kind=Kind.TEXT, tokens=self._carry, second=second)] if self._carry else []

    def ask(self, question: str, *, max_tokens: int | None = None) -> Answer:
        """Answers from what is kept, on a fork of the state: the stream goes on as if it had not been asked.

        Raises:
            StreamError: the question or the answer is longer than the room that was set aside.
        """
        room = self.settings.answer_tokens
        if max_tokens is not None and not 1 <= max_tokens <= room:
            raise StreamError(
                f"An answer of {max_tokens} tokens is asked for",
                why=f"answer_tokens is {room}, and the least is 1",
            )
        between = self._turns.between if self._begun else []
        tokens = [*between, *self._turns.turn(question)]
        carried = self._carried(self.second)
        length = len(tokens) + len(self._carry)
        if length > self.settings.question_tokens:
            raise StreamError(
                f"The question takes {length} tokens with the template around it",
                why=f"question_tokens is {self.settings.question_tokens}",
                fix="Ask in fewer words, or open the stream with more room.",
            )
        started = time.perf_counter()
        fork = self._state.fork()
        try:
            logits = fork.extend([*carried, Piece(kind=Kind.TEXT, tokens=tokens, second=self.second)])
            return self._reply(fork, logits, self.second, max_tokens or room, started)
        finally:
            fork.close()

    def _reply(
        self, state: StreamState, logits: torch.Tensor, second: int, limit: int, started: float
    ) -> Answer:
        """Greedy, until an end token or the limit; every token but the last is run."""
        prompt = len(state.window)
        detokenizer, ids, text = IncrementalDetokenizer(self.model.tokenizer), [], ""
        while True:
            token = int(logits.argmax())
            if token in self._stops:
                break
            ids.append(token)
            text += detokenizer.push(token)
            if len(ids) == limit:
                break
            logits = state.extend([Piece(kind=Kind.TEXT, tokens=[token], second=second)])
        return Answer(
            text=text + detokenizer.flush(),
            token_ids=tuple(ids),
            finish_reason="length" if len(ids) == limit else "stop",
            prompt_tokens=prompt,
            seconds=time.perf_counter() - started,
        )

    def statistics(self) -> dict[str, Any]:
        """For people and JSON: what became of the frames, and what is kept."""
        tokens, pages, held = self.kept
        return {
            "second": self.second,
            "frames_seen": self.frames.seen,
            "frames_used": self.frames.used,
            "frames_dropped": dict(self.frames.dropped),
            "tokens": tokens,
            "pages": pages,
            "bytes": held,
            "most_pages": self._state.window.pool.most_in_use,
            "bound": {"tokens": self.bound.tokens, "pages": self.bound.pages, "bytes": self.bound.bytes},
        }

    def close(self) -> None:
        """Gives back what it holds. A second call does nothing."""
        self._state.end()
