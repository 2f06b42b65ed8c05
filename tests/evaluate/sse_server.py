"""A server that streams what a test tells it to, at the times it says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable


def chunk(text: str | None = None, **other) -> bytes:
    delta = {"role": "assistant", "content": ""} if text is None else {"content": text}
    return event({"choices": [{"index": 0, "delta": delta}], **other})


def usage(completion: int, prompt: int = 50, **other) -> bytes:
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"choices": [], "usage": counts | other})


def event(data: dict) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


class StreamServer:
    """Answers POST with a script of (seconds to wait, bytes), and GET /v1/models.

    Args:
        script: of the request's number, counted from 0, and its body.

    Attributes:
        bodies: of the requests, in order of arrival.
        most: requests that were answered at the same time, at most.
    """

    def __init__(
        self, script: Callable[[int, dict], list], *, status: str = "200 OK", models=("eye",)
    ) -> None:
        self._script, self._status, self._models = script, status, models
        self.bodies: list[dict] = []
        self.heads: list[str] = []
        self.running = self.most = 0

    async def __aenter__(self) -> StreamServer:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if head.startswith("GET /v1/models"):
            body = json.dumps({"data": [{"id": name} for name in self._models]}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        else:
            length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
            self.bodies.append(json.loads(await reader.readexactly(length)))
            self.running += 1
            self.most = max(self.most, self.running)
            writer.write(f"HTTP/1.1 {self._status}\r\nConnection: close\r\n\r\n".encode())
            for seconds, data in self._script(len(self.bodies) - 1, self.bodies[-1]):
                await asyncio.sleep(seconds)
                writer.write(data)
                await writer.drain()
            self.running -= 1
        writer.close()
