"""Requests in, tokens out: scheduling, paged cache, batching, sampling.

Knows no HTTP and no family's details. Importing this package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.engine.async_engine import AsyncEngine
    from foveate.engine.config import EngineConfig, EngineConfigError
    from foveate.engine.engine import Engine
    from foveate.engine.reduction import VisualBudget
    from foveate.engine.request import (
        Completion,
        OutputConstraint,
        RequestError,
        SamplingParameters,
        StepOutput,
    )
    from foveate.engine.statistics import EngineStatistics, Event, RequestStatistics

_HOMES = {
    "AsyncEngine": "async_engine",
    "Completion": "request",
    "Engine": "engine",
    "EngineConfig": "config",
    "EngineConfigError": "config",
    "EngineStatistics": "statistics",
    "Event": "statistics",
    "OutputConstraint": "request",
    "RequestError": "request",
    "RequestStatistics": "statistics",
    "SamplingParameters": "request",
    "StepOutput": "request",
    "VisualBudget": "reduction",
}

__all__ = [
    "AsyncEngine",
    "Completion",
    "Engine",
    "EngineConfig",
    "EngineConfigError",
    "EngineStatistics",
    "Event",
    "OutputConstraint",
    "RequestError",
    "RequestStatistics",
    "SamplingParameters",
    "StepOutput",
    "VisualBudget",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
