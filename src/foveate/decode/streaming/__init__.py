"""Streams without an end: what is kept of the past, and how much memory that takes.

Owns StreamingVLM's layout (Xu et al. 2025, arXiv 2510.09608): sinks, recent text, vision of the last seconds; keys
cached before rotation and turned anew to contiguous positions. Knows no HTTP, no video files and no engine.
"""

from foveate.decode.streaming.session import Answer, SecondReport, StreamingSession
from foveate.decode.streaming.settings import (
    StreamBound,
    StreamDefaults,
    StreamError,
    StreamSettings,
    bound_of,
)

__all__ = [
    "Answer",
    "SecondReport",
    "StreamBound",
    "StreamDefaults",
    "StreamError",
    "StreamSettings",
    "StreamingSession",
    "bound_of",
]
