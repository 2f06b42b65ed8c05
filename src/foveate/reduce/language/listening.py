"""Hooks on decoder layers, and an ear for their queries and keys.

Owns how a run gets at what transformers' layers are given, without touching other calls of the same model. Knows no
tokens and no method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from foveate.models.attention import AttentionState

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

# (layer, its module, positional arguments, keyword arguments) -> the arguments it is to be given instead.
Hook = Callable[[int, Any, tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


@contextmanager
def hooked(model: VisionLanguageModel, state: Any, hook: Hook) -> Iterator[None]:
    """Shows `hook` the input of each decoder layer, in calls that carry `state`: other threads' are left alone."""

    def hook_of(layer: int) -> Any:
        def before(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            return (
                hook(layer, module, arguments, keywords) if keywords.get("attention_state") is state else None
            )

        return before

    handles = [
        module.register_forward_pre_hook(hook_of(layer), with_kwargs=True)
        for layer, module in enumerate(model.language_model.layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """Queries [H, n, d] and keys [G, n, d] of a layer, as attention multiplies them."""

    query: torch.Tensor
    key: torch.Tensor
    scale: float


class Ear:
    """An `Attends` that notes what passes at chosen layers; without a state behind it attention gives zeros."""

    def __init__(self, state: AttentionState | None, layers: frozenset[int] | None = None) -> None:
        self._state, self._layers = state, layers
        self.heard: Heard | None = None

    def attend(
        self,
        layer_idx: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See `Attends`."""
        assert window is None and softcap is None and sinks is None, "not a plain decoder"
        if self._layers is None or layer_idx in self._layers:
            self.heard = Heard(query=query[0], key=key[0], scale=scale)
        if self._state is None:
            return torch.zeros_like(query)
        return self._state.attend(layer_idx, query, key, value, scale=scale)
