"""The embedded model behind a live server, once for all tests of this room."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from live_server import PICTURE, LiveServer, live_server

from foveate.models import load

Messages = list[dict[str, Any]]


@pytest.fixture(scope="session")
def model() -> Any:
    return load(device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def server(model: Any) -> Iterator[LiveServer]:
    with live_server(model) as live:
        yield live


@pytest.fixture(scope="session")
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


@pytest.fixture(scope="session")
def picture() -> str:
    """A picture as a data: URI."""
    return "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()


@pytest.fixture(scope="session")
def ask(picture: str) -> Callable[..., Messages]:
    """One user message with a picture before the words."""

    def make(text: str = "How many objects are there?", pictures: int = 1) -> Messages:
        parts: list[Any] = [{"type": "image_url", "image_url": {"url": picture}}] * pictures
        return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]

    return make
