"""/v1/streams: sessions that watch, with frames pushed by the client. Not OpenAI's."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from foveate.serve.protocol.common import Body, Loose

Count = Annotated[int, Field(ge=1, le=4096)]


class StreamRequest(Body):
    """Opens a stream; what is kept of it is decided here. Fields as in `foveate stream` and docs/decode.md."""

    model: str | None = None
    width: Annotated[int, Field(ge=1, le=8192)] = Field(description="Of the frames, in pixels.")
    height: Annotated[int, Field(ge=1, le=8192)] = Field(description="Of the frames, in pixels.")
    prompt: Annotated[str, Field(max_length=4000)] | None = Field(
        None,
        description="Asked of every second; empty for frames alone. Absent fields: as the model was trained.",
    )
    system: Annotated[str, Field(max_length=4000)] | None = Field(None, description="Instructions that stay.")
    frames_per_second: Annotated[int, Field(ge=1, le=30)] | None = None
    vision_seconds: Count | None = None
    text_tokens: Annotated[int, Field(ge=0, le=4096)] | None = None
    sink_tokens: Annotated[int, Field(ge=0, le=4096)] | None = None
    reply_tokens: Count | None = None
    question_tokens: Count | None = None
    answer_tokens: Count | None = None
    visual_budget: Annotated[str, Field(max_length=20)] | Annotated[int, Field(ge=1)] | None = Field(
        None, description="Visual tokens of each frame, as in a request."
    )
    reducer: Annotated[str, Field(max_length=100)] | None = None


class FrameRequest(Body):
    """One frame at its time."""

    image: Annotated[str, Field(min_length=1)] = Field(
        description="As in image_url: data:, https:, or a file id."
    )
    seconds: Annotated[float, Field(ge=0, le=1e9)] = Field(description="Of the stream, from 0.")


class QuestionRequest(Body):
    """A question about what is kept. The stream goes on as if it had not been asked."""

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    max_tokens: Count | None = None


class BoundObject(Loose):
    """The most that the stream can ever hold."""

    tokens: int
    pages: int
    bytes: int


class SecondObject(Loose):
    """A second that was watched and commented on; also the event of `GET /v1/streams/{stream_id}/events`."""

    second: int
    frames: int
    text: str
    finish_reason: Literal["stop", "length"]
    evicted: int
    tokens: int
    bytes: int
    milliseconds: float


class StreamObject(Loose):
    """A stream and what became of its frames."""

    id: str
    object: Literal["stream"] = "stream"
    model: str
    bound: BoundObject
    second: int
    frames_seen: int
    frames_used: int
    frames_dropped: dict[str, int]
    tokens: int
    bytes: int


class FrameReply(Loose):
    """The second that this frame ended, if it ended one; and all frames so far."""

    object: Literal["stream.frame"] = "stream.frame"
    report: SecondObject | None
    frames_seen: int
    frames_used: int
    frames_dropped: dict[str, int]


class AnswerReply(Loose):
    """The answer to a question."""

    object: Literal["stream.answer"] = "stream.answer"
    second: int
    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    completion_tokens: int


class StreamDeleted(Loose):
    """It is gone."""

    id: str
    object: Literal["stream"] = "stream"
    deleted: Literal[True] = True
