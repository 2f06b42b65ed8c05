"""Pictures that were uploaded once and are named by an id later.

Owns the store: in memory, bounded in bytes and in time, each file seen by its owner alone. Knows no HTTP.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from foveate.serve.errors import ApiError

ID_PREFIX = "file-"


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One uploaded picture.

    Attributes:
        owner: the caller's name; empty where the server asks for no keys.
        created, expires: seconds since 1970.
    """

    id: str
    name: str
    purpose: str
    owner: str
    data: bytes
    created: int
    expires: int


class FileStore:
    """Keeps the latest; the oldest make room.

    Args:
        capacity: bytes of all files.
        seconds: how long one is kept.
    """

    def __init__(self, *, capacity: int, seconds: int, clock: Callable[[], float] = time.time) -> None:
        self.capacity, self.seconds, self._clock = capacity, seconds, clock
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self.bytes = 0

    def add(self, data: bytes, *, name: str, purpose: str, owner: str) -> StoredFile:
        """Stores a picture.

        Raises:
            ApiError: it is larger than the whole store.
        """
        if len(data) > self.capacity:
            raise ApiError(
                f"The file has {len(data)} bytes",
                why=f"the store holds {self.capacity}",
                fix="Send the picture with the request.",
                status=413,
                param="file",
                code="file_too_large",
            )
        self._sweep()
        while self.bytes + len(data) > self.capacity:
            self._drop(next(iter(self._files)))
        now = int(self._clock())
        stored = StoredFile(
            id=ID_PREFIX + secrets.token_hex(16),  # not to be guessed
            name=name,
            purpose=purpose,
            owner=owner,
            data=data,
            created=now,
            expires=now + self.seconds,
        )
        self._files[stored.id] = stored
        self.bytes += len(data)
        return stored

    def get(self, file_id: str, *, owner: str) -> StoredFile:
        """A file of this owner.

        Raises:
            ApiError: 404, there is none of that id, it has expired, or it is another's.
        """
        self._sweep()
        found = self._files.get(file_id)
        if found is None or found.owner != owner:
            raise ApiError(
                f"There is no file {file_id[:64]!r}",
                why=f"files are kept for {self.seconds} s at most, and seen by who uploaded them",
                fix="Upload it again.",
                status=404,
                param="file_id",
                code="file_not_found",
            )
        return found

    def remove(self, file_id: str, *, owner: str) -> None:
        """Forgets a file of this owner; raises as `get`."""
        self._drop(self.get(file_id, owner=owner).id)

    def of(self, owner: str) -> list[StoredFile]:
        """Files of this owner, the newest first."""
        self._sweep()
        return [file for file in reversed(self._files.values()) if file.owner == owner]

    def _sweep(self) -> None:
        now = self._clock()
        while self._files and (oldest := next(iter(self._files.values()))).expires <= now:
            self._drop(oldest.id)

    def _drop(self, file_id: str) -> None:
        self.bytes -= len(self._files.pop(file_id).data)
