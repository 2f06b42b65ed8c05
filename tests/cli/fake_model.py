"""A stand-in for a loaded model, so that tests of the command line need no torch.

It is also a program that runs the command line with the fake in the model's place (`python fake_model.py
chat …`), for tests that drive a real terminal.

Its answers say what reached it: "turn 2, 1 picture: what is this". A question with "slowly" is answered by
numbers, one every 50 ms, until someone stops it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from foveate.errors import PromptError

TOKENS_PER_IMAGE = 16


class FakeModel:
    """The parts of the VisionLanguageModel contract that the command line uses."""

    def __init__(self, *, accepts_images: bool = True, context_length: int = 200) -> None:
        self.ref = "fake"
        self.accepts_images = accepts_images
        self.context_length = context_length
        self.messages: list[Mapping[str, Any]] = []
        self.keywords: dict[str, Any] = {}

    def describe(self) -> dict[str, Any]:
        return {
            "ref": self.ref,
            "parameters": 1_500_000,
            "device": "cpu",
            "device_reason": "a fake",
            "dtype": "float32",
            "dtype_reason": "a fake",
        }

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> Any:
        return SimpleNamespace(tokens=TOKENS_PER_IMAGE)

    def prepare(self, messages: Sequence[Mapping[str, Any]], *, images: Sequence[Any] = ()) -> Any:
        self.messages = list(messages)
        parts = [part for message in messages for part in message["content"]]
        placeholders = sum(part["type"] == "image" for part in parts)
        assert placeholders == len(images), (placeholders, len(images))
        words = sum(len(part["text"].split()) for part in parts if part["type"] == "text")
        length = words + TOKENS_PER_IMAGE * len(images)
        if length > self.context_length:
            raise PromptError(
                f"The prompt has {length} tokens", why=f"the context is {self.context_length} tokens"
            )
        media = [SimpleNamespace(grid=self.visual_grid(1, 1)) for _ in images]
        question = messages[-1]["content"][-1]["text"]
        turn = sum(message["role"] == "user" for message in messages)
        noun = "picture" if len(images) == 1 else "pictures"
        reply = f" turn {turn}, {len(images)} {noun}: {question}"
        return SimpleNamespace(token_ids=[0] * length, media=media, text=reply)

    def generate(self, prompt: Any, *, max_new_tokens: int, **keywords: Any) -> Iterator[Any]:
        self.keywords = {"max_new_tokens": max_new_tokens, **keywords}
        slow = "slowly" in prompt.text
        words = (f" {number}" for number in range(10_000)) if slow else iter(_pieces(prompt.text))
        for index, word in enumerate(words, start=1):
            if slow:
                time.sleep(0.05)
            last = index == max_new_tokens
            yield SimpleNamespace(id=index, text=word, finish_reason="length" if last else None)
            if last:
                return
        yield SimpleNamespace(id=0, text="", finish_reason="stop")


def _pieces(text: str) -> list[str]:
    return [f" {word}" for word in text.split()]


def main() -> int:
    """Run the command line on this process's arguments with the fake in the model's place."""
    from foveate.cli import chat
    from foveate.cli.main import run

    chat.load_model = lambda ref, *, dtype, device: FakeModel()  # type: ignore[assignment]
    return run()


if __name__ == "__main__":
    sys.exit(main())
