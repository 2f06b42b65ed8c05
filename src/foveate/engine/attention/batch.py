"""The attention of one packed batch: what travels through the layers, and what a backend is.

Owns the batch (segments of many sequences in one row of tokens), the storing of new keys and values, and the
protocol of backends. Knows no way to compute attention: each backend has a file of its own beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
        tree: [count, count] booleans where the tokens that run are no chain (`DraftTree.visible`): who among them
            sees whom. All of them see all before `start`, as far as a window reaches: it counts steps along a path.
    """

    offset: int
    start: int
    stop: int
    slots: torch.Tensor
    rules: AttentionState
    tree: torch.Tensor | None = None
    _masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

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

    def mask(self, window: int | None, device: torch.device) -> torch.Tensor | None:
        """[count, stop] booleans, True where a token may look; None where it may look everywhere."""
        if self.tree is None:
            return self.rules.mask(self.count, self.stop, window, device)
        if window not in self._masks:
            depths = self.tree.sum(dim=1)  # of the first token: 1
            before, among = torch.ones(self.count, self.start, dtype=torch.bool), self.tree
            if window is not None:
                before = torch.arange(self.start)[None] >= (self.start + depths - window)[:, None]
                among = among & (depths[None] > depths[:, None] - window)
            self._masks[window] = torch.cat([before, among], dim=1).to(device)
        return self._masks[window]


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
        decoding: segments of one token that sees its whole past.
        trees: segments of a draft that is no chain.
        prompts: all others.
    """

    def __init__(self, memory: KeyValueBlocks, segments: Sequence[Segment], backend: Backend) -> None:
        self.memory, self.segments, self.backend = memory, segments, backend
        self.notes: dict[object, object] = {}
        self.decoding = [segment for segment in segments if segment.is_plain_decode]
        self.trees = [segment for segment in segments if segment.tree is not None]
        self.prompts = [
            segment for segment in segments if segment.tree is None and not segment.is_plain_decode
        ]
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
