"""Processed pixels by content: a picture asked about again is not resized again.

Owns the least recently used order and the limit in bytes. Every turn of a conversation prepares all its
pictures anew, and servers see the same picture from many users. Safe for several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch

Tensors = dict[str, torch.Tensor]
LIMIT = 64 * 2**20  # bytes; some twenty pictures of 512 x 512 in float32


class PixelCache:
    """What `VisionLanguageModel.process_pixels` gave for the pictures asked about last.

    Args:
        limit: bytes kept; what is larger alone is not kept at all.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit, self.bytes, self.hits = limit, 0, 0
        self._kept: OrderedDict[Hashable, Tensors] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, process: Callable[[], Tensors]) -> Tensors:
        """The tensors of a picture, processed now if they are not here. Callers must not write into them."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self.hits += 1
                return self._kept[key]
        tensors = process()  # outside the lock: two threads may do the same work, neither waits for the other
        size = _bytes(tensors)
        with self._lock:
            if size <= self.limit and key not in self._kept:
                self._kept[key] = tensors
                self.bytes += size
                while self.bytes > self.limit:
                    self.bytes -= _bytes(self._kept.popitem(last=False)[1])
        return tensors


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
