"""Visual-token reduction: one dial, many methods, one contract.

Owns budgets, keep-maps, the reducers and what they need of a model. Knows no requests, no scheduling and no
HTTP. Importing this package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foveate.reduce.base import Reducer
    from foveate.reduce.budget import Budget, Plan
    from foveate.reduce.further import reduce_further
    from foveate.reduce.keep_map import KeepMap
    from foveate.reduce.prompt import ReducedPrompt, generate_reduced, reduce_prompt, reduced_logits
    from foveate.reduce.registry import get_reducer, list_reducers, reducer

_HOMES = {
    "Budget": "budget",
    "KeepMap": "keep_map",
    "Plan": "budget",
    "Reducer": "base",
    "ReducedPrompt": "prompt",
    "generate_reduced": "prompt",
    "get_reducer": "registry",
    "list_reducers": "registry",
    "reduce_further": "further",
    "reduce_prompt": "prompt",
    "reduced_logits": "prompt",
    "reducer": "registry",
}
__all__ = [
    "Budget",
    "KeepMap",
    "Plan",
    "ReducedPrompt",
    "Reducer",
    "generate_reduced",
    "get_reducer",
    "list_reducers",
    "reduce_further",
    "reduce_prompt",
    "reduced_logits",
    "reducer",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
