"""Loading a Hugging Face checkpoint into one `VisionLanguageModel` contract.

Owns checkpoints, families, attention under `transformers` model code, and reference decoding. Knows no
requests, no scheduling and no HTTP. Importing this package imports no torch: the command line's `--help`
depends on it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.loading import load
    from foveate.models.records import GeneratedToken, MediaFeatures, PreparedMedia, Prompt, VisualGrid
    from foveate.models.registry import FamilyInfo, supported_families

__all__ = [
    "FamilyInfo",
    "GeneratedToken",
    "MediaFeatures",
    "PreparedMedia",
    "Prompt",
    "VisionLanguageModel",
    "VisualGrid",
    "load",
    "supported_families",
]

_HOMES = {
    "FamilyInfo": "registry",
    "VisionLanguageModel": "base",
    "load": "loading",
    "supported_families": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'records')}"), name)
