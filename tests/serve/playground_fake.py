"""A server that speaks the playground's part of the wire contract and does on demand what a real one does rarely.

What a question says decides: "busy" is refused twice with 429, "cut" breaks off, "slow" waits between its words,
"markup" answers with a script, "bad" is refused with 400; any other is answered with the picture's kept tokens.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image, ImageDraw

import foveate

STATIC = Path(foveate.__file__).parent / "serve" / "playground" / "static"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# At least as strict as the real server's.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GRID = 12
MARKUP = '<img src=x onerror="window.struck = 1"><script>window.struck = 2</script><b>bold</b>'
REDUCERS = [
    {"name": "fastervlm", "description": "Keeps what the CLS token attends to.", "needs": "CLS attention"},
    {"name": "random", "description": "Keeps any.", "needs": ""},
    {"name": "question", "description": "Reads the question.", "needs": "text", "refused": "no text tower"},
]


def scene(seed: int, difficulty: int) -> dict[str, Any]:
    """A disc whose place and brightness depend on the seed."""
    picture = Image.new("RGB", (336, 336), (235, 235, 230))
    left = 40 + seed * 37 % 180
    ImageDraw.Draw(picture).ellipse((left, 90, left + 90, 180), fill=(20, 60 + seed % 150, 160))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    image = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"image": image, "question": f"What is in scene {seed}?", "answer": "a disc", "seed": seed}


def image_trace(index: int, budget: str, reducer: str) -> dict[str, Any]:
    """Of a 336 by 336 picture: tokens near its middle are kept."""
    total = GRID * GRID
    kept = total if budget == "full" else max(1, round(total * float(budget.rstrip("%")) / 100))
    middle = (GRID - 1) / 2
    scores = [
        -((at // GRID - middle) ** 2) - (at % GRID - middle) ** 2 + 100 + at / 1000 for at in range(total)
    ]
    best = sorted(range(total), key=lambda at: -scores[at])[:kept]
    return {
        "index": index,
        "width": 336,
        "height": 336,
        "grid": [GRID, GRID],
        "tiles": [
            {
                "box": [0, 0, 336, 336],
                "grid": [GRID, GRID],
                "kept": sorted(best),
                "scores": [None] * total if budget == "full" else scores,
            }
        ],
        "tokens": total,
        "tokens_kept": kept,
        "method": "none" if budget == "full" else reducer,
        "budget": budget,
    }


@dataclass
class FakeServer:
    """Its address, what it was asked, and how it behaves."""

    url: str = ""
    key: str = ""
    refuse_next: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    words: threading.Event = field(default_factory=threading.Event)  # lets a "slow" answer go on
    aborted: threading.Event = field(default_factory=threading.Event)  # a reader left in mid-answer

    def answer_to(self, question: str, budget: str) -> str:
        """Right at half of the tokens and more, as a model might be."""
        if "markup" in question:
            return MARKUP
        few = budget != "full" and float(budget.rstrip("%")) < 20
        return "a smudge" if few else "a disc"


class _Server(ThreadingHTTPServer):
    """Closes what is open when it stops, as a process that ends does."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        for connection in tuple(self._open):
            with suppress(OSError):  # its reader has closed it first
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests print enough."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/" or url.path.startswith("/playground/"):
            return self._file(url.path.removeprefix("/playground/").lstrip("/") or "index.html")
        if url.path == "/health":
            return self._json({"status": "ok"})
        if self._keyless():
            return None
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        replies = {
            "/v1/models": lambda: {"object": "list", "data": [{"id": "fake-vlm"}]},
            "/foveate/reducers": lambda: {"data": REDUCERS, "default": "fastervlm", "visual_budget": "full"},
            "/foveate/scene": lambda: scene(int(query["seed"]), int(query["difficulty"])),
        }
        if url.path not in replies:
            return self._json({"error": {"message": f"There is no {url.path}"}}, 404)
        return self._json(replies[url.path]())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self._keyless():
            return None
        self.fake.requests.append(body)
        question = _question(body)
        if self.fake.refuse_next:
            self.fake.refuse_next -= 1
            error = {"message": "5 requests are in flight"}
            return self._json({"error": error}, 429, {"Retry-After": "1"})
        if "bad" in question:
            return self._json({"error": {"message": "The prompt has 1,300 tokens, the context 1,024"}}, 400)
        return self._stream(body, question)

    def _keyless(self) -> bool:
        if not self.fake.key or self.headers.get("authorization") == f"Bearer {self.fake.key}":
            return False
        self._json({"error": {"message": "The request has no valid API key"}}, 401)
        return True

    def _json(self, told: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(told).encode(), "application/json", status, headers)

    def _file(self, name: str) -> None:
        path = STATIC / name
        if not path.is_file():
            return self._json({"error": {"message": f"There is no {name}"}}, 404)
        return self._send(path.read_bytes(), TYPES[path.suffix], 200, {"Content-Security-Policy": POLICY})

    def _send(self, data: bytes, kind: str, status: int, headers: dict[str, str] | None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any], question: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        try:
            for event in self._events(body, question):
                data = f"data: {event}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.fake.aborted.set()
            return
        if "cut" not in question:
            self.wfile.write(b"0\r\n\r\n")

    def _events(self, body: dict[str, Any], question: str) -> Iterator[str]:
        budget, reducer = body["visual_budget"], body.get("reducer", "")
        answer = self.fake.answer_to(question, budget)
        words = answer.split(" ")
        yield json.dumps(
            {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
        )
        for at, word in enumerate(words):
            text = word if at == 0 else f" {word}"
            yield json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": None}]})
            if "cut" in question:
                return
            if "slow" in question:
                self._hold()
        yield json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        pictures = sum(
            part["type"] == "image_url"
            for message in body["messages"]
            for part in message["content"]
            if isinstance(message["content"], list)
        )
        images = [image_trace(index, budget, reducer) for index in range(pictures)]
        share = sum(image["tokens_kept"] for image in images)
        usage = {
            "prompt_tokens": share + 12,
            "completion_tokens": len(words) + 1,
            "image_tokens": GRID * GRID * pictures,
            "image_tokens_kept": share,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        times = {
            "queue": 0.001, "preprocess": 0.004, "encode": 0.02, "prefill": 0.01 + share / 5000,
            "decode": 0.02, "first_token": 0.03, "total": 0.08,
        }  # fmt: skip
        yield json.dumps({"choices": [], "usage": usage, "foveate_trace": {"images": images, "times": times}})
        yield "[DONE]"

    def _hold(self) -> None:
        """Waits until the test lets it go on, or its reader has left."""
        end = time.monotonic() + 10
        while not self.fake.words.wait(0.05) and time.monotonic() < end:
            comment = b": waiting\n\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(comment), comment))


def _question(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


@contextmanager
def fake_server(port: int = 0) -> Iterator[FakeServer]:
    """Serves while the block runs."""
    fake = FakeServer()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = _Server(("127.0.0.1", port), handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
