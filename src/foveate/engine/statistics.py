"""Where time went, per request and for the engine, and the events that tell a listener as it happens.

Owns records and counting. Knows no scheduling; times are seconds on the engine's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """`kind`: "added", "admitted", "preempted", "first_token", "finished", "aborted" (with `request_id`) or
    "step". `data` carries what belongs to it; of "finished" and "aborted", the request's statistics."""

    kind: str
    time: float
    request_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


@dataclass(kw_only=True)
class RequestStatistics:
    """One request.

    Attributes:
        preprocess_seconds: image opening, pixel processing, template, tokens; before arrival.
        queue_seconds: arrival to first admission.
        encode_seconds: encoder stages of steps in which an image of this request was encoded.
        prefill_seconds: first admission to first token, encoding excluded.
        decode_seconds: first token to the end.
        cached_tokens: prompt tokens found in the prefix cache.
        encoded_images: images the encoder ran for; the others were cached, or covered by a cached prefix.
    """

    request_id: str
    prompt_tokens: int
    images: int
    arrival: float
    preprocess_seconds: float = 0.0
    encode_seconds: float = 0.0
    admitted: float | None = None
    first_token: float | None = None
    ended: float | None = None
    cached_tokens: int = 0
    encoded_images: int = 0
    generated_tokens: int = 0
    preemptions: int = 0

    @property
    def queue_seconds(self) -> float | None:
        """None until admitted."""
        return None if self.admitted is None else self.admitted - self.arrival

    @property
    def prefill_seconds(self) -> float | None:
        """None until the first token."""
        if self.admitted is None or self.first_token is None:
            return None
        return self.first_token - self.admitted - self.encode_seconds

    @property
    def decode_seconds(self) -> float | None:
        """None until ended."""
        return None if self.first_token is None or self.ended is None else self.ended - self.first_token

    @property
    def time_to_first_token(self) -> float | None:
        """From the caller's view: preprocessing included."""
        if self.first_token is None:
            return None
        return self.preprocess_seconds + self.first_token - self.arrival


@dataclass(kw_only=True)
class EngineStatistics:
    """Counters since the engine began, and what is in use now."""

    steps: int = 0
    tokens: int = 0
    largest_batch: int = 0
    largest_step_tokens: int = 0
    encoded_images: int = 0
    encode_seconds: float = 0.0
    forward_seconds: float = 0.0
    sample_seconds: float = 0.0
    preemptions: int = 0
    finished: int = 0
    aborted: int = 0
    running: int = 0
    waiting: int = 0
    blocks: int = 0
    blocks_in_use: int = 0
    blocks_idle: int = 0
    most_blocks_in_use: int = 0
    prefix_asked_tokens: int = 0
    prefix_hit_tokens: int = 0
    prefix_evictions: int = 0
    encoder_hits: int = 0
    encoder_misses: int = 0
    encoder_evictions: int = 0
    encoder_bytes: int = 0
