"""Features of images that were encoded, kept in a budget of bytes.

Owns entries, their reference counts and the order of use. Knows no models and no tokens: a key is a name made
by `layout.media_key`. Features come in as copies of their own (`own_copy`), because a slice of a batch would
keep the whole batch alive.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from foveate.models.records import MediaFeatures
from foveate.reduce.keep_map import KeepMap


@dataclass
class _Entry:
    size: int
    references: int = 0
    features: MediaFeatures | None = None
    keep_map: KeepMap | None = None


class EncoderCache:
    """Features by name; those somebody refers to are never dropped, the others least recently used first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = self.misses = self.evictions = 0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Memory taken or promised."""
        return self._bytes

    @property
    def pinned_bytes(self) -> int:
        """Memory of entries that somebody refers to."""
        return sum(entry.size for entry in self._entries.values() if entry.references)

    def can_hold(self, needs: Mapping[str, int]) -> bool:
        """Whether `acquire` of these names and sizes (bytes) would succeed now."""
        pinned = sum(
            entry.size for key, entry in self._entries.items() if entry.references and key not in needs
        )
        return pinned + sum(needs.values()) <= self.capacity

    def acquire(self, key: str, size: int) -> bool:
        """One more reference to a name; True if its features are there, False if they must be filled in."""
        entry = self._entries.get(key)
        if entry is None:
            while self._bytes + size > self.capacity:
                self._evict()
            entry = self._entries[key] = _Entry(size)
            self._bytes += size
        entry.references += 1
        self._entries.move_to_end(key)
        if entry.features is None:
            self.misses += 1
            return False
        self.hits += 1
        return True

    def fill(self, key: str, features: MediaFeatures, keep_map: KeepMap | None = None) -> None:
        """The features of a name that `acquire` promised room for, and which tokens they are of where some were
        dropped."""
        entry = self._entries[key]
        entry.features, entry.keep_map = features, keep_map
        actual = feature_size(features)
        self._bytes += actual - entry.size
        entry.size = actual

    def is_filled(self, key: str) -> bool:
        """Whether the features of a name that the caller refers to are there."""
        return self._entries[key].features is not None

    def get(self, key: str) -> MediaFeatures:
        """Features of a name that the caller refers to."""
        features = self._entries[key].features
        assert features is not None, f"{key} is asked for before it is encoded"
        return features

    def keep_map(self, key: str) -> KeepMap | None:
        """Which tokens of an image are in the cache; None where all are, or where the image is not here."""
        entry = self._entries.get(key)
        return None if entry is None else entry.keep_map

    def release(self, key: str) -> None:
        """One reference less; what was never filled in goes with the last one."""
        entry = self._entries[key]
        assert entry.references > 0, f"{key} is released once too often"
        entry.references -= 1
        if not entry.references and (entry.features is None or self._bytes > self.capacity):
            self._drop(key)

    def _evict(self) -> None:
        unused = next((key for key, entry in self._entries.items() if not entry.references), None)
        assert unused is not None, "no room: the caller must ask `can_hold` first"
        self._drop(unused)
        self.evictions += 1

    def _drop(self, key: str) -> None:
        self._bytes -= self._entries.pop(key).size

    def check_integrity(self, *, idle: bool) -> None:
        """Proves the count of bytes, and that nobody refers to anything at idle."""
        assert self._bytes == sum(entry.size for entry in self._entries.values())
        assert self._bytes <= self.capacity or self.pinned_bytes > 0
        held = [key for key, entry in self._entries.items() if entry.references]
        assert not (idle and held), f"still referred to: {held}"


def own_copy(features: MediaFeatures) -> MediaFeatures:
    """The same in memory of its own."""
    return replace(
        features,
        features=features.features.clone(),
        salience=None if features.salience is None else features.salience.clone(),
        deepstack=tuple(level.clone() for level in features.deepstack),
    )


def feature_size(features: MediaFeatures) -> int:
    """Bytes of features and deepstack levels."""
    return sum(one.numel() * one.element_size() for one in (features.features, *features.deepstack))
