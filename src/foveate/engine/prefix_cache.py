"""Names of full blocks, so that prompts that begin alike share them.

Owns the chain of names and the table from name to block. Knows no memory: `cache.BlockPool` decides which
unreferenced block goes first and tells this table. A name covers everything the block's keys and values depend
on: the tokens up to its end; the images among them by content, processing and place (a text-only name would
give one user's picture to another); the whole of any bidirectional span it touches, later tokens included; the
tenant; the model and its positions.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence as Seq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.engine.cache import BlockPool
    from foveate.engine.sequence import Sequence


class PrefixCache:
    """Finds and keeps blocks by name.

    Attributes:
        asked_tokens, hit_tokens: prompt tokens looked for and found.
    """

    def __init__(self, pool: BlockPool, block_size: int, *, settings: str, enabled: bool = True) -> None:
        self._pool, self._size = pool, block_size
        self._settings, self._enabled = settings, enabled
        self._blocks: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}
        self.asked_tokens = self.hit_tokens = self.evictions = 0
        pool.on_evict = self._forget

    def __len__(self) -> int:
        return len(self._blocks)

    def match(self, sequence: Sequence) -> list[int]:
        """Blocks that hold the beginning of the sequence, in order; nothing is retained yet.

        At least one token is left to compute, and the rest begins outside every bidirectional span.
        """
        if not self._enabled:
            return []
        names = self._name(sequence, (sequence.length - 1) // self._size)
        found: list[int] = []
        for name in names:
            block = self._blocks.get(name)
            if block is None:
                break
            found.append(block)
        while found:
            stop = sequence.layout.cut(0, len(found) * self._size)
            if stop == len(found) * self._size:
                break
            del found[stop // self._size :]
        return found

    def count(self, asked: int, hit: int) -> None:
        """Notes one admission."""
        self.asked_tokens += asked
        self.hit_tokens += hit

    def keep(self, sequence: Sequence, blocks: Seq[int], start: int, stop: int) -> None:
        """Names the full blocks among tokens [start, stop), which are computed and final."""
        if not self._enabled:
            return
        first, last = start // self._size, stop // self._size
        if first >= last:
            return
        names = self._name(sequence, last)
        for index in range(first, last):
            if names[index] in self._blocks or blocks[index] in self._names:
                continue  # computed twice at the same time, or already found here
            self._blocks[names[index]] = blocks[index]
            self._names[blocks[index]] = names[index]
            self._pool.remember(blocks[index])

    def _forget(self, block: int) -> None:
        del self._blocks[self._names.pop(block)]
        self.evictions += 1

    def _name(self, sequence: Sequence, count: int) -> list[bytes]:
        """The names of the first `count` blocks; what was computed before is kept on the sequence."""
        names = sequence.block_names
        while len(names) < count:
            start = len(names) * self._size
            parent = names[-1] if names else self._root(sequence.request.tenant)
            names.append(self._one(sequence, parent, start, start + self._size))
        return names[:count]

    def _root(self, tenant: str) -> bytes:
        return hashlib.blake2b(f"{self._settings}\0{tenant}".encode(), digest_size=32).digest()

    def _one(self, sequence: Sequence, parent: bytes, start: int, stop: int) -> bytes:
        state = hashlib.blake2b(parent, digest_size=32)
        state.update(array("q", sequence.tokens(start, stop)).tobytes())
        for part in _media_parts(sequence, start, stop):
            state.update(part)
        for first, last in sequence.layout.atomic:
            if first < stop and start < last:
                state.update(f"span {first - start} {last - start}".encode())
                state.update(array("q", sequence.tokens(first, last)).tobytes())
                for part in _media_parts(sequence, first, last):
                    state.update(part)
        return state.digest()

    def check_integrity(self) -> None:
        """Proves that names and blocks are one to one."""
        assert {block: name for name, block in self._blocks.items()} == self._names


def _media_parts(sequence: Sequence, start: int, stop: int) -> list[bytes]:
    """(image, where it begins relative to `start`) for every image that covers some of tokens [start, stop)."""
    return [
        f"media {key} {first - start}\0".encode()
        for key, (first, last) in zip(sequence.layout.media_keys, sequence.request.prompt.spans, strict=True)
        if first < stop and start < last
    ]
