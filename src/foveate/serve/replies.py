"""From the engine's outputs to the choices of a reply, whole or chunk by chunk.

Owns what is told of each token: text, log-probabilities, why an answer ended. Knows no routes.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foveate.engine import Completion, StepOutput
from foveate.serve.flights import Flight
from foveate.serve.streaming import DONE, event
from foveate.serve.tools import may_begin_call, read_call
from foveate.serve.trace import trace_of, usage_of

if TYPE_CHECKING:
    from foveate.engine.request import TokenLogprob
    from foveate.models.base import VisionLanguageModel

FINISH_REASONS = {"stop": "stop", "length": "length", "context": "length"}


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """What the chunks and the whole of one reply have in common."""

    model: str
    kind: str  # "chat.completion" or "text_completion"
    prefix: str
    fingerprint: str | None = None
    trace: bool = False
    usage: bool = False
    logprobs: bool = False
    tools: bool = False
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, *, chunk: bool = False) -> dict[str, Any]:
        """The first fields of a reply."""
        kind = f"{self.kind}.chunk" if chunk and self.kind == "chat.completion" else self.kind
        return {
            "id": f"{self.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


async def collect(flight: Flight) -> list[Completion]:
    """The n whole answers, in order."""
    answers: dict[int, Completion] = {}
    async for output in flight.outputs():
        answers.setdefault(output.index, Completion(index=output.index)).add(output)
    return [answers[index] for index in sorted(answers)]


def finish(model: VisionLanguageModel, flight: Flight, envelope: Envelope) -> dict[str, Any]:
    """Usage, why answers were ended before their time, and the trace where asked for: the end of every reply."""
    told: dict[str, Any] = {"usage": usage_of(flight.statistics)}
    if flight.watch is not None and flight.watch.notices:
        told["foveate_notices"] = flight.watch.notices
    if envelope.trace:
        told["foveate_trace"] = trace_of(model, flight)
    return told


async def chat_events(model: VisionLanguageModel, flight: Flight, envelope: Envelope) -> AsyncIterator[bytes]:
    """The chunks of a chat reply: a role, words, the reason of the end; usage and trace in a last one.

    A tool call comes in one chunk, when it is complete.
    """
    # Written by hand around the text: a chunk a token for every reader is most of what a server does.
    head = json.dumps(envelope.head(chunk=True), ensure_ascii=False, separators=(",", ":"))[:-1]
    tail = ',"usage":null}\n\n' if envelope.usage else "}\n\n"
    begun: set[int] = set()
    held: dict[int, str | None] = {}  # what may become a tool call, by answer
    async for output in flight.outputs():
        logprobs, text, end, call = "null", output.text, output.finish_reason, None
        if envelope.logprobs and output.logprobs:
            logprobs = json.dumps({"content": [token_logprob(model, one) for one in output.logprobs]})
        if envelope.tools:
            text, call = _hold_call(held, output)
        role = "" if output.index in begun else '"role":"assistant",'
        begun.add(output.index)
        start = f'data: {head},"choices":[{{"index":{output.index},"delta":'
        if text or role or logprobs != "null":
            words = f'{role}"content":{json.dumps(text)}'
            yield f'{start}{{{words}}},"logprobs":{logprobs},"finish_reason":null}}]{tail}'.encode()
        if call is not None:
            calls = json.dumps({"tool_calls": [{"index": 0, **call}]}, ensure_ascii=False)
            yield f'{start}{calls},"logprobs":null,"finish_reason":null}}]{tail}'.encode()
        if end is not None:
            reason = "tool_calls" if call else FINISH_REASONS[end]
            yield f'{start}{{}},"logprobs":null,"finish_reason":"{reason}"}}]{tail}'.encode()
    if envelope.usage or envelope.trace or (flight.watch is not None and flight.watch.notices):
        yield event({**envelope.head(chunk=True), "choices": [], **finish(model, flight, envelope)})
    yield DONE


def _hold_call(held: dict[int, str | None], output: StepOutput) -> tuple[str, dict[str, Any] | None]:
    """(text to show now, the call that is complete with this output): what may become a call is held back.

    `held` has None for answers that turned out to be text.
    """
    before = held.get(output.index, "")
    if before is None:
        return output.text, None
    text = before + output.text
    if not may_begin_call(text):
        held[output.index] = None
        return text, None
    held[output.index] = text
    if output.finish_reason is None:
        return "", None
    call = read_call(text)
    return ("" if call else text), call


def chat_reply(
    model: VisionLanguageModel, flight: Flight, envelope: Envelope, answers: list[Completion]
) -> dict[str, Any]:
    """The whole of a chat reply."""
    choices = [_chat_choice(model, envelope, answer) for answer in answers]
    return {**envelope.head(), "choices": choices, **finish(model, flight, envelope)}


def _chat_choice(model: VisionLanguageModel, envelope: Envelope, answer: Completion) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    reason = FINISH_REASONS[answer.finish_reason or "stop"]
    if envelope.tools and (call := read_call(answer.text)) is not None:
        message |= {"content": None, "tool_calls": [call]}
        reason = "tool_calls"
    return {
        "index": answer.index,
        "message": message,
        "logprobs": _chat_logprobs(model, answer) if envelope.logprobs else None,
        "finish_reason": reason,
    }


def _chat_logprobs(model: VisionLanguageModel, answer: Completion) -> dict[str, Any]:
    return {"content": [token_logprob(model, one) for one in answer.logprobs], "refusal": None}


def token_logprob(model: VisionLanguageModel, one: TokenLogprob) -> dict[str, Any]:
    """A token, its log-probability, and the likeliest in its place."""
    told = _token(model, one.token_id, one.logprob)
    told["top_logprobs"] = [_token(model, token, logprob) for token, logprob in one.top]
    return told


def _token(model: VisionLanguageModel, token: int, logprob: float) -> dict[str, Any]:
    text = str(model.tokenizer.decode([token]))
    # JSON has no infinity; OpenAI writes -9999 for what is as good as impossible.
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(text.encode("utf-8", "replace"))}
