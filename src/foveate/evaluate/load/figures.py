"""From samples to figures, with the definitions that they are made by.

Owns the arithmetic. Percentiles interpolate linearly between the two nearest samples; failed requests are counted and
in no other figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from foveate.evaluate.load.client import Sample

DEFINITIONS = {
    "ttft": "time to first token, seconds: from sending a request to the first chunk with a part of the answer",
    "tpot": "time per output token, seconds: from that chunk to the end of the stream, by the output tokens after the "
    "first (as vLLM's benchmark has it); one figure a request, of requests with two tokens or more",
    "itl": "inter-token latency, seconds: between one chunk with a part of the answer and the next; all gaps of all "
    "requests together. A server that sends several tokens in a chunk has fewer and longer gaps",
    "latency": "seconds from sending a request to the end of its stream",
    "request_rate": "requests that succeeded, by the seconds from the first sending to the last end of the level",
    "output_rate": "their output tokens, by the same seconds",
    "generator_load": "share of one core that this program used; near 1 it, not the server, is what was measured",
}
PERCENTILES = (50, 90, 95, 99)


def summarise(samples: Sequence[Sample], *, concurrency: int, cpu_seconds: float) -> dict[str, Any]:
    """One level's figures.

    Args:
        cpu_seconds: that the generator used meanwhile.
    """
    good = [sample for sample in samples if not sample.failure]
    seconds = max(sample.ended for sample in samples) - min(sample.sent for sample in samples)
    several = [sample for sample in good if sample.output_tokens > 1]
    figures: dict[str, Any] = {
        "concurrency": concurrency,
        "requests": len(samples),
        "failures": dict(Counter(sample.failure for sample in samples if sample.failure)),
        "seconds": seconds,
        "request_rate": len(good) / seconds,
        "output_rate": sum(sample.output_tokens for sample in good) / seconds,
        "output_tokens": sum(sample.output_tokens for sample in good),
        "tokens_counted_by": sorted({sample.counted for sample in good}),
        "ttft": spread([sample.arrivals[0] - sample.sent for sample in good]),
        "tpot": spread([(s.ended - s.arrivals[0]) / (s.output_tokens - 1) for s in several]),
        "itl": spread([gap for sample in good for gap in np.diff(sample.arrivals).tolist()]),
        "latency": spread([sample.ended - sample.sent for sample in good]),
        "generator_load": cpu_seconds / seconds,
    }
    for name in ("prompt_tokens", "image_tokens", "image_tokens_kept", "cached_tokens"):
        told = [value for sample in good if (value := getattr(sample, name)) is not None]
        figures[name] = sum(told) if told else None
    return figures


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, percentiles and number of values; None without any."""
    if not values:
        return None
    found = np.percentile(values, PERCENTILES)
    named = {f"p{share}": float(value) for share, value in zip(PERCENTILES, found, strict=True)}
    return {"mean": float(np.mean(values)), **named, "count": len(values)}
