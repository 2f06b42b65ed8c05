"""A server that speaks OpenAI's API badly, as a test tells it to; in a thread, so that any client can ask it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Raw:
    """One response: status, body, headers, how long it takes, and bytes at its end that never come."""

    def __init__(
        self, body: str | dict = "", *, status: int = 200, seconds: float = 0.0, cut: int = 0, **headers: str
    ) -> None:
        self.body = (json.dumps(body) if isinstance(body, dict) else body).encode()
        self.status, self.seconds, self.cut = status, seconds, cut
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def said(text: Any, **usage: Any) -> Raw:
    """A good reply."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Raw({"choices": [choice], "usage": usage})


class StubEndpoint:
    """`with StubEndpoint(script) as server`: script is given the request's number from 0 and its body.

    Attributes:
        fingerprint: told with every model; None tells none.
        bodies, times, heads: of the requests, in order of arrival.
    """

    def __init__(
        self,
        script: Callable[[int, dict], Raw],
        models: tuple[str, ...] = ("eye",),
        fingerprint: Any = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.bodies: list[dict] = []
        self.times: list[float] = []
        self.heads: list[Any] = []
        lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                told = {} if stub.fingerprint is None else {"system_fingerprint": stub.fingerprint}
                self._send(Raw({"data": [{"id": name, **told} for name in models]}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    number = len(stub.bodies)
                    stub.bodies.append(body)
                    stub.times.append(time.monotonic())
                    stub.heads.append(self.headers)
                self._send(script(number, body))

            def _send(self, raw: Raw) -> None:
                time.sleep(raw.seconds)
                try:
                    self.send_response(raw.status)
                    self.send_header("content-length", str(len(raw.body)))
                    for name, value in raw.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(raw.body[: len(raw.body) - raw.cut])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # a client that has lost its patience
                if raw.cut:
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StubEndpoint:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
