"""From a request's messages to the engine's: pictures and videos fetched, tools and roles put into words.

Owns the way from content parts to bytes and decoded frames, and the visual budget that a request asks for. Nothing that
a client writes reaches a file name: pictures travel to the model as bytes alone, videos as frames.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from foveate.engine import VisualBudget
from foveate.errors import FoveateError
from foveate.reduce.budget import Budget
from foveate.reduce.registry import find
from foveate.serve.errors import ApiError, as_api_error
from foveate.serve.protocol.chat import (
    AssistantMessage,
    FilePart,
    ImagePart,
    Message,
    SystemMessage,
    TextPart,
    UserMessage,
    VideoPart,
)
from foveate.serve.protocol.common import SamplingFields
from foveate.serve.settings import ServeSettings
from foveate.serve.tools import call_text, response_text

if TYPE_CHECKING:
    from foveate.media import Video
    from foveate.models.base import VisionLanguageModel

FRAMES_PER_SECOND, MAX_FRAMES = 2.0, 8  # of a video, where the request does not say
DETAIL_BUDGETS = {"low": "25%", "high": "full"}


class Pictures(Protocol):
    """Where a picture's bytes come from."""

    async def read(self, source: str, *, owner: str) -> bytes:
        """The bytes of a data: URI, an address or the id of a file of this owner.

        Raises:
            FoveateError: refused, or not there.
        """

    async def video(self, source: str, *, frames_per_second: float, max_frames: int) -> Video:
        """Frames of a video with their times.

        Raises:
            FoveateError: refused, or no video.
        """


@dataclass(frozen=True, kw_only=True)
class MediaLimit:
    """What one request may bring.

    Attributes:
        pictures: stills; frames of videos are among them where the model looks at frames as pictures.
        frames: of all videos together, where the model reads videos; None where it does not.
    """

    pictures: int
    frames: int | None = None

    @classmethod
    def of(cls, model: VisionLanguageModel, settings: ServeSettings) -> MediaLimit:
        """A server's."""
        frames = settings.max_video_frames if model.accepts_videos else None
        return cls(pictures=settings.max_images, frames=frames)


@dataclass(frozen=True, kw_only=True)
class _Medium:
    """A content part that is fetched: where it stands, what becomes of it, and what names it.

    Attributes:
        made: the part for `model.prepare`, which gets its content when that is loaded.
        frames_per_second: of a video; None for a picture.
        limit: frames of a video; 1 for a picture.
    """

    place: str
    made: dict[str, Any]
    source: str
    frames_per_second: float | None = None
    limit: int = 1


class Conversation:
    """A request's messages on their way to the engine.

    Attributes:
        messages: for `model.prepare`; each picture is {"type": "image"} and each video {"type": "video"}, with its
            bytes or frames once it is loaded.
        question: the last user's words, for methods that read them.
        details: what the pictures ask for by `detail`.
        digests: of the pictures' bytes and of videos, once they are loaded.
    """

    def __init__(
        self, messages: Sequence[Message], *, instructions: str = "", root: str = "messages"
    ) -> None:
        self._root = root
        self.messages: list[dict[str, Any]] = []
        self.question = ""
        self.details: set[str] = set()
        self.digests: list[str] = []
        self._media: list[_Medium] = []
        for index, message in enumerate(messages):
            self._add(index, message)
        if instructions:
            self._instruct(instructions)

    def _instruct(self, instructions: str) -> None:
        """Puts them into the first system message, or in front."""
        first = self.messages[0]
        if first["role"] == "system":
            first["content"] = f"{first['content']}\n\n{instructions}"
        else:
            self.messages.insert(0, {"role": "system", "content": instructions})

    def _add(self, index: int, message: Message) -> None:
        content: Any = getattr(message, "content", None)
        if isinstance(message, UserMessage):
            self.question = _words(message.content)
            if isinstance(content, list):
                content = [
                    self._part(f"{self._root}[{index}].content[{at}]", part)
                    for at, part in enumerate(content)
                ]
            self.messages.append({"role": "user", "content": content})
        elif isinstance(message, SystemMessage):
            self.messages.append({"role": "system", "content": _words(message.content)})
        elif isinstance(message, AssistantMessage):
            calls = call_text(message.tool_calls or ())
            said = "\n".join(words for words in (_words(message.content), calls) if words)
            self.messages.append({"role": "assistant", "content": said})
        else:  # as Qwen's template writes it; few templates know the role
            self.messages.append({"role": "user", "content": response_text(_words(message.content))})

    def _part(self, place: str, part: TextPart | ImagePart | VideoPart | FilePart) -> dict[str, Any]:
        if isinstance(part, TextPart):
            return {"type": "text", "text": part.text}
        if isinstance(part, VideoPart):
            asked, made = part.video_url, {"type": "video"}
            medium = _Medium(
                place=place,
                made=made,
                source=asked.url,
                frames_per_second=asked.frames_per_second or FRAMES_PER_SECOND,
                limit=asked.max_frames or MAX_FRAMES,
            )
            self._media.append(medium)
            return made
        made = {"type": "image"}
        source = part.file.file_id if isinstance(part, FilePart) else part.image_url.url
        if isinstance(part, ImagePart):
            self.details.add(part.image_url.detail or "auto")
        self._media.append(_Medium(place=place, made=made, source=source))
        return made

    def _check(self, limit: MediaLimit) -> None:
        """Refuses more than the limit; a video counts for as many frames as it was asked for, if it has fewer too."""
        frames = sum(medium.limit for medium in self._media if medium.frames_per_second is not None)
        stills = sum(medium.frames_per_second is None for medium in self._media)
        among = limit.frames is None and frames > 0
        if stills + frames * among > limit.pictures:
            raise ApiError(
                f"The request has {stills + frames * among} pictures"
                + (", frames of videos among them" if among else ""),
                why=f"this server takes {limit.pictures} at most",
                fix="Send fewer, or give videos a smaller max_frames." if among else "Send fewer.",
                param="messages",
                code="too_many_images",
            )
        if limit.frames is not None and frames > limit.frames:
            raise ApiError(
                f"The request has videos of {frames} frames together",
                why=f"this server takes {limit.frames} at most",
                fix="Give them a smaller max_frames.",
                param="messages",
                code="too_many_frames",
            )

    async def load(self, pictures: Pictures, *, limit: MediaLimit, owner: str) -> None:
        """Fetches every picture and video, all at once.

        Raises:
            ApiError: too many, or one is refused; `param` says which.
        """
        self._check(limit)
        tasks = [asyncio.ensure_future(_read(pictures, medium, owner)) for medium in self._media]
        try:
            for medium, task in zip(self._media, tasks, strict=True):
                try:
                    found = await task
                except FoveateError as error:
                    told = as_api_error(error)
                    told.param = medium.place
                    raise told from error
                if isinstance(found, bytes):
                    medium.made["image"] = found
                    self.digests.append(hashlib.sha256(found).hexdigest())
                else:
                    medium.made["video"] = found
                    self.digests.append(found.digest)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _read(pictures: Pictures, medium: _Medium, owner: str) -> bytes | Video:
    if medium.frames_per_second is None:
        return await pictures.read(medium.source, owner=owner)
    return await pictures.video(
        medium.source, frames_per_second=medium.frames_per_second, max_frames=medium.limit
    )


def _words(content: str | Sequence[Any] | None) -> str:
    """The text of a message's content."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.text for part in content if isinstance(part, TextPart))


def visual_budget(
    request: SamplingFields, settings: ServeSettings, *, details: set[str], question: str
) -> VisualBudget | None:
    """How many visual tokens the request's pictures keep; None for all.

    Raises:
        ApiError: the budget cannot be read, no such method, or the pictures' `detail` disagree.
    """
    asked = request.visual_budget
    by_detail = {DETAIL_BUDGETS[detail] for detail in details if detail in DETAIL_BUDGETS}
    if len(by_detail) > 1 or (by_detail and "auto" in details):
        raise ApiError(
            "The pictures of the request differ in detail",
            why="one visual budget holds for all pictures of a request",
            fix="Give all the same detail, or visual_budget alone.",
            param="messages",
            code="invalid_value",
        )
    if asked is not None and by_detail:
        raise ApiError(
            f"The request gives both visual_budget ({asked}) and detail",
            why=f"detail means a visual budget of {by_detail.pop()}",
            fix="Give one of them.",
            param="visual_budget",
            code="invalid_value",
        )
    chosen = asked if asked is not None else next(iter(by_detail), settings.visual_budget)
    with _named("visual_budget"):
        budget = Budget.parse(chosen)
    reducer = request.reducer if request.reducer is not None else settings.reducer
    with _named("reducer"):
        find(reducer)
    if budget.kind == "full":
        return None
    return VisualBudget(budget=budget, reducer=reducer, question=question)


@contextmanager
def _named(param: str) -> Iterator[None]:
    """Errors inside name this field."""
    try:
        yield
    except FoveateError as error:
        told = as_api_error(error)
        told.param = param
        raise told from error
