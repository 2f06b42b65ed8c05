"""Attention of a stream: unrotated keys in pages, turned to where they stand now.

Owns the pages' tensors and one step's attending. What is kept, and where, is `window.py`'s. This is reference
attention: it gathers and turns all kept keys of a layer in every step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from foveate.decode.streaming.rotation import Table, turned
from foveate.models.attention import AttentionState, dense_attention


class UnrotatedPages:
    """Keys before rotation and values: per layer [G, slots, d], taken whole at the start and never grown."""

    def __init__(
        self, *, layers: int, heads: int, width: int, slots: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        shape = (layers, heads, slots, width)
        # Written before it is read: a slot is gathered only while a token is in it.
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def bytes(self) -> int:
        """Memory of all pages, used or not."""
        return self.keys.nbytes + self.values.nbytes

    def write(self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Puts [1, G, n, d] into slots [n]."""
        self.keys[layer].index_copy_(1, slots, key[0])
        self.values[layer].index_copy_(1, slots, value[0])

    def read(self, layer: int, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """[1, G, m, d] each, of slots [m]."""
        return (
            self.keys[layer].index_select(1, slots)[None],
            self.values[layer].index_select(1, slots)[None],
        )


class StreamAttention:
    """One step of one stream, as the keyword argument `attention_state`.

    Args:
        slots: [m] of all that is kept, the step's n new tokens last.
        tables: by layer, of the m positions.
        rules: who may look at whom among the m.
    """

    def __init__(
        self,
        pages: UnrotatedPages,
        slots: torch.Tensor,
        new: int,
        tables: Callable[[int], Table | None],
        rules: AttentionState,
    ) -> None:
        self._pages, self._slots, self._new = pages, slots, new
        self._tables, self._rules = tables, rules
        self.unrotated_layers: set[int] = set()  # see `rotation.WantsUnrotated`

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
        """See `foveate.models.attention.Attends`."""
        assert layer_idx in self.unrotated_layers, f"layer {layer_idx} rotated its keys itself"
        self._pages.write(layer_idx, self._slots[-self._new :], key, value)
        keys, values = self._pages.read(layer_idx, self._slots)
        table = self._tables(layer_idx)
        if table is not None:
            keys = turned(keys, table)
            query = turned(query, (table[0][:, -self._new :], table[1][:, -self._new :]))
        mask = self._rules.mask(self._new, len(self._slots), window, query.device)
        return dense_attention(query, keys, values, mask, scale=scale, softcap=softcap, sinks=sinks)
