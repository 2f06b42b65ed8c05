"""How much of a stream is kept, and the most memory that can take, known before the first frame.

Owns the settings, their ranges, the file in which a checkpoint keeps those it was trained for, and the arithmetic of
the bound. Knows no torch and no models.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from foveate.errors import FoveateError, nearest

CONTIGUOUS, ABSOLUTE = "contiguous", "absolute"
MIB = 2**20
SETTINGS_FILE = "stream_config.json"
PROMPT = "How many objects are there?"


class StreamError(FoveateError):
    """A stream that cannot be begun or gone on with as asked."""


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What stays of a stream. The defaults fit the embedded model's context of 1,024 tokens.

    Attributes:
        frames_per_second: frames looked at in a second of the stream; the others are dropped and counted.
        vision_seconds: seconds whose frames are kept, the newest included; None keeps all.
        text_tokens: tokens of earlier replies that are kept beside the sinks; None keeps all.
        sink_tokens: the first tokens of text, which never leave (instructions; StreamingLLM, arXiv 2309.17453);
            0 for none, which loses the instructions as soon as the window of text has moved.
        reply_tokens: longest comment on one second.
        question_tokens, answer_tokens: room for one question asked meanwhile, and its answer.
        visual_budget: visual tokens of each frame: "full", "auto", a number or a share ("25%"); see docs/reduction.md.
        reducer: the method that they are cut by.
        page_tokens: memory is taken and given back in pages of as many tokens.
        positions: "contiguous" numbers what is kept from 0 at every step; "absolute" keeps the numbers that tokens
            came with, which grow past everything a model was trained on (1-D positions only; for comparison).
        longest_seconds: ends the stream; needed where nothing leaves, for there is no bound otherwise.

    Raises:
        StreamError: a value outside its range.
    """

    frames_per_second: int = 1
    vision_seconds: int | None = 4
    text_tokens: int | None = 96
    sink_tokens: int = 64
    reply_tokens: int = 20
    question_tokens: int = 48
    answer_tokens: int = 32
    visual_budget: str = "full"
    reducer: str = "average_pool"
    page_tokens: int = 16
    positions: str = CONTIGUOUS
    longest_seconds: int | None = None

    def __post_init__(self) -> None:
        least = {"sink_tokens": 0, "text_tokens": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < least.get(field.name, 1):
                raise StreamError(
                    f"{field.name} is {value}", why=f"it must be {least.get(field.name, 1)} or more"
                )
        if self.positions not in (CONTIGUOUS, ABSOLUTE):
            raise StreamError(
                f"There are no {self.positions!r} positions",
                fix=nearest(self.positions, (CONTIGUOUS, ABSOLUTE)),
            )
        if None in (self.vision_seconds, self.text_tokens) and self.longest_seconds is None:
            raise StreamError(
                "A stream of which nothing leaves has no bound",
                why="vision_seconds or text_tokens is None, and so is longest_seconds",
                fix="Set a window, or longest_seconds.",
            )


@dataclass(frozen=True, kw_only=True)
class StreamDefaults:
    """What a checkpoint is streamed with where nothing else is asked for: `prompt` is put to every second."""

    settings: StreamSettings = StreamSettings()
    prompt: str = PROMPT

    @classmethod
    def of(cls, folder: Path) -> StreamDefaults:
        """Those that a checkpoint's folder names, ours where it names none.

        Raises:
            StreamError: its file cannot be read, or names no settings.
        """
        file = folder / SETTINGS_FILE
        if not file.is_file():
            return cls()
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            return cls(prompt=told.pop("prompt"), settings=StreamSettings(**told))
        except (ValueError, KeyError, TypeError) as error:
            raise StreamError(
                f"{file} has no settings of a stream", why=repr(error), fix="Remove it."
            ) from error

    def write(self, folder: Path) -> None:
        """Puts them beside the weights."""
        told = {"prompt": self.prompt, **asdict(self.settings)}
        (folder / SETTINGS_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class StreamBound:
    """The most that a stream can ever hold.

    Attributes:
        turn_tokens: visual tokens of one second and the text around them.
        tokens: of the stream itself, a reply being written included.
        positions: the same with one question and its answer.
        pages: of the keys and values, that question included.
        bytes: of those pages and of the row of turned keys and values beside them; taken before the first frame.
    """

    turn_tokens: int
    tokens: int
    positions: int
    pages: int
    bytes: int

    def text(self) -> str:
        """What is printed before a stream starts."""
        return (
            f"at most {self.tokens:,} tokens, {self.positions:,} with a question: "
            f"{self.pages:,} pages, {self.bytes / MIB:,.1f} MiB"
        )

    def require(self, *, memory: int, context: int) -> None:
        """Refuses a window that is larger than the memory or than what the model's positions reach.

        Raises:
            StreamError: with both numbers.
        """
        smaller = "Keep fewer seconds (vision_seconds), frames a second or tokens of text."
        if self.bytes > memory:
            raise StreamError(
                f"The window takes {self.bytes / MIB:,.1f} MiB of keys and values",
                why=f"{memory / MIB:,.1f} MiB are left",
                fix=smaller,
            )
        if self.positions > context:
            raise StreamError(
                f"The window holds up to {self.positions:,} tokens with a question and its answer",
                why=f"the model's context is {context:,}",
                fix=smaller,
            )


def bound_of(settings: StreamSettings, *, turn_tokens: int, token_bytes: int) -> StreamBound:
    """The bound of a stream whose every second brings at most `turn_tokens`, at `token_bytes` of keys and values.

    Before a second comes in, text is cut to its window and the vision of seconds that have left it is gone. So the
    most is held at the end of a second: all sinks, the window of text and a whole reply, and a window of turns.
    """
    page = settings.page_tokens

    def pages(tokens: int) -> int:
        return -(-tokens // page)

    turns = settings.vision_seconds or settings.longest_seconds or 0
    kept = settings.text_tokens
    if kept is None:
        kept = (settings.longest_seconds or 0) * settings.reply_tokens
    text, asked = kept + settings.reply_tokens, settings.question_tokens + settings.answer_tokens
    tokens = settings.sink_tokens + text + turns * turn_tokens
    # Text leaves token by token: its first and its last page may be ragged. A second's pages are its own.
    total = pages(settings.sink_tokens) + pages(text) + 1 + turns * pages(turn_tokens) + pages(asked)
    return StreamBound(
        turn_tokens=turn_tokens,
        tokens=tokens,
        positions=tokens + asked,
        pages=total,
        bytes=(total * page + tokens + asked) * token_bytes,
    )
