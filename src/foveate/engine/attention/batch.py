"""The attention of one packed batch: what travels through the layers, and what a backend is.

Owns the batch (segments of many sequences in one row of tokens), the storing of new keys and values, and the
protocol of backends. Knows no way to compute attention: each backend has a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from foveate.engine.cache import KeyValueBlocks
from foveate.models.attention import AttentionState


@dataclass(kw_only=True)
class Segment:
    """One sequence's part of a packed batch.

    Attributes:
        offset: where its tokens begin in the batch.
        start, stop: which of its tokens run; all before `start` are in the cache.
        slots: [stop] cache slots of all tokens up to `stop`.
        rules: who sees whom over the sequence's prompt (attention groups).
    """

    offset: int
    start: int
    stop: int
    slots: torch.Tensor
    rules: AttentionState

    @property
    def count(self) -> int:
        """Tokens that run."""
        return self.stop - self.start

    @property
    def is_plain_decode(self) -> bool:
        """One token, and none that belongs to a group: it sees its past and no more."""
        groups = self.rules.groups
        return self.count == 1 and (
            groups is None or self.start >= groups.shape[0] or int(groups[self.start]) < 0
        )


@dataclass(kw_only=True)
class Call:
    """One layer's attention. query [1, H, T, d]; key, value [1, G, T, d]: the new tokens, already stored."""

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float
    window: int | None
    softcap: float | None
    sinks: torch.Tensor | None


class Backend(Protocol):
    """Computes one layer's attention of a packed batch.

    Attributes:
        purpose: what it is good at, for the reason of its choice.
        where: machines and caches it serves, for the documentation; `refusal` is what decides.
    """

    name: ClassVar[str]
    purpose: ClassVar[str]
    where: ClassVar[str]

    @classmethod
    def refusal(cls, memory: KeyValueBlocks) -> str | None:
        """Why it cannot serve this cache on this machine; None if it can."""
        ...

    @classmethod
    def only_on_request(cls, memory: KeyValueBlocks) -> str | None:
        """Why `auto` passes over it here though it could serve; None where it need not."""
        return None

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        """[1, H, T, d]; may keep what layers share in `batch.notes`."""
        ...


class PagedBatch:
    """The attention state of one step; takes the place of `AttentionState` (see `models.attention.Attends`).

    Attributes:
        decoding: segments of one token that sees its whole past; `prompts`: all others.
    """

    def __init__(self, memory: KeyValueBlocks, segments: Sequence[Segment], backend: Backend) -> None:
        self.memory, self.segments, self.backend = memory, segments, backend
        self.notes: dict[object, object] = {}
        self.decoding = [segment for segment in segments if segment.is_plain_decode]
        self.prompts = [segment for segment in segments if not segment.is_plain_decode]
        self._new_slots = torch.cat([segment.slots[segment.start :] for segment in segments])

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
        """Stores the new keys and values, then attends; see `models.attention.Attends`."""
        assert query.shape[2] == self._new_slots.shape[0], "the batch is not the one that was planned"
        self.memory.write(layer_idx, self._new_slots, key[0].transpose(0, 1), value[0].transpose(0, 1))
        call = Call(
            layer=layer_idx,
            query=query,
            key=key,
            value=value,
            scale=scale,
            window=window,
            softcap=softcap,
            sinks=sinks,
        )
        return self.backend.attend(self, call)
