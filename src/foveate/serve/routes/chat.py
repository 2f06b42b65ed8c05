"""/v1/chat/completions."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from foveate.serve.context import Context, Here
from foveate.serve.errors import ApiError
from foveate.serve.front import Flight, Job
from foveate.serve.prompts import Conversation, visual_budget
from foveate.serve.protocol.chat import ChatReply, ChatRequest
from foveate.serve.replies import Envelope, chat_events, chat_reply, collect
from foveate.serve.sampling import sampling_parameters
from foveate.serve.streaming import EventStream, unless_gone
from foveate.serve.trace import headers_of

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatReply, tags=["OpenAI"])
async def create_chat_completion(body: ChatRequest, request: Request, here: Here) -> Response:
    """Goes on with a conversation about text and pictures; whole, or as server-sent events with `stream`."""
    model_name = here.require_model(body.model)
    _check(body)
    flight = here.front.enter()
    try:
        await unless_gone(request, _start(body, here, flight))
        envelope = Envelope(
            model=model_name,
            kind="chat.completion",
            prefix="chatcmpl",
            trace=bool(body.foveate_trace),
            usage=bool(body.stream_options and body.stream_options.include_usage),
            logprobs=bool(body.logprobs),
        )
        headers = headers_of(flight.statistics)
        if body.stream:
            return EventStream(chat_events(here.model, flight, envelope), flight.close, headers)
        answers = await unless_gone(request, collect(flight))
        reply = chat_reply(here.model, flight, envelope, answers)
    except BaseException:
        await flight.close()
        raise
    await flight.close()
    return JSONResponse(reply, headers=headers)


async def _start(body: ChatRequest, here: Context, flight: Flight) -> None:
    """Checks what is cheap to check, then fetches the pictures and waits for the first token."""
    conversation = Conversation(body.messages)
    visual = visual_budget(body, here.settings, details=conversation.details, question=conversation.question)
    parameters = sampling_parameters(
        body,
        here.settings,
        here.defaults,
        max_tokens=body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    await conversation.load(here.pictures, limit=here.settings.max_images)
    await flight.start(
        Job(
            messages=conversation.messages,
            parameters=parameters,
            visual=visual,
            priority=body.priority or 0,
            tenant=body.user or "",
        )
    )


def _check(body: ChatRequest) -> None:
    """Fields that do not go together."""
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise ApiError(
            f"max_tokens is {body.max_tokens} and max_completion_tokens {body.max_completion_tokens}",
            why="they mean the same",
            fix="Give max_completion_tokens alone.",
            param="max_tokens",
            code="invalid_value",
        )
    if body.top_logprobs and not body.logprobs:
        raise ApiError(
            "top_logprobs is given without logprobs",
            fix="Set logprobs to true.",
            param="top_logprobs",
            code="invalid_value",
        )
    if body.stream_options is not None and not body.stream:
        raise ApiError(
            "stream_options is given without stream",
            fix="Set stream to true.",
            param="stream_options",
            code="invalid_value",
        )
