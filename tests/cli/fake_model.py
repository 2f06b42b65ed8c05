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
        self.accepts_images, self.accepts_videos = accepts_images, False
        self.context_length = context_length
        self.messages: list[Mapping[str, Any]] = []

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

    def prepare(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        to_be_reduced: bool = False,
    ) -> Any:
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


class FakeEngine:
    """The parts of the engine that the command line uses; `keywords` are the last sampling parameters."""

    def __init__(self, model: FakeModel) -> None:
        self.model = model
        self.keywords: dict[str, Any] = {}
        self.closed = 0
        self._statistics: dict[str, Any] = {}

    def describe(self) -> str:
        return "memory: a fake\nattention: a fake"

    def request_statistics(self, request_id: str) -> Any:
        return self._statistics.get(request_id)

    def keep_maps(self, request_id: str) -> tuple[Any, ...]:
        """None of an image's tokens are dropped, unless there is a budget: then a quarter is kept."""
        kept = SimpleNamespace(count=TOKENS_PER_IMAGE // 4, reason="a fake")
        return (None if self.visual.budget == "full" else kept,) * self._images

    def stream(
        self, prompt: Any, parameters: Any, *, request_id: str, preprocess_seconds: float, visual: Any
    ) -> Iterator[Any]:
        self.keywords, self.visual, self._images = dict(vars(parameters)), visual, len(prompt.media)
        facts = self._statistics[request_id] = SimpleNamespace(
            prompt_tokens=len(prompt.token_ids),
            cached_tokens=3,
            preprocess_seconds=preprocess_seconds,
            encode_seconds=0.25,
            prefill_seconds=0.5,
            decode_seconds=2.0,
            time_to_first_token=1.5,
            generated_tokens=0,
            draft="",
        )
        slow = "slowly" in prompt.text
        words = (f" {number}" for number in range(10_000)) if slow else iter(_pieces(prompt.text))
        try:
            for index, word in enumerate(words, start=1):
                if slow:
                    time.sleep(0.05)
                last = index == parameters.max_tokens
                facts.generated_tokens += 1
                yield _output(request_id, index, word, "length" if last else None)
                if last:
                    return
            facts.generated_tokens += 1
            yield _output(request_id, 0, "", "stop")
        finally:
            self.closed += 1


def _output(name: str, token: int, text: str, reason: str | None) -> Any:
    return SimpleNamespace(
        request_id=name, index=0, token_ids=(token,), text=text, finish_reason=reason, finished=bool(reason)
    )


def _pieces(text: str) -> list[str]:
    return [f" {word}" for word in text.split()]


def main() -> int:
    """Run the command line on this process's arguments with the fake in the model's place."""
    from foveate.cli import chat
    from foveate.cli.main import run

    chat.start_engine = lambda ref, **_: FakeEngine(FakeModel())  # type: ignore[assignment]
    return run()


if __name__ == "__main__":
    sys.exit(main())
