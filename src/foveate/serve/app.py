"""The application: routes, errors and middleware around one engine front.

Owns what is put together. What a route does is in `routes`; how the process starts and stops, in `process`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware

from foveate import __version__
from foveate.engine.threads import use_one_thread
from foveate.serve import errors
from foveate.serve.context import Context, require_caller
from foveate.serve.files import FileStore
from foveate.serve.front import EngineFront
from foveate.serve.generate import log_flight
from foveate.serve.metrics import Metrics
from foveate.serve.middleware import BodyLimit, HostGuard, RequestIds, own_names
from foveate.serve.pictures import PictureStore
from foveate.serve.routes import chat, completions, embeddings, files, playground, responses, status, stream
from foveate.serve.safety.guard import OutputGuard
from foveate.serve.safety.keys import KeyStore
from foveate.serve.sampling import SamplingDefaults
from foveate.serve.settings import ServeSettings
from foveate.serve.streaming import ClientGone
from foveate.serve.streams import StreamStore
from foveate.serve.telemetry import tracer_from_environment

DESCRIPTION = """An OpenAI-compatible server for vision-language models that tells which part of a picture it looked at.

Fields that are not in this schema are refused by name, never ignored."""
# With a key, where the server asks for one.
ROUTERS = (
    chat.router,
    completions.router,
    embeddings.router,
    files.router,
    responses.router,
    stream.router,
    status.router,
    playground.router,
)
OPEN_ROUTERS = (status.open_router, playground.open_router)
# Of a reply that nobody reads; the number is nginx's.
CLIENT_CLOSED_REQUEST = 499


def create_app(front: EngineFront, settings: ServeSettings) -> FastAPI:
    """The ASGI application. Its lifespan starts and closes the front.

    Args:
        front: of the model that is served; not started.
        settings: what it lets in.

    Raises:
        FoveateError: the file of keys, a media setting or a setting of OpenTelemetry cannot be used.
    """
    context = _context(front, settings)
    tracer = tracer_from_environment(context.model_name)
    if tracer is not None:
        front.watch(tracer.note)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(initializer=use_one_thread))
        await front.start()
        try:
            yield
        finally:
            await front.close()
            await context.streams.close()
            await context.pictures.close()
            if tracer is not None:
                await asyncio.to_thread(tracer.close)

    app = FastAPI(
        title="Foveate",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_operation_name,
        responses={"default": {"model": errors.ErrorReply, "description": "An error."}},
    )
    app.state.context = context
    app.state.api_routes = [
        route
        for router in (*ROUTERS, *OPEN_ROUTERS)
        for route in router.routes
        if isinstance(route, APIRoute)
    ]
    errors.install(app)
    app.add_exception_handler(ClientGone, _on_client_gone)
    for router in ROUTERS:
        app.include_router(router, dependencies=[Depends(require_caller)])
    for router in OPEN_ROUTERS:
        app.include_router(router)
    if settings.playground and playground.STATIC.is_dir():
        app.mount("/playground", playground.PageFiles(directory=playground.STATIC), name="playground")
    _add_middleware(app, settings)
    return app


def _context(front: EngineFront, settings: ServeSettings) -> Context:
    store = FileStore(capacity=settings.file_store_bytes, seconds=settings.file_store_seconds)
    pictures = PictureStore(settings, store)
    keys = None if settings.api_key_file is None else KeyStore.load(settings.api_key_file)

    guard = OutputGuard() if settings.output_watch else None

    def refusals() -> Iterator[tuple[str, str, int]]:
        yield from pictures.refusals()
        if guard is not None:
            yield "output", "picture_throttled", guard.pictures.verdicts["throttle"]
        for caller in keys or ():
            for reason, count in sorted(caller.refused.items()):
                yield f"key {caller.name}", reason, count

    front.watch(log_flight)
    streams = StreamStore()
    return Context(
        front=front,
        settings=settings,
        pictures=pictures,
        files=store,
        defaults=SamplingDefaults.of(front.model),
        metrics=Metrics(front, refusals, guard, streams),
        streams=streams,
        keys=keys,
        guard=guard,
        started=int(time.time()),
    )


def _add_middleware(app: FastAPI, settings: ServeSettings) -> None:
    """The last one added is the first that a request meets."""
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["x-request-id", "retry-after"],
        )
    if names := own_names(settings):
        app.add_middleware(HostGuard, names=names)
    app.add_middleware(BodyLimit, size=settings.max_body_bytes)
    app.add_middleware(RequestIds)


async def _on_client_gone(_: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _operation_name(route: APIRoute) -> str:
    """Names of operations in the schema: those of our functions."""
    return route.name
