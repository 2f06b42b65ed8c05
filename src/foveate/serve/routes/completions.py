"""/v1/completions: text without a chat template, for base models and benchmarks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from foveate.engine import Completion
from foveate.serve.context import Context, Here
from foveate.serve.errors import ApiError
from foveate.serve.fingerprint import fingerprint_of
from foveate.serve.flights import Flight
from foveate.serve.generate import answer
from foveate.serve.jobs import Job
from foveate.serve.protocol.completions import CompletionReply, CompletionRequest
from foveate.serve.replies import FINISH_REASONS, Envelope, finish
from foveate.serve.sampling import sampling_parameters
from foveate.serve.streaming import DONE, STREAMED, event

if TYPE_CHECKING:
    from foveate.engine.request import TokenLogprob
    from foveate.models.records import Prompt

router = APIRouter()
DEFAULT_TOKENS = 16  # OpenAI's


@router.post("/v1/completions", response_model=CompletionReply, responses=STREAMED, tags=["OpenAI"])
async def create_completion(body: CompletionRequest, request: Request, here: Here) -> Response:
    """Goes on with a text or with tokens."""
    model_name = here.require_model(body.model)
    for name in ("visual_budget", "reducer"):
        if getattr(body, name) is not None:
            raise ApiError(
                f"{name} is given to /v1/completions",
                why="it takes no pictures",
                fix="Use /v1/chat/completions.",
                param=name,
                code="unsupported_parameter",
            )
    parameters = sampling_parameters(
        body,
        here.settings,
        here.defaults,
        max_tokens=body.max_tokens or max(DEFAULT_TOKENS, body.min_tokens or 0),
        top_logprobs=body.logprobs,
    )
    job = Job(
        prompt=await asyncio.to_thread(_prompt, here, body.prompt),
        parameters=parameters,
        priority=body.priority or 0,
        tenant=body.user or "",
    )
    envelope = Envelope(
        model=model_name,
        kind="text_completion",
        prefix="cmpl",
        fingerprint=await fingerprint_of(here),
        trace=bool(body.foveate_trace),
        usage=bool(body.stream_options and body.stream_options.include_usage),
        logprobs=body.logprobs is not None,
    )

    def events(flight: Flight) -> AsyncIterator[bytes]:
        return _events(here, flight, envelope)

    return await answer(
        request,
        here,
        job,
        whole=lambda flight, answers: _reply(here, flight, envelope, answers),
        events=events if body.stream else None,
    )


def _prompt(here: Context, given: str | list[int]) -> Prompt:
    """Its tokens, as the tokenizer begins a text."""
    from foveate.models.records import Prompt

    model = here.model
    if isinstance(given, str):
        ids = list(model.tokenizer(given, add_special_tokens=model.adds_special_tokens)["input_ids"])
        return Prompt(token_ids=ids, media=[], spans=[], text=given)
    size = int(model.text_config.vocab_size)
    ids = [int(token) for token in given]
    wrong = next((token for token in ids if token >= size or token in model.visual_token_ids), None)
    if wrong is not None:
        raise ApiError(
            f"The prompt has token {wrong}",
            why=f"ids go from 0 to {size - 1}, and that of a picture's place cannot stand alone",
            fix="Use ids of this model's tokenizer.",
            param="prompt",
            code="invalid_value",
        )
    return Prompt(token_ids=ids, media=[], spans=[], text="")


def _reply(here: Context, flight: Flight, envelope: Envelope, answers: list[Completion]) -> dict[str, Any]:
    choices = [
        {
            "index": one.index,
            "text": one.text,
            "logprobs": _logprobs(here, one.logprobs) if envelope.logprobs else None,
            "finish_reason": FINISH_REASONS[one.finish_reason or "stop"],
        }
        for one in answers
    ]
    return {**envelope.head(), "choices": choices, **finish(here.model, flight, envelope)}


async def _events(here: Context, flight: Flight, envelope: Envelope) -> AsyncIterator[bytes]:
    head = json.dumps(envelope.head(), ensure_ascii=False, separators=(",", ":"))[:-1]
    tail = ',"usage":null}\n\n' if envelope.usage else "}\n\n"
    offsets: dict[int, int] = {}
    async for output in flight.outputs():
        logprobs = "null"
        if envelope.logprobs and output.logprobs:
            told = _logprobs(here, list(output.logprobs), offsets.get(output.index, 0))
            offsets[output.index] = told["text_offset"][-1] + len(told["tokens"][-1])
            logprobs = json.dumps(told)
        reason = "null" if output.finish_reason is None else f'"{FINISH_REASONS[output.finish_reason]}"'
        if output.text or reason != "null" or logprobs != "null":
            choice = f'{{"index":{output.index},"text":{json.dumps(output.text)},"logprobs":{logprobs}'
            yield f'data: {head},"choices":[{choice},"finish_reason":{reason}}}]{tail}'.encode()
    if envelope.usage or envelope.trace or (flight.watch is not None and flight.watch.notices):
        yield event({**envelope.head(), "choices": [], **finish(here.model, flight, envelope)})
    yield DONE


def _logprobs(here: Context, given: list[TokenLogprob], offset: int = 0) -> dict[str, Any]:
    decode = here.model.tokenizer.decode
    told: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for one in given:
        token = str(decode([one.token_id]))
        told["tokens"].append(token)
        told["token_logprobs"].append(max(one.logprob, -9999.0))
        told["top_logprobs"].append({str(decode([other])): max(value, -9999.0) for other, value in one.top})
        told["text_offset"].append(offset)
        offset += len(token)
    return told
