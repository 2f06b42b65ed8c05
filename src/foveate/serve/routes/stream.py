"""/v1/streams: a session with frames pushed by the client, its comments as replies and as server-sent events.

Owns the form of requests and replies. What is kept of a stream is `foveate.decode.streaming`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import StreamingResponse

from foveate.serve.context import Context, Here
from foveate.serve.protocol.streams import (
    AnswerReply,
    FrameReply,
    FrameRequest,
    QuestionRequest,
    StreamDeleted,
    StreamObject,
    StreamRequest,
)
from foveate.serve.streaming import DONE, STREAMED, EventStream, event
from foveate.serve.streams import Stream

router = APIRouter()
_OF_THE_SESSION = ("prompt", "system", "width", "height")


def _owner(here: Context, request: Request) -> str:
    caller = here.caller_of(request)
    return "" if caller is None else caller.name


def _told(here: Context, stream: Stream) -> dict[str, Any]:
    return {"id": stream.id, "object": "stream", "model": here.model_name, **stream.session.statistics()}


def _second(report: Any) -> dict[str, Any]:
    return {
        "second": report.second,
        "frames": report.frames,
        "text": report.reply.text,
        "finish_reason": report.reply.finish_reason,
        "evicted": report.evicted,
        "tokens": report.tokens,
        "bytes": report.bytes,
        "milliseconds": round(1000 * report.seconds, 3),
    }


@router.post("/v1/streams", response_model=StreamObject, tags=["foveate"])
async def open_stream(body: StreamRequest, request: Request, here: Here) -> dict[str, Any]:
    """Opens a stream that frames are pushed into; tells the most memory it will ever take."""
    from foveate.decode.streaming import StreamDefaults, StreamingSession

    here.require_model(body.model)
    owner = _owner(here, request)
    given = body.model_dump(exclude_none=True, exclude={"model"})
    if "visual_budget" in given:
        given["visual_budget"] = str(given["visual_budget"])
    of_session = {name: given.pop(name) for name in _OF_THE_SESSION if name in given}
    async with here.front.enter() as flight:
        _admit(here, request, flight)
        settings = replace(StreamDefaults.of(here.model.folder).settings, **given)
        stream = await here.streams.open(owner, lambda: StreamingSession(here.model, settings, **of_session))
    return _told(here, stream)


def _admit(here: Context, request: Request, flight: Any) -> None:
    """Counts the request against its key."""
    caller = here.caller_of(request)
    if caller is not None:
        admission = caller.admit(0)
        flight.on_close(lambda _: admission.settle(0))


@router.get("/v1/streams/{stream_id}", response_model=StreamObject, tags=["foveate"])
async def get_stream(stream_id: str, request: Request, here: Here) -> dict[str, Any]:
    """What became of a stream's frames, and what is kept."""
    return _told(here, here.streams.get(stream_id, _owner(here, request)))


@router.post("/v1/streams/{stream_id}/frames", response_model=FrameReply, tags=["foveate"])
async def push_frame(stream_id: str, body: FrameRequest, request: Request, here: Here) -> dict[str, Any]:
    """A frame at its time; the reply has the comment on the second that it ended, if it ended one."""
    owner = _owner(here, request)
    stream = here.streams.get(stream_id, owner)
    async with here.front.enter() as flight:
        _admit(here, request, flight)
        data = await here.pictures.read(body.image, owner=owner)
        report = await here.streams.work(stream, lambda session: session.push_frame(data, body.seconds))
    told = None if report is None else _second(report)
    if told is not None:
        stream.tell(told)
    counts = stream.session.statistics()
    kept = {name: counts[name] for name in ("frames_seen", "frames_used", "frames_dropped")}
    return {"object": "stream.frame", "report": told, **kept}


@router.post("/v1/streams/{stream_id}/questions", response_model=AnswerReply, tags=["foveate"])
async def ask_stream(stream_id: str, body: QuestionRequest, request: Request, here: Here) -> dict[str, Any]:
    """Answers from what is kept, on a clone: the stream goes on as if it had not been asked."""
    stream = here.streams.get(stream_id, _owner(here, request))
    async with here.front.enter() as flight:
        _admit(here, request, flight)
        answer = await here.streams.work(
            stream, lambda session: session.ask(body.question, max_tokens=body.max_tokens)
        )
    return {
        "object": "stream.answer",
        "second": stream.session.second,
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": len(answer.token_ids),
    }


@router.get(
    "/v1/streams/{stream_id}/events", response_class=StreamingResponse, responses=STREAMED, tags=["foveate"]
)
async def stream_events(stream_id: str, request: Request, here: Here) -> EventStream:
    """The comments from now on as server-sent events, until the stream is closed."""
    stream = here.streams.get(stream_id, _owner(here, request))

    async def events() -> AsyncIterator[bytes]:
        async for told in stream.events():
            yield event(told)
        yield DONE

    async def nothing() -> None:
        """A listener leaves by itself."""

    return EventStream(events(), nothing)


@router.delete("/v1/streams/{stream_id}", response_model=StreamDeleted, tags=["foveate"])
async def close_stream(stream_id: str, request: Request, here: Here) -> dict[str, Any]:
    """Closes a stream and gives its memory back."""
    stream = here.streams.get(stream_id, _owner(here, request))
    await here.streams.remove(stream)
    return {"id": stream.id, "object": "stream", "deleted": True}
