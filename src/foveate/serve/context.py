"""What the routes of one server share, and who may call them.

Owns the bundle of engine front, settings and stores, and the dependency that lets a caller in. Knows no endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from foveate.errors import nearest
from foveate.serve.errors import ApiError
from foveate.serve.front import EngineFront
from foveate.serve.pictures import PictureStore
from foveate.serve.sampling import SamplingDefaults
from foveate.serve.settings import ServeSettings

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


@dataclass(kw_only=True)
class Context:
    """One server's parts."""

    front: EngineFront
    settings: ServeSettings
    pictures: PictureStore
    defaults: SamplingDefaults
    started: int = field(default=0)

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


def context_of(request: Request) -> Context:
    """The parts of the server that got the request."""
    context = request.app.state.context
    assert isinstance(context, Context)
    return context


Here = Annotated[Context, Depends(context_of)]
