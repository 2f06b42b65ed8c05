"""The OpenAI-compatible server: HTTP in, HTTP out, and what was kept of every picture.

Knows requests and replies; how a model works is the engine's matter. Importing this package imports neither FastAPI
nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.serve.app import create_app
    from foveate.serve.front import EngineFront
    from foveate.serve.settings import ServeSettings

_HOMES = {"EngineFront": "front", "ServeSettings": "settings", "create_app": "app"}

__all__ = ["EngineFront", "ServeSettings", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
