"""The requests of a measurement, the same for the same seed.

Owns pictures and prompts. By default no two requests share either, across levels too: a server with caches would
otherwise answer the second level from what it kept of the first.
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Iterator
from typing import Any

import PIL.Image

from foveate.evaluate.load.settings import LoadSettings
from foveate.world import make_example

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "harbor", "island", "juniper", "kettle",
          "lantern", "meadow", "north", "orchard", "pebble", "quarry", "river", "saddle", "timber", "upland", "valley",
          "willow", "yellow", "zephyr", "anchor", "bridge", "copper", "dune", "echo")  # fmt: skip
_APART = 1_000_000  # between the pictures of two seeds


def bodies(settings: LoadSettings, model: str) -> Iterator[dict[str, Any]]:
    """Bodies for /chat/completions, without end."""
    number = 0
    while True:
        yield _body(settings, model, 0 if settings.repeat else number)
        number += 1


def _body(settings: LoadSettings, model: str, number: int) -> dict[str, Any]:
    generator = random.Random(f"{settings.seed} {number}")
    words = " ".join(generator.choice(_WORDS) for _ in range(settings.prompt_words))
    question, content = "Say something about these words.", []
    for picture in range(settings.pictures):
        place = settings.seed * _APART + number * max(1, settings.pictures) + picture
        example = make_example("shapes", "test", place, questions=1)
        uri = base64.b64encode(_png(example.rendering.rgb)).decode()
        content.append({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{uri}"}})
        asked = example.questions()
        question = asked[0].text if asked else "What is in the picture?"
    text = f"{words}\n{question}".strip()
    body: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "user", "content": [*content, {"type": "text", "text": text}] if content else text}
        ],
        "max_tokens": settings.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if settings.exact_tokens:
        body |= {"ignore_eos": True, "min_tokens": settings.max_tokens}
    return body


def _png(rgb: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(rgb).save(file, "PNG", compress_level=1)
    return file.getvalue()
