"""Hidden states of chosen language layers, for whoever needs more than the last one.

Owns the hooks that copy nothing and remove themselves. Knows no reader: draft models that read several layers
(EAGLE-3, Li et al. 2025, arXiv 2503.01840), gates and probes all take [1, T, D] in the order of the step plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import ModelError

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


class HiddenStateTaps:
    """`with taps: model.run_language_model(...)` leaves the output of each chosen layer in `states`.

    Args:
        layers: indices of decoder layers, from 0; the state is the layer's output, before any last norm.

    Raises:
        ModelError: an index the model does not have.
    """

    def __init__(self, model: VisionLanguageModel, layers: Sequence[int]) -> None:
        self.states: dict[int, torch.Tensor] = {}
        self._handles: list[Any] = []
        self._modules: dict[int, Any] = {}
        if not layers:
            return
        stack = model.language_model.layers
        for layer in layers:
            if not 0 <= layer < len(stack):
                raise ModelError(
                    f"There is no layer {layer} to tap", why=f"{model.ref} has layers 0 to {len(stack) - 1}"
                )
            self._modules[layer] = stack[layer]

    def __enter__(self) -> HiddenStateTaps:
        self.states = {}
        for layer, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._keeper(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keeper(self, layer: int) -> Any:
        def keep(module: Any, arguments: Any, output: Any) -> None:
            self.states[layer] = output[0] if isinstance(output, tuple) else output

        return keep
