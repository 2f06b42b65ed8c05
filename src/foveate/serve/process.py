"""The server as a process: its socket, its signals, and how it stops.

Owns the drain: after the first SIGTERM or SIGINT nobody is let in any more, requests in flight go on as long as the
settings say, then the process ends; a second signal ends it at once. Knows no routes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from foveate.serve.app import create_app
from foveate.serve.front import EngineFront
from foveate.serve.settings import ServeSettings, ServeSettingsError

_log = logging.getLogger(__name__)
LAST_SECONDS = 2  # for replies of requests that were cut off to reach their readers


def bind(settings: ServeSettings) -> socket.socket:
    """The socket to listen on: taken before a model is loaded, so that a port in use is told at once.

    Raises:
        ServeSettingsError: the address or port cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise ServeSettingsError(
            f"Cannot listen on {settings.host} port {settings.port}",
            why=getattr(error, "strerror", None) or str(error),
            fix="Choose another port (--port 0 takes a free one) or address.",
        ) from error
    listener.set_inheritable(False)
    return listener


def url_of(listener: socket.socket, settings: ServeSettings) -> str:
    """Where a browser finds the server."""
    port = listener.getsockname()[1]
    host = settings.host
    if host in ("0.0.0.0", "::", ""):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class DrainingServer(uvicorn.Server):
    """Stops in two steps; see the module."""

    def __init__(
        self, config: uvicorn.Config, front: EngineFront, seconds: float, announce: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._front, self._seconds, self._announce = front, seconds, announce
        self._drain: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remembers the loop that signals have to reach; announces the server once it listens."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the drain, the second ends it."""
        if self._loop is None or self._drain is not None:
            super().handle_exit(sig, frame)
            return
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._drain is None:
            self._drain = asyncio.create_task(self._drained(), name="foveate drain")

    async def _drained(self) -> None:
        _log.info("stopping: %d requests in flight, at most %g s", self._front.in_flight, self._seconds)
        if not await self._front.drain(self._seconds):
            await self._front.close()  # ends their answers; each reader is told why
        self.should_exit = True


def run_server(
    front: EngineFront,
    settings: ServeSettings,
    listener: socket.socket,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Serves until a signal comes; `announce` is called once the server listens."""
    config = uvicorn.Config(
        create_app(front, settings),
        access_log=False,  # it would log query strings; ours logs counts
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=LAST_SECONDS,
        timeout_keep_alive=75,  # above the minute that load balancers keep idle connections
    )
    DrainingServer(config, front, settings.drain_seconds, announce).run(sockets=[listener])
