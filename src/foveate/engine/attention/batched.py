"""Attention on a CPU in torch operators alone: what can be computed together is.

Owns the buckets of decoding sequences and the prompts that begin. Used where `native.py` cannot be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from foveate.engine.attention.batch import Backend, Call, PagedBatch, Segment
from foveate.engine.attention.reference import ReferenceBackend
from foveate.engine.cache import KeyValueBlocks
from foveate.models.attention import dense_attention


@dataclass(kw_only=True)
class _Bucket:
    """Decoding sequences of similar length: rows [B] in the batch, slots [B, L], mask [B, 1, 1, L] or None."""

    rows: torch.Tensor
    slots: torch.Tensor
    mask: torch.Tensor | None


class BatchedCpuBackend(Backend):
    """Decoding sequences together, padded to the longest of a bucket; prompts that begin read no cache.

    Buckets join sequences whose lengths differ by less than a factor of two, so padding costs less than the
    sequences themselves. Padding repeats a sequence's own first slot: a free block may hold anything, and
    0 x NaN is NaN.
    """

    name = "cpu-batched"
    purpose = "decoding sequences share one call per layer"
    where = "a CPU"

    def __init__(self) -> None:
        self._reference = ReferenceBackend()

    @classmethod
    def refusal(cls, memory: KeyValueBlocks) -> str | None:
        """Elsewhere than on a CPU, padding costs more than it saves."""
        device = memory.keys[0].device.type
        return None if device == "cpu" else f"the cache is on {device}"

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        tokens, heads = call.query.shape[2], call.query.shape[1]
        output = call.query.new_empty(tokens, heads, call.value.shape[3])
        self.decode(batch, call, output)
        for segment in (*batch.prompts, *batch.trees):
            stop = segment.offset + segment.count
            output[segment.offset : stop] = self._prefill(batch, call, segment)[0].transpose(0, 1)
        return output.transpose(0, 1)[None]

    def decode(self, batch: PagedBatch, call: Call, output: torch.Tensor) -> None:
        """Fills the rows of output [T, H, d] that belong to decoding sequences."""
        for bucket in self._buckets(batch, call.window):
            output[bucket.rows] = self._decode_bucket(batch, call, bucket)

    def _prefill(self, batch: PagedBatch, call: Call, segment: Segment) -> torch.Tensor:
        if segment.start:
            return self._reference.attend_segment(batch, call, segment)
        rows = slice(segment.offset, segment.offset + segment.count)
        query = call.query[:, :, rows]
        mask = segment.mask(call.window, query.device)
        return dense_attention(
            query,
            call.key[:, :, rows],
            call.value[:, :, rows],
            mask,
            scale=call.scale,
            softcap=call.softcap,
            sinks=call.sinks,
        )

    def _decode_bucket(self, batch: PagedBatch, call: Call, bucket: _Bucket) -> torch.Tensor:
        """[B, H, d]."""
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
        return output[:, :, 0]

    def _buckets(self, batch: PagedBatch, window: int | None) -> list[_Bucket]:
        """Shared by all layers of one window."""
        found = batch.notes.get(("buckets", window))
        if found is None:
            found = batch.notes["buckets", window] = _make_buckets(batch.decoding, window)
        assert isinstance(found, list)
        return found


def _make_buckets(segments: Sequence[Segment], window: int | None) -> list[_Bucket]:
    by_size: dict[int, list[Segment]] = {}
    for segment in segments:
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
