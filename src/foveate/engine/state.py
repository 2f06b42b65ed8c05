"""What a sequence remembers between steps, behind one interface: the state-store seam.

Owns the list of operations a kind of state may support, the refusal of those it does not, and the one kind
built so far: paged keys and values with block tables and copy-on-write. Knows no models, no requests and no
scheduling. Later kinds (ring window, recurrent state, block cache of diffusion decoding, paged keys before
rotation) enter here; the scheduler asks `require` and never a kind's name.
"""

from __future__ import annotations

import abc
import enum
import itertools
from collections.abc import Sequence
from typing import ClassVar

import torch

from foveate.engine.cache import BlockPool, KeyValueBlocks
from foveate.errors import FoveateError


class StateOperation(enum.StrEnum):
    """What may be asked of a kind of state beside opening and closing it."""

    APPEND = "append"  # room for the next tokens
    COMMIT = "commit"  # these tokens are final
    ROLLBACK = "rollback"  # drop tokens that are not final
    SELECT = "select"  # of the tokens that are not final, keep some, closed up, and make them so
    CLONE = "clone"  # a second sequence with the same past
    EVICT = "evict"  # drop final tokens, at a commit point


class UnsupportedStateError(FoveateError):
    """A decoding method asks for what this kind of state cannot do."""


class StateStore(abc.ABC):
    """State of many sequences, each under an integer key. Lengths count tokens."""

    kind: ClassVar[str]
    supports: ClassVar[frozenset[StateOperation]]

    @classmethod
    def require(cls, *operations: StateOperation, purpose: str) -> None:
        """Refuses a purpose that needs an operation this kind lacks.

        Raises:
            UnsupportedStateError: naming the operations, and those there are.
        """
        lacking = sorted(set(operations) - cls.supports)
        if lacking:
            raise UnsupportedStateError(
                f"{purpose} needs state that can {', '.join(lacking)}",
                why=f"{cls.kind} can {', '.join(sorted(cls.supports))}",
                fix="Choose another decoding method or another kind of state.",
            )

    @abc.abstractmethod
    def open(self, key: int, blocks: Sequence[int] = ()) -> None:
        """Begins a sequence, on top of full blocks of somebody else's past where given."""

    @abc.abstractmethod
    def length(self, key: int) -> int:
        """Tokens appended."""

    @abc.abstractmethod
    def committed(self, key: int) -> int:
        """Tokens that are final."""

    @abc.abstractmethod
    def can_hold(self, key: int, length: int) -> bool:
        """Whether `reserve` would succeed now."""

    @abc.abstractmethod
    def reserve(self, key: int, length: int) -> None:
        """Makes room for `length` tokens in all, without appending them."""

    @abc.abstractmethod
    def append(self, key: int, count: int) -> None:
        """Adds `count` tokens, for which there is room or room can be had."""

    @abc.abstractmethod
    def commit(self, key: int, length: int) -> None:
        """The first `length` tokens are final."""

    @abc.abstractmethod
    def rollback(self, key: int, length: int) -> None:
        """Drops the tokens from `length` on; none of them is final."""

    @abc.abstractmethod
    def clone(self, source: int, target: int) -> None:
        """Begins `target` with the past of `source`, shared until one of them writes."""

    @abc.abstractmethod
    def close(self, key: int) -> None:
        """Ends a sequence and returns its memory."""

    @abc.abstractmethod
    def bytes(self, key: int) -> int:
        """Memory the sequence refers to, shared or not."""

    def select(self, key: int, kept: Sequence[int]) -> None:
        """Of the tokens that are not final, those at indices `kept` (ascending) become the next final ones, without
        gaps; the others are dropped."""
        self.require(StateOperation.SELECT, purpose="A tree of drafts")
        raise NotImplementedError(f"{self.kind} declares select without having it")

    def evict(self, key: int, tokens: Sequence[int]) -> None:
        """Drops final tokens by index, at a commit point."""
        self.require(StateOperation.EVICT, purpose="Eviction")
        raise NotImplementedError(f"{self.kind} declares evict without having it")


class _Table:
    """Blocks of one sequence, and the slot of every token they can hold."""

    def __init__(self, block_size: int) -> None:
        self.blocks: list[int] = []
        self.length = 0
        self.committed = 0
        self._size = block_size
        self._slots = torch.empty(8 * block_size, dtype=torch.long)

    def add(self, block: int) -> None:
        self.blocks.append(block)
        if len(self.blocks) * self._size > self._slots.shape[0]:
            bigger = torch.empty(2 * self._slots.shape[0], dtype=torch.long)
            bigger[: self._slots.shape[0]] = self._slots
            self._slots = bigger
        self._point(len(self.blocks) - 1)

    def replace(self, index: int, block: int) -> None:
        self.blocks[index] = block
        self._point(index)

    def _point(self, index: int) -> None:
        first = self.blocks[index] * self._size
        self._slots[index * self._size : (index + 1) * self._size] = torch.arange(first, first + self._size)

    def slots(self, start: int, stop: int) -> torch.Tensor:
        return self._slots[start:stop]


class PagedKeyValueStore(StateStore):
    """Keys and values in fixed-size blocks, shared between sequences until one of them writes.

    Keys are stored as attention receives them, rotated by their position: tokens can be dropped from the end,
    not from the middle, so EVICT is not supported.
    """

    kind = "paged-kv"
    supports = frozenset(
        {
            StateOperation.APPEND,
            StateOperation.COMMIT,
            StateOperation.ROLLBACK,
            StateOperation.SELECT,
            StateOperation.CLONE,
        }
    )

    def __init__(self, pool: BlockPool, memory: KeyValueBlocks) -> None:
        assert pool.size == memory.blocks, f"{pool.size} block numbers for {memory.blocks} blocks"
        self.pool, self.memory = pool, memory
        self.block_size = memory.block_size
        self._tables: dict[int, _Table] = {}
        pool.on_discard = memory.discard

    def open(self, key: int, blocks: Sequence[int] = ()) -> None:
        assert key not in self._tables, f"sequence {key} is open"
        table = self._tables[key] = _Table(self.block_size)
        for block in blocks:
            self.pool.retain(block)
            table.add(block)
        table.length = table.committed = len(blocks) * self.block_size

    def is_open(self, key: int) -> bool:
        """Whether the sequence has a table."""
        return key in self._tables

    def length(self, key: int) -> int:
        return self._tables[key].length

    def committed(self, key: int) -> int:
        return self._tables[key].committed

    def blocks(self, key: int) -> Sequence[int]:
        """The block table."""
        return self._tables[key].blocks

    @property
    def token_bytes(self) -> int:
        """Memory of one token, all layers."""
        return self.memory.block_bytes // self.block_size

    def slots(self, key: int, start: int, stop: int) -> torch.Tensor:
        """[stop - start] slots of the tokens appended there; valid until the next append."""
        assert 0 <= start <= stop <= self._tables[key].length
        return self._tables[key].slots(start, stop)

    def blocks_for(self, length: int) -> int:
        """Blocks that hold `length` tokens."""
        return -(-length // self.block_size)

    def _shared_tail(self, table: _Table, length: int) -> int | None:
        """Index of the block the next token goes into, if somebody else would see it written."""
        index = table.length // self.block_size
        if length <= table.length or index >= len(table.blocks):
            return None
        return index if self.pool.references(table.blocks[index]) > 1 else None

    def can_hold(self, key: int, length: int) -> bool:
        table = self._tables[key]
        copies = self._shared_tail(table, length) is not None
        more = max(0, self.blocks_for(length) - len(table.blocks))  # reserved blocks cannot pay for a copy
        return more + copies <= self.pool.available

    def reserve(self, key: int, length: int) -> None:
        table = self._tables[key]
        shared = self._shared_tail(table, length)
        if shared is not None:  # copy-on-write
            old, new = table.blocks[shared], self.pool.allocate()
            self.memory.copy(old, new)
            table.replace(shared, new)
            self.pool.release(old)
        while len(table.blocks) < self.blocks_for(length):
            table.add(self.pool.allocate())

    def append(self, key: int, count: int) -> None:
        table = self._tables[key]
        self.reserve(key, table.length + count)
        table.length += count

    def commit(self, key: int, length: int) -> None:
        table = self._tables[key]
        assert table.committed <= length <= table.length, (table.committed, length, table.length)
        table.committed = length

    def rollback(self, key: int, length: int) -> None:
        table = self._tables[key]
        assert table.committed <= length <= table.length, (table.committed, length, table.length)
        table.length = length
        while len(table.blocks) > self.blocks_for(length):
            self.pool.release(table.blocks.pop())

    def select(self, key: int, kept: Sequence[int]) -> None:
        table = self._tables[key]
        start = table.committed
        assert all(start <= index < table.length for index in kept), (start, kept, table.length)
        assert all(one < other for one, other in itertools.pairwise(kept)), f"{kept} does not ascend"
        moved = [(index, place) for place, index in enumerate(kept, start) if index != place]
        if moved:  # never among a chain's
            blocks = {table.blocks[place // self.block_size] for _, place in moved}
            assert all(self.pool.references(block) == 1 for block in blocks), "somebody else sees them moved"
            slots = table.slots(0, table.length)
            self.memory.move(*(slots[list(places)] for places in zip(*moved, strict=True)))
        self.commit(key, start + len(kept))
        self.rollback(key, start + len(kept))

    def clone(self, source: int, target: int) -> None:
        assert target not in self._tables, f"sequence {target} is open"
        origin, table = self._tables[source], _Table(self.block_size)
        for block in origin.blocks[: self.blocks_for(origin.length)]:
            self.pool.retain(block)
            table.add(block)
        table.length, table.committed = origin.length, origin.committed
        self._tables[target] = table

    def close(self, key: int) -> None:
        # From the end: the beginning of a past is what others are most likely to ask for again.
        for block in reversed(self._tables.pop(key).blocks):
            self.pool.release(block)

    def bytes(self, key: int) -> int:
        return len(self._tables[key].blocks) * self.memory.block_bytes

    def check_integrity(self) -> None:
        """See `BlockPool.check_integrity`; at idle, no table is open."""
        self.pool.check_integrity(table.blocks for table in self._tables.values())
