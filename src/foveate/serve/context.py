"""What the routes of one server share, and who may call them.

Owns the bundle of engine front, settings and stores, and the dependency that lets a caller in. Knows no endpoint.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from foveate.errors import nearest
from foveate.serve.errors import ApiError
from foveate.serve.files import FileStore
from foveate.serve.front import EngineFront
from foveate.serve.metrics import Metrics
from foveate.serve.pictures import PictureStore
from foveate.serve.safety.guard import OutputGuard
from foveate.serve.safety.keys import KeyStore
from foveate.serve.safety.quotas import Caller
from foveate.serve.sampling import SamplingDefaults
from foveate.serve.settings import ServeSettings
from foveate.serve.streams import StreamStore

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


@dataclass(kw_only=True)
class Context:
    """One server's parts."""

    front: EngineFront
    settings: ServeSettings
    pictures: PictureStore
    defaults: SamplingDefaults
    files: FileStore
    metrics: Metrics
    streams: StreamStore
    keys: KeyStore | None = None
    guard: OutputGuard | None = None
    started: int = 0
    # More embeddings at once would only make the engine's steps wait longer.
    embedding_turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    @property
    def model(self) -> VisionLanguageModel:
        """The model that is served."""
        return self.front.model

    @property
    def model_name(self) -> str:
        """What clients call it."""
        return self.settings.model_name or str(self.model.ref)

    def require_model(self, name: str | None) -> str:
        """The name, or the only one where none is given.

        Raises:
            ApiError: 404, another model is asked for.
        """
        if name is not None and name != self.model_name:
            raise ApiError(
                f"There is no model {name[:200]!r} here",
                fix=nearest(name, [self.model_name]),
                status=404,
                param="model",
                code="model_not_found",
            )
        return self.model_name

    def caller_of(self, request: Request) -> Caller | None:
        """Who sends a request; None where the server asks for no key.

        Raises:
            ApiError: 401, there is no key or it is not known.
        """
        if self.keys is None:
            return None
        header = request.headers.get("authorization")
        caller = self.keys.authenticate(header)
        if caller is None:
            self.front.refusals.count("unauthorised")
            raise ApiError(
                "The API key is missing" if header is None else "The API key is not known here",
                fix="Send a key of this server as Authorization: Bearer KEY.",
                status=401,
                code="invalid_api_key",
            )
        return caller


async def context_of(request: Request) -> Context:
    """The parts of the server that got the request. Async, as FastAPI runs plain functions in a thread."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Here = Annotated[Context, Depends(context_of)]


async def require_caller(request: Request, here: Here) -> None:
    """A dependency: lets nobody in without a key where the server asks for one."""
    here.caller_of(request)
