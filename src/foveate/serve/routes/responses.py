"""/v1/responses: OpenAI's newer form of a conversation, as far as it needs no storage and no tools."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from foveate.engine import Completion, OutputConstraint
from foveate.serve.context import Here
from foveate.serve.errors import ApiError
from foveate.serve.flights import Flight
from foveate.serve.generate import answer
from foveate.serve.jobs import Job
from foveate.serve.prompts import Conversation, visual_budget
from foveate.serve.protocol import chat
from foveate.serve.protocol.responses import (
    InputImage,
    InputMessage,
    InputText,
    ObjectForm,
    OutputMessage,
    ResponsesReply,
    ResponsesRequest,
    SchemaForm,
)
from foveate.serve.replies import Envelope, finish
from foveate.serve.sampling import sampling_parameters
from foveate.serve.streaming import STREAMED, event

router = APIRouter()


@router.post("/v1/responses", response_model=ResponsesReply, responses=STREAMED, tags=["OpenAI"])
async def create_response(body: ResponsesRequest, request: Request, here: Here) -> Response:
    """Answers a conversation; whole, or as server-sent events with `stream`."""
    model_name = here.require_model(body.model)
    conversation = Conversation(_messages(body), instructions=body.instructions or "", root="input")
    job = Job(
        prompt=conversation.messages,
        parameters=sampling_parameters(
            body,
            here.settings,
            here.defaults,
            max_tokens=body.max_output_tokens,
            constraint=_constraint(body),
        ),
        visual=visual_budget(
            body, here.settings, details=conversation.details, question=conversation.question
        ),
        priority=body.priority or 0,
        tenant=body.user or "",
    )
    envelope = Envelope(model=model_name, kind="response", prefix="resp", trace=bool(body.foveate_trace))
    shape = _Shape(body, envelope, job)

    def events(flight: Flight) -> AsyncIterator[bytes]:
        return _events(shape, flight, lambda: finish(here.model, flight, envelope))

    return await answer(
        request,
        here,
        job,
        conversation=conversation,
        whole=lambda flight, answers: shape.whole(answers[0], finish(here.model, flight, envelope)),
        events=events if body.stream else None,
    )


def _messages(body: ResponsesRequest) -> list[Any]:
    """The turns as those of a chat."""
    if isinstance(body.input, str):
        return [chat.UserMessage(role="user", content=body.input)]
    return [_message(at, turn) for at, turn in enumerate(body.input)]


def _message(at: int, turn: InputMessage | OutputMessage) -> Any:
    if isinstance(turn, OutputMessage):
        said = turn.content if isinstance(turn.content, str) else "".join(part.text for part in turn.content)
        return chat.AssistantMessage(role="assistant", content=said)
    if turn.role != "user":
        if not isinstance(turn.content, str) and any(isinstance(part, InputImage) for part in turn.content):
            raise ApiError(
                "A system message has a picture", fix="Put it into a user message.", param=f"input[{at}]",
                code="invalid_value",
            )  # fmt: skip
        words = turn.content if isinstance(turn.content, str) else _joined(turn.content)
        return chat.SystemMessage(role="system", content=words)
    if isinstance(turn.content, str):
        return chat.UserMessage(role="user", content=turn.content)
    parts: list[chat.TextPart | chat.ImagePart | chat.VideoPart | chat.FilePart] = [
        _part(f"input[{at}].content[{place}]", part) for place, part in enumerate(turn.content)
    ]
    return chat.UserMessage(role="user", content=parts)


def _joined(parts: Sequence[InputText | InputImage]) -> str:
    return "".join(part.text for part in parts if isinstance(part, InputText))


def _part(place: str, part: InputText | InputImage) -> chat.TextPart | chat.ImagePart:
    if isinstance(part, InputText):
        return chat.TextPart(type="text", text=part.text)
    if (part.image_url is None) == (part.file_id is None):
        raise ApiError(
            f"{place} needs either image_url or file_id", fix="Give exactly one.", param=place,
            code="invalid_value",
        )  # fmt: skip
    url = chat.ImageUrl(url=part.image_url or part.file_id or "", detail=part.detail)
    return chat.ImagePart(type="image_url", image_url=url)


def _constraint(body: ResponsesRequest) -> OutputConstraint | None:
    form = None if body.text is None else body.text.format
    if isinstance(form, SchemaForm):
        return OutputConstraint(json_schema=form.schema_)
    return OutputConstraint(json_object=True) if isinstance(form, ObjectForm) else None


class _Shape:
    """The form of one reply's objects."""

    def __init__(self, body: ResponsesRequest, envelope: Envelope, job: Job) -> None:
        self._body, self._envelope, self._job = body, envelope, job
        self.item_id = f"msg_{envelope.id}"

    def part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

    def item(self, text: str | None, status: str) -> dict[str, Any]:
        content = [] if text is None else [self.part(text)]
        return {
            "type": "message",
            "id": self.item_id,
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def response(self, status: str, output: list[Any], end: dict[str, Any] | None = None) -> dict[str, Any]:
        """The response object; `end` has usage and trace once there are any."""
        body, end = self._body, dict(end or {})
        usage = end.pop("usage", None)
        form = None if body.text is None or body.text.format is None else body.text.format
        return {
            "id": f"resp_{self._envelope.id}",
            "object": "response",
            "created_at": self._envelope.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "model": self._envelope.model,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": self._job.parameters.temperature,
            "text": {"format": {"type": "text"} if form is None else form.model_dump(by_alias=True)},
            "tool_choice": "none",
            "tools": [],
            "top_p": self._job.parameters.top_p,
            "truncation": "disabled",
            "usage": None if usage is None else _usage(usage),
            "user": body.user,
            **end,
        }

    def whole(self, one: Completion, end: dict[str, Any]) -> dict[str, Any]:
        """The reply to one answer."""
        status = "completed" if one.finish_reason == "stop" else "incomplete"
        return self.response(status, [self.item(one.text, status)], end)


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {**usage["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
        "image_tokens": usage["image_tokens"],
        "image_tokens_kept": usage["image_tokens_kept"],
    }


async def _events(shape: _Shape, flight: Flight, end: Any) -> AsyncIterator[bytes]:
    number = 0

    def told(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **fields}, name=kind)

    place = {"item_id": shape.item_id, "output_index": 0, "content_index": 0}
    started = shape.response("in_progress", [])
    yield told("response.created", response=started)
    yield told("response.in_progress", response=started)
    yield told("response.output_item.added", output_index=0, item=shape.item(None, "in_progress"))
    yield told("response.content_part.added", **place, part=shape.part(""))
    whole = Completion()
    async for output in flight.outputs():
        whole.add(output)
        if output.text:
            yield told("response.output_text.delta", **place, delta=output.text, logprobs=[])
    reply = shape.whole(whole, end())
    status = reply["status"]
    yield told("response.output_text.done", **place, text=whole.text, logprobs=[])
    yield told("response.content_part.done", **place, part=shape.part(whole.text))
    yield told("response.output_item.done", output_index=0, item=shape.item(whole.text, status))
    yield told(f"response.{status}", response=reply)
