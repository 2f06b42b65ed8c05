"""What is asked of a server, how often and how many at once.

Owns ranges and the reading of a server's address.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import urlsplit

from foveate.errors import FoveateError


class LoadError(FoveateError):
    """A server that cannot be measured, or settings that mean nothing."""


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """One measurement.

    Attributes:
        url: the server, with or without /v1.
        model: its name there; None takes the only one that it lists.
        concurrency: requests in flight, one level after another; a request that ends makes room for the next (a closed
            loop, so a slow server is asked less often: see the request rate in the result).
        requests: in each level, beside `warmup` before it that do not count.
        max_tokens: longest answer.
        exact_tokens: asks for exactly so many, which vLLM, SGLang and Foveate understand (`ignore_eos`, `min_tokens`).
        prompt_words: of text in each request, beside the picture's question.
        pictures: pictures in each request; 0 for text alone.
        repeat: the same pictures and prompts in every request, to measure caches; else no two are alike.
        timeout: seconds without a byte before a request counts as failed.
        seed: of pictures and words.

    Raises:
        LoadError: a value out of range.
    """

    url: str
    model: str | None = None
    concurrency: tuple[int, ...] = (1, 4, 16)
    requests: int = 32
    warmup: int = 2
    max_tokens: int = 64
    exact_tokens: bool = False
    prompt_words: int = 16
    pictures: int = 1
    repeat: bool = False
    timeout: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            (
                "concurrency",
                bool(self.concurrency) and all(level >= 1 for level in self.concurrency),
                "1 or more",
            ),
            ("requests", self.requests >= 1, "1 or more"),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("max_tokens", self.max_tokens >= 1, "1 or more"),
            ("prompt_words", self.prompt_words >= 0, "0 or more"),
            ("pictures", 0 <= self.pictures <= 16, "0 to 16"),
            ("timeout", 0 < self.timeout < math.inf, "above 0"),
        )
        for name, valid, allowed in checks:
            if not valid:
                raise LoadError(
                    f"{name} is {getattr(self, name)}",
                    why=f"it must be {allowed}",
                    fix="Correct the setting.",
                )
        base_url(self.url)


def base_url(url: str) -> str:
    """The address that /chat/completions stands below: `http://host:8000` and `http://host:8000/v1/` mean the same.

    Raises:
        LoadError: no http(s) address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise LoadError(
            f"{url!r} is no server",
            why="it is not written http://host:port",
            fix="Such as: http://127.0.0.1:8000",
        )
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
