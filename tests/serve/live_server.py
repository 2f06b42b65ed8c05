"""A server in a thread of this process: real sockets, and an engine whose accounts a test can read."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from foveate.engine import EngineConfig
from foveate.serve import EngineFront, ServeSettings, create_app
from foveate.serve.process import bind, url_of

PICTURE = Path(__file__).parents[2] / "examples" / "shapes.png"


class LiveServer:
    """One server: its address, its front, and a client for it."""

    def __init__(self, url: str, front: EngineFront) -> None:
        self.url, self.front = url, front
        self.http = httpx.Client(base_url=url, timeout=60)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def chat(self, messages: Any, **fields: Any) -> httpx.Response:
        return self.post("/v1/chat/completions", messages=messages, **fields)

    def eventually(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Waits for it; fails when it does not come true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "it did not come true in time"
            time.sleep(0.01)

    def nothing_held(self) -> bool:
        """Whether no request is in flight and no block is in use."""
        return not self.front.in_flight and not self.front.engine.engine.statistics().blocks_in_use

    @contextlib.contextmanager
    def slowed(self, seconds: float) -> Iterator[None]:
        """Every step of the engine takes so much longer: a test can act before an answer is complete."""
        engine = self.front.engine.engine
        step = engine.step

        def slow() -> Any:
            time.sleep(seconds)
            return step()

        engine.step = slow  # type: ignore[method-assign]
        try:
            yield
        finally:
            engine.step = step  # type: ignore[method-assign]


@contextlib.contextmanager
def live_server(model: Any, config: EngineConfig | None = None, **settings: Any) -> Iterator[LiveServer]:
    """Serves while the block runs."""
    chosen = ServeSettings(port=0, **settings)
    front = EngineFront(model, config, max_queue=chosen.max_queue)
    listener = bind(chosen)
    server = uvicorn.Server(
        uvicorn.Config(create_app(front, chosen), log_config=None, timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        live = LiveServer(url_of(listener, chosen), front)
        with live.http:
            yield live
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive(), "the server did not stop"
