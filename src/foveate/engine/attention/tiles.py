"""A packed batch cut into tiles of queries, and where in the paged cache each tile finds its keys.

Owns the index tensors that block-sparse attention over a physical cache needs. Knows no attention: `flex.py`
computes with them. Everything is built from host numbers and one look at the slots, so a GPU is never waited
for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from foveate.engine.attention.batch import Segment
from foveate.engine.cache import KeyValueBlocks

LEAST = 16


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """N tiles of h query rows each, of S sequences; a tile never holds two sequences.

    That costs padding, and buys two things: a decoding sequence reads its own blocks and nobody else's, and
    whatever one sequence has in its cache (NaN, if its model overflowed) cannot reach another through a
    weight of 0. N, S, W and L are powers of two from 16, so that compiled code meets few sizes.

    Attributes:
        tokens: [N, h] rows of the packed batch; 0 for padding.
        positions: [N, h] where in its sequence each stands; -1 for padding, which sees nothing.
        sequences: [N] whose they are.
        counts, blocks: [N, 1, 1] how many physical blocks a tile may look at, and [N, 1, 1, W] which.
        logical: [S, physical blocks] which block of a sequence a physical one is; -1 if none. By sequence,
            because a block may be shared.
        groups: [S, L] attention group of every token (see `AttentionState`), -1 for none; None if no
            sequence has any.
        cuts: [S] whether a window cuts groups.
        filled: [T] places in the flattened tiles that are no padding; `rows`: [T] their rows in the batch.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    sequences: torch.Tensor
    counts: torch.Tensor
    blocks: torch.Tensor
    logical: torch.Tensor
    groups: torch.Tensor | None
    cuts: torch.Tensor
    filled: torch.Tensor
    rows: torch.Tensor


def cut_into_tiles(
    segments: Sequence[Segment], memory: KeyValueBlocks, *, height: int, window: int | None
) -> Tiles:
    """Tiles of at most `height` rows over all segments, with the blocks each may look at in such a layer."""
    device, size = memory.keys[0].device, memory.block_size
    # Per tile: sequence, first and last position, row of the first, first and last block in sight.
    facts = torch.tensor(
        [
            (
                index,
                first,
                last,
                segment.offset + first - segment.start,
                *in_sight(segment, first, last, size, window),
            )
            for index, segment in enumerate(segments)
            for first in range(segment.start, segment.stop, height)
            for last in [min(first + height, segment.stop)]
        ]
    )
    empty = torch.zeros(padded(facts.shape[0]) - facts.shape[0], facts.shape[1], dtype=facts.dtype)
    sequence, first, last, row, low, high = torch.cat([facts, empty]).unbind(dim=1)
    step = torch.arange(height)[None]
    positions = first[:, None] + step
    real = positions < last[:, None]
    tokens = torch.where(real, row[:, None] + step, 0)

    owned = torch.cat([segment.slots[::size] for segment in segments]).to(device) // size
    lengths = torch.tensor([-(-segment.stop // size) for segment in segments])
    starts = lengths.cumsum(0) - lengths
    counts = high - low
    ahead = torch.arange(padded(int(counts.max())))[None]
    listed = torch.where(ahead < counts[:, None], (starts[sequence] + low)[:, None] + ahead, 0)
    whose = torch.arange(len(segments)).repeat_interleave(lengths)
    logical = torch.full((padded(len(segments)), memory.blocks), -1, dtype=torch.int32, device=device)
    logical[whose.to(device), owned] = (torch.arange(whose.shape[0]) - starts[whose]).int().to(device)
    cuts = torch.zeros(logical.shape[0], dtype=torch.bool)
    cuts[: len(segments)] = torch.tensor([segment.rules.window_cuts_groups for segment in segments])
    return Tiles(
        tokens=tokens.to(device),
        positions=torch.where(real, positions, -1).int().to(device),
        sequences=sequence.int().to(device),
        counts=counts.int()[:, None, None].to(device),
        blocks=owned[listed.to(device)].int()[:, None, None],
        logical=logical,
        groups=_groups(segments, logical.shape[0], padded(int(lengths.max()) * size), device),
        cuts=cuts.to(device),
        filled=real.reshape(-1).nonzero()[:, 0].to(device),
        rows=tokens[real].to(device),
    )


def padded(count: int) -> int:
    """The next power of two, at least 16."""
    return max(LEAST, 1 << (count - 1).bit_length())


def in_sight(segment: Segment, first: int, last: int, size: int, window: int | None) -> tuple[int, int]:
    """Logical blocks [low, high) that hold all that the tokens [first, last) of a segment may see."""
    groups = segment.rules.groups
    grouped = groups is not None and first < groups.shape[0]
    low, high = 0, segment.stop if grouped else last
    if window is not None and (segment.rules.window_cuts_groups or not grouped):
        low = max(0, first - window + 1)
    return low // size, -(-high // size)


def begun_tails(segments: Sequence[Segment], block_size: int) -> torch.Tensor | None:
    """Slots behind the last token of every segment whose last block gets its first token now; None if none.

    Nobody has written there, and nobody shares such a block yet.
    """
    tails = []
    for segment in segments:
        begins = (segment.stop - 1) // block_size * block_size
        left = begins + block_size - segment.stop
        if begins >= segment.start and left:
            tails.append(segment.slots[-1] + torch.arange(1, left + 1, device=segment.slots.device))
    return torch.cat(tails) if tails else None


def _groups(
    segments: Sequence[Segment], sequences: int, length: int, device: torch.device
) -> torch.Tensor | None:
    """[sequences, length]; tokens past the end of what runs are in no group: their keys do not exist."""
    if all(segment.rules.groups is None for segment in segments):
        return None
    table = torch.full((sequences, length), -1, dtype=torch.int32)
    for index, segment in enumerate(segments):
        if segment.rules.groups is not None:
            own = segment.rules.groups[: segment.stop]
            table[index, : own.shape[0]] = own.to("cpu", torch.int32)
    return table.to(device)
