"""/v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from foveate.engine import OutputConstraint
from foveate.serve.context import Here
from foveate.serve.errors import ApiError
from foveate.serve.fingerprint import fingerprint_of
from foveate.serve.flights import Flight
from foveate.serve.generate import answer
from foveate.serve.jobs import Job
from foveate.serve.prompts import Conversation, visual_budget
from foveate.serve.protocol.chat import ChatReply, ChatRequest, JsonFormat, JsonSchemaFormat, ResponseFormat
from foveate.serve.replies import Envelope, chat_events, chat_reply
from foveate.serve.sampling import sampling_parameters
from foveate.serve.streaming import STREAMED
from foveate.serve.tools import Toolbox, toolbox

router = APIRouter()


@router.post("/v1/chat/completions", response_model=ChatReply, responses=STREAMED, tags=["OpenAI"])
async def create_chat_completion(body: ChatRequest, request: Request, here: Here) -> Response:
    """Goes on with a conversation about text and pictures; whole, or as server-sent events with `stream`."""
    model_name = here.require_model(body.model)
    _check(body)
    tools = toolbox(body)
    conversation = Conversation(body.messages, instructions=tools.instructions if tools else "")
    job = Job(
        prompt=conversation.messages,
        parameters=sampling_parameters(
            body,
            here.settings,
            here.defaults,
            max_tokens=body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens,
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            constraint=_constraint(body, tools),
        ),
        visual=visual_budget(
            body, here.settings, details=conversation.details, question=conversation.question
        ),
        priority=body.priority or 0,
        tenant=body.user or "",
    )
    envelope = Envelope(
        model=model_name,
        kind="chat.completion",
        prefix="chatcmpl",
        fingerprint=await fingerprint_of(here),
        trace=bool(body.foveate_trace),
        usage=bool(body.stream_options and body.stream_options.include_usage),
        logprobs=bool(body.logprobs),
        tools=tools is not None,
    )

    def events(flight: Flight) -> AsyncIterator[bytes]:
        return chat_events(here.model, flight, envelope)

    return await answer(
        request,
        here,
        job,
        conversation=conversation,
        whole=lambda flight, answers: chat_reply(here.model, flight, envelope, answers),
        events=events if body.stream else None,
    )


def _constraint(body: ChatRequest, tools: Toolbox | None) -> OutputConstraint | None:
    asked = format_constraint(body.response_format)
    if tools is None:
        return asked
    if asked is not None:
        raise ApiError(
            "The request gives both response_format and tools that may be called",
            why="an answer is held to one form",
            fix='Set tool_choice to "none", or leave response_format out.',
            param="response_format",
            code="invalid_value",
        )
    return tools.constraint


def format_constraint(asked: ResponseFormat | None) -> OutputConstraint | None:
    """What a response_format holds the answer to."""
    if isinstance(asked, JsonFormat):
        return OutputConstraint(json_object=True)
    if isinstance(asked, JsonSchemaFormat):
        return OutputConstraint(json_schema=asked.json_schema.schema_)
    return None


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
