"""Blocks of keys and values: which are free, who refers to them, and the tensors themselves.

Owns the block pool (fixed-size blocks, reference counts, free list, least recently used order of remembered
blocks) and the memory behind it. Knows no sequences, no tokens and no hashes: `state.py` keeps block tables,
`prefix_cache.py` keeps names of blocks. The idea of paging keys and values is vLLM's (Kwon et al. 2023,
arXiv 2309.06180).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch


def _nothing(block: int) -> None:
    return


class BlockPool:
    """Reference-counted block numbers.

    A block is in one of three places: in use (referenced), idle (unreferenced, but remembered because its
    content may be asked for again), or free. Idle blocks are handed out, least recently used first, when no
    free one is left.

    Attributes:
        on_evict: told when an idle block is taken for something else: its content is about to be lost.
        on_discard: told when a block becomes free: its content means nothing from now on.
    """

    def __init__(self, blocks: int) -> None:
        assert blocks >= 1, f"a pool of {blocks} blocks"
        self.size = blocks
        self.on_evict: Callable[[int], None] = _nothing
        self.on_discard: Callable[[int], None] = _nothing
        self._free: deque[int] = deque(range(blocks))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._references = [0] * blocks
        self._remembered: set[int] = set()

    @property
    def available(self) -> int:
        """Blocks that `allocate` can hand out now."""
        return len(self._free) + len(self._idle)

    @property
    def in_use(self) -> int:
        """Blocks that someone refers to."""
        return self.size - self.available

    @property
    def idle(self) -> int:
        """Blocks kept only because they may be asked for again."""
        return len(self._idle)

    def references(self, block: int) -> int:
        """How many tables hold the block."""
        return self._references[block]

    def allocate(self) -> int:
        """A block with one reference. The caller has looked at `available`."""
        assert self.available, "no block left: the caller must ask `available` first"
        if self._free:
            block = self._free.popleft()
        else:
            block, _ = self._idle.popitem(last=False)
            self._remembered.discard(block)
            self.on_evict(block)
            self.on_discard(block)
        self._references[block] = 1
        return block

    def retain(self, block: int) -> None:
        """One more reference; wakes an idle block."""
        if self._references[block] == 0:
            assert block in self._idle, f"block {block} is free: its content is lost"
            del self._idle[block]
        self._references[block] += 1

    def release(self, block: int) -> None:
        """One reference less; the last one makes the block idle if remembered, else free."""
        assert self._references[block] > 0, f"block {block} is released once too often"
        self._references[block] -= 1
        if self._references[block]:
            return
        if block in self._remembered:
            self._idle[block] = None
        else:
            self._free.append(block)
            self.on_discard(block)

    def remember(self, block: int) -> None:
        """Keep the content of this block when nobody refers to it any more."""
        assert self._references[block] > 0, f"block {block} is not in use"
        self._remembered.add(block)

    def forget_idle(self) -> None:
        """Frees every idle block, as if all had been evicted."""
        while self._idle:
            block, _ = self._idle.popitem(last=False)
            self._remembered.discard(block)
            self.on_evict(block)
            self._free.append(block)
            self.on_discard(block)

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Proves that reference counts are exactly what the tables hold and that no block leaked.

        Raises:
            AssertionError: naming the first block that is wrong.
        """
        held = Counter(block for table in tables for block in table)
        free, idle = set(self._free), set(self._idle)
        assert len(free) == len(self._free), "a block is free twice"
        assert not free & idle, f"blocks both free and idle: {sorted(free & idle)}"
        assert idle <= self._remembered, f"idle but not remembered: {sorted(idle - self._remembered)}"
        for block in range(self.size):
            count = self._references[block]
            assert count == held[block], f"block {block} has {count} references, tables hold {held[block]}"
            assert (count == 0) == (block in free or block in idle), f"block {block} leaked"


@dataclass(frozen=True, kw_only=True)
class LayerShape:
    """Keys and values of one layer: `heads` of them (G), `key_width` and `value_width` numbers each."""

    heads: int
    key_width: int
    value_width: int

    @property
    def numbers(self) -> int:
        """Numbers one token takes in this layer."""
        return self.heads * (self.key_width + self.value_width)


class KeyValueBlocks:
    """The memory of a paged cache: per layer, keys and values [slots, G, d], slot = block * size + offset."""

    def __init__(
        self,
        layers: Sequence[LayerShape],
        blocks: int,
        block_size: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        poison: bool = False,
    ) -> None:
        self.blocks, self.block_size = blocks, block_size
        self._poison = poison
        slots = blocks * block_size
        self.keys, self.values = (
            [
                torch.empty(slots, shape.heads, width, dtype=dtype, device=device)
                for shape, width in zip(layers, widths, strict=True)
            ]
            for widths in ([s.key_width for s in layers], [s.value_width for s in layers])
        )
        self.block_bytes = block_size * sum(shape.numbers for shape in layers) * dtype.itemsize
        if poison:
            for tensor in (*self.keys, *self.values):
                tensor.fill_(float("nan"))

    def write(self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Stores key and value [n, G, d] of n tokens in their slots [n]."""
        self.keys[layer].index_copy_(0, slots, key.to(self.keys[layer].dtype))
        self.values[layer].index_copy_(0, slots, value.to(self.values[layer].dtype))

    def gather(self, layer: int, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [n, G, d] of the slots [n]."""
        return self.keys[layer].index_select(0, slots), self.values[layer].index_select(0, slots)

    def copy(self, source: int, target: int) -> None:
        """Copies a whole block, all layers."""
        size = self.block_size
        for tensor in (*self.keys, *self.values):
            tensor[target * size : (target + 1) * size] = tensor[source * size : (source + 1) * size]

    def move(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copies the tokens in slots source [n] to slots target [n], all layers; the two may overlap."""
        device = self.keys[0].device
        source, target = source.to(device), target.to(device)
        for tensor in (*self.keys, *self.values):
            tensor.index_copy_(0, target, tensor.index_select(0, source))

    def discard(self, block: int) -> None:
        """The block's content means nothing any more; with `poison`, reading it gives NaN."""
        if self._poison:
            size = self.block_size
            for tensor in (*self.keys, *self.values):
                tensor[block * size : (block + 1) * size] = float("nan")
