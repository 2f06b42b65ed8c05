"""/v1/models, /health, /ready, /version, /tokenize, /detokenize."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse

from foveate import __version__
from foveate.serve.context import Context, Here
from foveate.serve.errors import ApiError
from foveate.serve.fingerprint import fingerprint_of
from foveate.serve.prompts import Conversation, MediaLimit
from foveate.serve.protocol.status import (
    DetokenizeReply,
    DetokenizeRequest,
    ModelCard,
    ModelList,
    Status,
    TokenizeReply,
    TokenizeRequest,
    Version,
)
from foveate.serve.streaming import unless_gone

router = APIRouter()  # with a key where the server asks for one
open_router = APIRouter()  # for probes: without


@open_router.get("/health", response_model=Status, tags=["operation"])
async def health() -> dict[str, Any]:
    """The process is alive."""
    return {"status": "ok"}


@open_router.get("/ready", response_model=Status, responses={503: {"model": Status}}, tags=["operation"])
async def ready(here: Here) -> Response:
    """Whether it takes requests: a load balancer sends none while it does not."""
    reason = here.front.not_ready
    if reason:
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
    return JSONResponse({"status": "ok", "reason": None})


@open_router.get("/version", response_model=Version, tags=["operation"])
async def version() -> dict[str, Any]:
    """Which version of Foveate this is."""
    return {"version": __version__, "name": "foveate"}


@open_router.get("/metrics", response_class=PlainTextResponse, tags=["operation"])
async def metrics(here: Here) -> Response:
    """Counts and times for Prometheus."""
    return Response(here.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _card(here: Context) -> dict[str, Any]:
    return {
        "id": here.model_name,
        "object": "model",
        "created": here.started,
        "owned_by": "foveate",
        "max_model_len": here.model.context_length,
        "accepts_images": here.model.accepts_images,
        "visual_budget": here.settings.visual_budget,
        "reducer": here.settings.reducer,
        "system_fingerprint": await fingerprint_of(here),
    }


@router.get("/v1/models", response_model=ModelList, tags=["OpenAI"])
async def list_models(here: Here) -> dict[str, Any]:
    """The model that is served."""
    return {"object": "list", "data": [await _card(here)]}


@router.get("/v1/models/{name:path}", response_model=ModelCard, tags=["OpenAI"])
async def get_model(name: str, here: Here) -> dict[str, Any]:
    """One model; 404 for others."""
    here.require_model(name)
    return await _card(here)


@router.post("/tokenize", response_model=TokenizeReply, tags=["tokens"])
async def tokenize(body: TokenizeRequest, request: Request, here: Here) -> dict[str, Any]:
    """The tokens of a text, or of messages with template and pictures as a chat would read them."""
    here.require_model(body.model)
    if (body.prompt is None) == (body.messages is None):
        raise ApiError("The request needs either prompt or messages", fix="Give exactly one.", param="prompt")
    tokenizer, image_tokens = here.model.tokenizer, 0
    if body.prompt is not None:
        special = body.add_special_tokens is not False
        ids = await asyncio.to_thread(
            lambda: list(tokenizer(body.prompt, add_special_tokens=special)["input_ids"])
        )
    else:
        if body.add_special_tokens is not None:
            raise ApiError(
                "add_special_tokens is given with messages",
                why="the chat template decides there",
                fix="Leave it out.",
                param="add_special_tokens",
            )
        conversation = Conversation(body.messages or [])
        caller = here.caller_of(request)
        owner = "" if caller is None else caller.name
        load = conversation.load(here.pictures, limit=MediaLimit.of(here.model, here.settings), owner=owner)
        await unless_gone(request, load)
        prompt = await asyncio.to_thread(here.model.prepare, conversation.messages)
        ids, image_tokens = prompt.token_ids, sum(item.grid.tokens for item in prompt.media)
    strings = [str(one) for one in tokenizer.convert_ids_to_tokens(ids)] if body.return_token_strs else None
    return {
        "count": len(ids),
        "max_model_len": here.model.context_length,
        "tokens": ids,
        "token_strs": strings,
        "image_tokens": image_tokens,
    }


@router.post("/detokenize", response_model=DetokenizeReply, tags=["tokens"])
async def detokenize(body: DetokenizeRequest, here: Here) -> dict[str, Any]:
    """The text that tokens spell."""
    here.require_model(body.model)
    size = int(here.model.text_config.vocab_size)
    wrong = next((token for token in body.tokens if not 0 <= token < size), None)
    if wrong is not None:
        raise ApiError(
            f"There is no token {wrong}",
            why=f"ids go from 0 to {size - 1}",
            fix="Correct it.",
            param="tokens",
        )
    return {"prompt": str(here.model.tokenizer.decode(body.tokens))}
