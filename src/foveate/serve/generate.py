"""One request from its draft to its reply: a place, the caller's budget, pictures, the engine, the answer.

Owns the order of these steps, the same for every endpoint that generates, and that all of it is given back however the
request ends. Knows no endpoint's form.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from fastapi import Request, Response
from starlette.responses import JSONResponse

from foveate.engine import Completion
from foveate.serve.context import Context
from foveate.serve.flights import Flight
from foveate.serve.jobs import Job
from foveate.serve.prompts import Conversation, MediaLimit
from foveate.serve.replies import collect
from foveate.serve.safety.quotas import Admission
from foveate.serve.streaming import EventStream, unless_gone
from foveate.serve.trace import headers_of
from foveate.serve.watching import RequestWatch

_log = logging.getLogger(__name__)
TRACE_HEADERS = ("traceparent", "tracestate")  # https://www.w3.org/TR/trace-context/


async def answer(
    request: Request,
    here: Context,
    job: Job,
    *,
    conversation: Conversation | None = None,
    whole: Callable[[Flight, list[Completion]], dict[str, Any]],
    events: Callable[[Flight], AsyncIterator[bytes]] | None = None,
) -> Response:
    """The reply to a request that generates.

    Args:
        job: for the engine; its tenant is made unique to the caller here.
        conversation: whose pictures are to be fetched first.
        whole: makes the body of the reply; not called where `events` is given.
        events: makes a stream of events.

    Raises:
        FoveateError: the request is refused.
        ClientGone: nobody waits for the reply any more.
    """
    flight = here.front.enter()
    flight.trace_headers = {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}
    try:
        caller = here.caller_of(request)
        if caller is not None:
            admission = caller.admit(job.parameters.max_tokens * job.parameters.n)
            flight.on_close(lambda ended: _settle(ended, admission))
            job = replace(job, tenant=f"{caller.name}\0{job.tenant}")
        owner = "" if caller is None else caller.name
        await unless_gone(request, _start(here, flight, job, conversation, owner))
        headers = headers_of(flight.statistics)
        if events is not None:
            return EventStream(events(flight), flight.close, headers)
        answers = await unless_gone(request, collect(flight))
        reply = whole(flight, answers)
    except BaseException:
        await flight.close()
        raise
    await flight.close()
    return JSONResponse(reply, headers=headers)


async def _start(
    here: Context, flight: Flight, job: Job, conversation: Conversation | None, owner: str
) -> None:
    if conversation is not None:
        await conversation.load(here.pictures, limit=MediaLimit.of(here.model, here.settings), owner=owner)
    if here.guard is not None:
        digests = () if conversation is None else conversation.digests
        flight.watch = RequestWatch(here.guard, job, owner=owner, digests=digests)
        job = flight.watch.job
    await flight.start(job)


def _settle(flight: Flight, admission: Admission) -> None:
    """What was not written goes back to the caller's budget."""
    statistics = flight.known_statistics
    admission.settle(0 if statistics is None else statistics.generated_tokens)


def log_flight(flight: Flight) -> None:
    """One line of counts and times about a request that has left."""
    statistics = flight.known_statistics
    if statistics is None:
        return
    _log.info(
        "%s ended (%s): %d prompt tokens, %d cached; %d of %d image tokens kept; %d written; first %.3f s, all %.3f s",
        flight.id,
        flight.outcome,
        statistics.prompt_tokens,
        statistics.cached_tokens,
        statistics.image_tokens_kept,
        statistics.image_tokens,
        statistics.generated_tokens,
        flight.first or 0.0,
        flight.ended or 0.0,
    )
