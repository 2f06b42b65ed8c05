"""What the playground's page needs: its files, the names of the reducers, a scene of the world to ask about."""

from __future__ import annotations

import asyncio
import base64
import io
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import Field
from starlette.responses import FileResponse, Response

from foveate.reduce.registry import list_reducers
from foveate.serve.context import Here
from foveate.serve.errors import ApiError
from foveate.serve.protocol.common import Loose

STATIC = Path(__file__).parents[1] / "playground" / "static"
SCENE_SIZE = 336  # pixels: large enough to look at on a screen
# The page brings all it needs: nothing from elsewhere runs in it, and nobody frames it.
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

router = APIRouter()
open_router = APIRouter()


class ReducerCard(Loose):
    """One way of choosing visual tokens."""

    name: str
    description: str
    needs: str
    paper: str
    refused: str = Field(description="Why this server's model cannot be served so; empty if it can.")


class ReducerList(Loose):
    """All of them."""

    object: str = "list"
    data: list[ReducerCard]
    default: str
    visual_budget: str


class SceneReply(Loose):
    """A picture with a question and its exact answer."""

    image: str = Field(description="A PNG as a data: URI.")
    question: str
    answer: str
    family: str
    width: int
    height: int
    seed: int
    difficulty: int


@open_router.get("/foveate/reducers", response_model=ReducerList, tags=["foveate"])
async def reducers(here: Here) -> dict[str, Any]:
    """The ways of choosing visual tokens, what each reads, and which the model's tower cannot give."""
    model = here.model
    cards = [
        {
            "name": info.name,
            "description": info.rule,
            "needs": info.needs.describe(),
            "paper": f"{info.paper}, arXiv {info.arxiv}" if info.arxiv else info.paper,
            "refused": info.needs.missing(model.salience_kind, model.resizes),
        }
        for info in list_reducers()
    ]
    return {
        "object": "list",
        "data": cards,
        "default": here.settings.reducer,
        "visual_budget": here.settings.visual_budget,
    }


@router.get("/foveate/scene", response_model=SceneReply, tags=["foveate"])
async def scene(
    seed: Annotated[int, Query(ge=0, lt=2**31)] = 0, difficulty: Annotated[int, Query(ge=1, le=3)] = 1
) -> dict[str, Any]:
    """A picture of the procedural world; the same seed gives the same."""
    return await asyncio.to_thread(_scene, seed, difficulty)


def _scene(seed: int, difficulty: int) -> dict[str, Any]:
    from foveate.world import make_example

    example = make_example(
        "shapes", "test", seed, size=SCENE_SIZE, questions=1, difficulty=difficulty, caption="last"
    )
    question = example.questions()[0]  # at least the caption: some scenes answer nothing else
    picture, buffer = Image.fromarray(example.rendering.rgb), io.BytesIO()
    picture.save(buffer, "PNG")
    return {
        "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "question": question.text,
        "answer": question.answer,
        "family": question.family,
        "width": picture.width,
        "height": picture.height,
        "seed": seed,
        "difficulty": difficulty,
    }


@open_router.get("/", include_in_schema=False)
async def page(here: Here) -> Response:
    """The playground."""
    if not (here.settings.playground and (STATIC / "index.html").is_file()):
        raise ApiError("There is no playground here", fix="The API is at /v1.", status=404, code="not_found")
    return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)


class PageFiles(StaticFiles):
    """The page's scripts and styles, under its policy."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        return response
