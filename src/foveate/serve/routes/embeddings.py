"""/v1/embeddings: texts and pictures as vectors of the served model itself.

Owns the form of requests and replies; the vectors are `foveate.serve.embedding`'s.
"""

from __future__ import annotations

import base64
import struct
from typing import Any

from fastapi import APIRouter, Request

from foveate.errors import FoveateError
from foveate.serve.context import Context, Here
from foveate.serve.embedding import Item, embed
from foveate.serve.errors import as_api_error
from foveate.serve.protocol.chat import ImagePart, TextPart
from foveate.serve.protocol.completions import EmbeddingReply, EmbeddingRequest
from foveate.serve.streaming import unless_gone

router = APIRouter()


@router.post("/v1/embeddings", response_model=EmbeddingReply, tags=["OpenAI"])
async def create_embeddings(body: EmbeddingRequest, request: Request, here: Here) -> dict[str, Any]:
    """Vectors of texts and pictures: means over the language model's last hidden states, of length 1."""
    model_name = here.require_model(body.model)
    given = body.input if isinstance(body.input, list) else [body.input]
    items: list[Any] = [body.input] if given and isinstance(given[0], int) else given
    async with here.front.enter() as flight:
        caller = here.caller_of(request)
        owner = "" if caller is None else caller.name
        if caller is not None:
            admission = caller.admit(0)
            flight.on_close(lambda _: admission.settle(0))
        vectors = [await unless_gone(request, _one(here, owner, at, item)) for at, item in enumerate(items)]
    tokens = sum(vector.tokens for vector in vectors)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": at,
                "embedding": _packed(vector.values) if body.encoding_format == "base64" else vector.values,
            }
            for at, vector in enumerate(vectors)
        ],
        "model": model_name,
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "image_tokens": sum(vector.image_tokens for vector in vectors),
        },
    }


async def _one(here: Context, owner: str, at: int, item: str | list[int] | ImagePart | TextPart) -> Any:
    try:
        content: Item = item.text if isinstance(item, TextPart) else item  # type: ignore[assignment]
        if isinstance(item, ImagePart):
            content = await here.pictures.read(item.image_url.url, owner=owner)
        async with here.embedding_turn:
            return await embed(here.model, content)
    except FoveateError as error:
        told = as_api_error(error)
        told.param = f"input[{at}]"
        raise told from error


def _packed(values: list[float]) -> str:
    """Little-endian float32 in base64, as OpenAI's clients ask for."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
