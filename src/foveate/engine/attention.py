"""Attention of a packed batch over the paged cache, behind the same seam as one sequence's.

Owns the object that travels as `attention_state` through one step, and the backends that compute it: the plain
reference, one sequence after the other, and a fast path for CPUs that decodes sequences of similar length
together. Knows no scheduling and no families. A backend is a class with `attend(batch, call)`; add it to
BACKENDS and to the comparison in the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from foveate.engine.cache import KeyValueBlocks
from foveate.errors import FoveateError, nearest
from foveate.models.attention import AttentionState, dense_attention


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
    """Computes one layer's attention of a packed batch."""

    name: str

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        """[1, H, T, d]; may keep what layers share in `batch.notes`."""
        ...


class PagedBatch:
    """The attention state of one step; takes the place of `AttentionState` (see `models.attention.Attends`)."""

    def __init__(self, memory: KeyValueBlocks, segments: Sequence[Segment], backend: Backend) -> None:
        self.memory, self.segments, self.backend = memory, segments, backend
        self.notes: dict[object, object] = {}
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


class ReferenceBackend:
    """Each sequence alone: gather all its keys and values, build its mask, attend."""

    name = "reference"

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        return torch.cat([self._one(batch, call, segment) for segment in batch.segments], dim=2)

    def _one(self, batch: PagedBatch, call: Call, segment: Segment) -> torch.Tensor:
        query = call.query[:, :, segment.offset : segment.offset + segment.count]
        key, value = batch.memory.gather(call.layer, segment.slots)
        mask = segment.rules.mask(segment.count, segment.stop, call.window, query.device)
        return dense_attention(
            query,
            key.transpose(0, 1)[None].to(query.dtype),
            value.transpose(0, 1)[None].to(query.dtype),
            mask,
            scale=call.scale,
            softcap=call.softcap,
            sinks=call.sinks,
        )


@dataclass(kw_only=True)
class _Bucket:
    """Decoding sequences of similar length: rows [B] in the batch, slots [B, L], mask [B, 1, 1, L] or None."""

    rows: torch.Tensor
    slots: torch.Tensor
    mask: torch.Tensor | None


class BatchedCpuBackend:
    """Decoding sequences together, padded to the longest of a bucket; prompts that begin read no cache.

    Buckets join sequences whose lengths differ by less than a factor of two, so padding costs less than the
    sequences themselves. Padding repeats a sequence's own first slot: a free block may hold anything, and
    0 x NaN is NaN.
    """

    name = "cpu-batched"

    def __init__(self) -> None:
        self._reference = ReferenceBackend()

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        output = torch.empty(
            *call.query.shape[:3],
            call.value.shape[3],
            dtype=call.query.dtype,
            device=call.query.device,
        )
        for bucket in self._buckets(batch, call.window):
            output[:, :, bucket.rows] = self._decode(batch, call, bucket)
        for segment in batch.segments:
            if not segment.is_plain_decode:
                stop = segment.offset + segment.count
                output[:, :, segment.offset : stop] = self._prefill(batch, call, segment)
        return output

    def _prefill(self, batch: PagedBatch, call: Call, segment: Segment) -> torch.Tensor:
        if segment.start:
            return self._reference._one(batch, call, segment)
        rows = slice(segment.offset, segment.offset + segment.count)
        query = call.query[:, :, rows]
        mask = segment.rules.mask(segment.count, segment.count, call.window, query.device)
        return dense_attention(
            query,
            call.key[:, :, rows],
            call.value[:, :, rows],
            mask,
            scale=call.scale,
            softcap=call.softcap,
            sinks=call.sinks,
        )

    def _decode(self, batch: PagedBatch, call: Call, bucket: _Bucket) -> torch.Tensor:
        count, length = bucket.slots.shape
        key, value = batch.memory.gather(call.layer, bucket.slots.reshape(-1))
        output = dense_attention(
            call.query[0, :, bucket.rows].transpose(0, 1)[:, :, None],  # [B, H, 1, d]
            key.view(count, length, *key.shape[1:]).transpose(1, 2).to(call.query.dtype),
            value.view(count, length, *value.shape[1:]).transpose(1, 2).to(call.query.dtype),
            bucket.mask,
            scale=call.scale,
            softcap=call.softcap,
            sinks=call.sinks,
        )
        return output[:, :, 0].transpose(0, 1)[None]

    def _buckets(self, batch: PagedBatch, window: int | None) -> list[_Bucket]:
        """Shared by all layers of one window."""
        found = batch.notes.get(("buckets", window))
        if found is None:
            found = batch.notes["buckets", window] = _make_buckets(batch.segments, window)
        assert isinstance(found, list)
        return found


def _make_buckets(segments: Sequence[Segment], window: int | None) -> list[_Bucket]:
    by_size: dict[int, list[Segment]] = {}
    for segment in segments:
        if segment.is_plain_decode:
            seen = segment.stop if window is None else min(segment.stop, window)
            by_size.setdefault(seen.bit_length(), []).append(segment)
    buckets = []
    for members in by_size.values():
        own = [member.slots if window is None else member.slots[-window:] for member in members]
        lengths = torch.tensor([slots.shape[0] for slots in own], device=own[0].device)
        longest = int(lengths.max())
        slots = torch.stack([torch.cat([one, one[:1].expand(longest - one.shape[0])]) for one in own])
        valid = torch.arange(longest, device=slots.device)[None] < lengths[:, None]
        buckets.append(
            _Bucket(
                rows=torch.tensor([member.offset for member in members], device=slots.device),
                slots=slots,
                mask=None if bool(valid.all()) else valid[:, None, None],
            )
        )
    return buckets


BACKENDS: dict[str, type[ReferenceBackend] | type[BatchedCpuBackend]] = {
    ReferenceBackend.name: ReferenceBackend,
    BatchedCpuBackend.name: BatchedCpuBackend,
}


def choose_backend(device: torch.device, wanted: str = "auto") -> tuple[Backend, str]:
    """The backend for a device, and the reason in words.

    Raises:
        FoveateError: a name that is no backend.
    """
    if wanted != "auto":
        if wanted not in BACKENDS:
            raise FoveateError(
                f"There is no attention backend {wanted!r}", fix=nearest(wanted, ["auto", *BACKENDS])
            )
        return BACKENDS[wanted](), f"{wanted}: asked for"
    if device.type == "cpu":
        return BatchedCpuBackend(), "cpu-batched: on a CPU, decoding sequences share one call per layer"
    return ReferenceBackend(), f"reference: no paged kernel is built for {device.type} yet"
