"""Attention of a stream: unrotated keys in pages, turned to where they stand now.

Owns the pages' tensors, the row of turned keys that steps are read from, and one step's attending. What is kept, and
where, is `window.py`'s. While nothing leaves, the keys of earlier steps stand where they stood: they are gathered from
their pages and turned once, in the first step after something has left, and later steps put theirs behind them. Without
a row every step gathers and turns all of them: the reference, to the same numbers.
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


class TurnedRow:
    """Keys turned to their places and values, in the order of the stream: per layer [G, room, d].

    Attributes:
        length: tokens that every layer has, from the first kept one on.
    """

    def __init__(self, pages: UnrotatedPages, room: int) -> None:
        layers, heads, _, width = pages.keys.shape
        self._keys = pages.keys.new_zeros((layers, heads, room, width))
        self._values = pages.values.new_zeros((layers, heads, room, width))
        self.length = 0

    @property
    def bytes(self) -> int:
        """Memory of the whole row."""
        return self._keys.nbytes + self._values.nbytes

    def put(
        self, layer: int, start: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Puts [1, G, n, d] behind the first `start` tokens of a layer; all up to there, [1, G, start + n, d]."""
        end = start + key.shape[2]
        self._keys[layer, :, start:end] = key[0]
        self._values[layer, :, start:end] = value[0]
        return self._keys[None, layer, :, :end], self._values[None, layer, :, :end]


class StreamAttention:
    """One step of one stream, as the keyword argument `attention_state`.

    Args:
        slots: [m] of all that is kept, the step's n new tokens last.
        tables: by layer, of the positions from `known` on.
        rules: who may look at whom among the m.
        row: where turned keys are kept between steps; None to gather and turn all of them.
        known: tokens that the row has already, 0 or m - n.
    """

    def __init__(
        self,
        pages: UnrotatedPages,
        slots: torch.Tensor,
        new: int,
        tables: Callable[[int], Table | None],
        rules: AttentionState,
        row: TurnedRow | None = None,
        known: int = 0,
    ) -> None:
        assert known in (0, len(slots) - new), "the row has other tokens than the stream"
        self._pages, self._slots, self._new = pages, slots, new
        self._tables, self._rules, self._row, self._known = tables, rules, row, known
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
        keys, values = (key, value) if self._known else self._pages.read(layer_idx, self._slots)
        table = self._tables(layer_idx)
        if table is not None:
            keys = turned(keys, table)
            query = turned(query, (table[0][:, -self._new :], table[1][:, -self._new :]))
        if self._row is not None:
            keys, values = self._row.put(layer_idx, self._known, keys, values)
        mask = self._rules.mask(self._new, len(self._slots), window, query.device)
        return dense_attention(query, keys, values, mask, scale=scale, softcap=softcap, sinks=sinks)
