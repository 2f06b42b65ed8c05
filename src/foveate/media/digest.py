"""Content digests: one name for given bytes under given processing settings.

Owns the framing that makes the digest injective up to SHA-256. Knows nothing about images. Caches key on
this digest, so a collision would show one user the features of another user's picture: concatenating parts
without lengths, or writing settings with `str()`, is not enough ("ab" + "c" equals "a" + "bc"; 1, 1.0, True
and "1" would read alike).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Settings = Mapping[str, str | int | float | bool]

# Part of every digest: a change of the framing must not reuse old names.
_DOMAIN = b"foveate.media.digest/1"


def digest_media(raw: Any, settings: Settings) -> str:
    """SHA-256 (64 hex digits) over framed bytes and typed settings.

    Two calls agree exactly when the list of byte parts and the mapping agree, types included: `1`, `1.0`,
    `True` and `"1"` are four different values, and so are `0.0` and `-0.0`. The order of the mapping and
    the process do not matter.

    Args:
        raw: a contiguous bytes-like object (bytes, memoryview, ndarray: its memory only, so put shape and
            dtype in the settings), or a list or tuple of them. `b` and `[b]` are the same.
        settings: what was or will be done with the bytes.

    Raises:
        TypeError: a setting that is not str, int, float or bool, or a key that is not str.
    """
    parts: Sequence[Any] = raw if isinstance(raw, (list, tuple)) else (raw,)
    digest = hashlib.sha256()
    for piece in framed(parts, settings):
        digest.update(piece)
    return digest.hexdigest()


def framed(parts: Sequence[Any], settings: Settings) -> Iterator[Any]:
    """The exact byte stream under the digest: domain, counted parts, then counted and sorted settings.

    Every variable-length item follows its own length as eight bytes, so the stream can be parsed back in
    one way only.
    """
    yield _frame_head(len(_DOMAIN))
    yield _DOMAIN
    yield _frame_head(len(parts))
    for part in parts:
        view = memoryview(part)
        yield _frame_head(view.nbytes)
        if view.nbytes:  # hashlib refuses to take the buffer of some empty arrays
            yield view
    yield _frame_head(len(settings))
    for key, value in sorted(_encoded(settings)):
        for text in (key, value):
            yield _frame_head(len(text))
            yield text


def _frame_head(count: int) -> bytes:
    return struct.pack(">Q", count)


def _encoded(settings: Settings) -> Iterator[tuple[bytes, bytes]]:
    for key, value in settings.items():
        if not isinstance(key, str):
            raise TypeError(f"a setting's name must be str, not {type(key).__name__}: {key!r}")
        yield _text(key), _value(key, value)


def _value(key: str, value: str | int | float | bool) -> bytes:
    """One type letter, then the value; bool before int, because bool is an int in Python."""
    if isinstance(value, bool):
        return b"b1" if value else b"b0"
    if isinstance(value, int):
        return (
            b"i" + format(int(value), "x").encode()
        )  # hex: decimal text of huge integers is capped by Python
    if isinstance(value, float):
        return b"f" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"s" + _text(value)
    raise TypeError(f"setting {key!r} must be str, int, float or bool, not {type(value).__name__}")


def _text(text: str) -> bytes:
    # surrogatepass: a file name that is not valid UTF-8 must have a digest too, and its own.
    return text.encode("utf-8", "surrogatepass")
