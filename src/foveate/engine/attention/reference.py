"""The plain backend: each sequence alone, all its keys and values gathered, its mask built, then sdpa.

What every other backend is compared with. Knows no shortcuts.
"""

from __future__ import annotations

import torch

from foveate.engine.attention.batch import Backend, Call, PagedBatch, Segment
from foveate.engine.cache import KeyValueBlocks
from foveate.models.attention import dense_attention


class ReferenceBackend(Backend):
    """Each sequence alone: gather all its keys and values, build its mask, attend."""

    name = "reference"
    purpose = "plain torch, one sequence after the other"
    where = "wherever torch runs"

    @classmethod
    def refusal(cls, memory: KeyValueBlocks) -> str | None:
        """None: it runs wherever torch does."""
        return None

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        return torch.cat([self.attend_segment(batch, call, segment) for segment in batch.segments], dim=2)

    def attend_segment(self, batch: PagedBatch, call: Call, segment: Segment) -> torch.Tensor:
        """[1, H, n, d] of one sequence's n new tokens."""
        query = call.query[:, :, segment.offset : segment.offset + segment.count]
        key, value = batch.memory.gather(call.layer, segment.slots)
        mask = segment.mask(call.window, query.device)
        return dense_attention(
            query,
            key.transpose(0, 1)[None].to(query.dtype),
            value.transpose(0, 1)[None].to(query.dtype),
            mask,
            scale=call.scale,
            softcap=call.softcap,
            sinks=call.sinks,
        )
