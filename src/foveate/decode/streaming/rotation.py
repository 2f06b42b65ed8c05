"""Rotation taken out of the model: keys are kept as they are before it, and turned where they stand now.

Owns the rotary tables of retained positions, and the seam: a hook before every attention layer that, for streams
alone, swaps the layer's rotation for none. Queries and keys then reach attention unrotated, and `attention.py` turns
both. Rotary embeddings: RoFormer, arXiv 2104.09864; M-RoPE differs in the table alone. Knows no windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from foveate.decode.streaming.settings import StreamError

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

Table = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, each [1, T, r], r at most the width of a head


@runtime_checkable
class WantsUnrotated(Protocol):
    """What `attention_state` must be for a layer to leave rotation to it."""

    unrotated_layers: set[int]


def turned(values: torch.Tensor, table: Table) -> torch.Tensor:
    """[1, G, T, d] rotated by a table of its T positions; a table narrower than d leaves the rest as it is."""
    cos, sin = (part[:, None] for part in table)
    width = cos.shape[-1]
    part, rest = values[..., :width], values[..., width:]
    half = width // 2
    swapped = torch.cat([-part[..., half:], part[..., :half]], dim=-1)
    rotated = part * cos + swapped * sin
    return rotated if not rest.shape[-1] else torch.cat([rotated, rest], dim=-1)


class Rotary:
    """The model's own rotary tables for any positions, by layer."""

    def __init__(self, model: VisionLanguageModel) -> None:
        language = model.language_model
        self._module: Any = getattr(language, "rotary_emb", None)
        if self._module is None:
            raise StreamError(
                f"{model.ref} cannot be streamed",
                why=f"{type(language).__name__} has no rotary positions to renumber",
                fix="Choose a model with rotary positions (foveate ls).",
            )
        self._like = torch.empty(1, dtype=model.dtype, device=model.device)
        kinds = list(getattr(model.text_config, "layer_types", None) or ())
        # Only some models have a table for each kind of layer (Gemma 3).
        by_kind = any(hasattr(self._module, f"{kind}_inv_freq") for kind in kinds)
        self._kinds: list[str | None] = [*kinds] if by_kind else []
        self._skipped = {
            int(layer.layer_idx) for layer in attention_layers(model) if not getattr(layer, "use_rope", True)
        }

    def tables(self, positions: torch.Tensor) -> Callable[[int], Table | None]:
        """Tables of positions [1, T] or [3, 1, T] by layer; None for a layer that rotates nothing."""
        made = {
            kind: self._module.forward(self._like, positions, *([kind] if kind else []))
            for kind in self._names
        }

        def of(layer: int) -> Table | None:
            if layer in self._skipped:
                return None
            return made[self._kinds[layer] if self._kinds else None]

        return of

    @property
    def _names(self) -> set[str | None]:
        return set(self._kinds) or {None}


def attention_layers(model: VisionLanguageModel) -> list[Any]:
    """The attention modules of the decoder, in order."""
    found = [layer.self_attn for layer in model.language_model.layers]
    assert all(hasattr(layer, "layer_idx") for layer in found)
    return found


class Unrotated:
    """While open, layers of the model hand queries and keys over unrotated to states that want it so; all other
    forwards, of other threads too, run as ever. Not reentrant: one for each stream."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._handles = [
            layer.register_forward_pre_hook(_without_rotation, with_kwargs=True)
            for layer in attention_layers(model)
        ]

    def close(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _without_rotation(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any] | None = None) -> Any:
    # Without keywords: another thread is in the middle of a forward while the hook is put in place or taken away.
    state = None if keywords is None else keywords.get("attention_state")
    if keywords is None or not isinstance(state, WantsUnrotated):
        return None
    cos, sin = keywords["position_embeddings"]
    state.unrotated_layers.add(int(module.layer_idx))
    # Multiplying by one and adding zero times something finite gives the same number to the last bit.
    none = (torch.ones_like(cos), torch.zeros_like(sin))
    return arguments, {**keywords, "position_embeddings": none}
