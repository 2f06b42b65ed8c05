"""From what the caller gave to encoded bytes: paths, bytes and data: URIs, each under a byte cap.

Owns reading, short names for messages and the refusal of URLs. Knows no image or video format.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import io
import itertools
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from foveate.errors import MediaError
from foveate.media.limits import MediaLimits

Bytes = bytes | bytearray | memoryview
_NAME_LENGTH = 80
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.\-]*)://")


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Encoded media: either `data` in memory or a regular file at `path`, and its short `name`."""

    name: str
    size: int
    data: bytes | None = None
    path: Path | None = None

    def open(self) -> BinaryIO:
        """A readable, seekable binary file over the bytes; the caller closes it."""
        if self.data is not None:
            return io.BytesIO(self.data)
        assert self.path is not None
        try:
            return self.path.open("rb")
        except OSError as error:
            raise _unreadable(self.name, error) from error

    def read(self) -> bytes:
        """All bytes, but of a file that has grown since its check no more than the size that passed."""
        if self.data is not None:
            return self.data
        try:
            with self.open() as file:
                return file.read(self.size)
        except OSError as error:
            raise _unreadable(self.name, error) from error


def locate(source: object, limits: MediaLimits, *, cap: str, kind: str) -> Encoded:
    """Resolve `source` and check its size, reading no file and decoding no base64 before the cap holds.

    Args:
        source: str or PathLike (`~` is expanded), bytes-like, or a data: URI.
        cap: field of `limits` that bounds the encoded size in bytes.
        kind: "image" or "video", for messages.

    Raises:
        MediaError: URL, missing or unreadable file, directory, device, empty, above the cap, or not a source.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        size = memoryview(source).nbytes
        found = Encoded(name=f"{kind} in memory ({size:,} bytes)", size=size)
        _require_bytes(found, limits, cap)
        return Encoded(name=found.name, size=size, data=bytes(source))
    if isinstance(source, str) and source.lstrip()[:5].lower() == "data:":
        return _data_uri(source.strip(), limits, cap, kind)
    if isinstance(source, str):
        _refuse_url(source, kind)
    if isinstance(source, (str, os.PathLike)):
        return _file(os.fspath(source), limits, cap, kind)
    raise MediaError(
        f"cannot open a {type(source).__name__} as {'an image' if kind == 'image' else 'a video'}",
        fix="Give a file path, bytes"
        + (", a data: URI, or a PIL image." if kind == "image" else " or a data: URI."),
    )


def short_name(text: str) -> str:
    """One printable line of at most 80 characters, both ends kept: a path ends with the file name."""
    line = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    if len(line) <= _NAME_LENGTH:
        return line
    return f"{line[: _NAME_LENGTH // 3]}…{line[-(_NAME_LENGTH * 2 // 3 - 1) :]}"


def _file(text: str | bytes, limits: MediaLimits, cap: str, kind: str) -> Encoded:
    written = os.fsdecode(text)
    name = short_name(written)
    if not written:
        raise MediaError(f"no {kind} file given", why="the path is empty", fix="Give the path of a file.")
    try:
        path = Path(written).expanduser()
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaError(f"{name} does not exist", fix=_neighbour(path)) from error
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: NUL in the name; RuntimeError: ~nobody
        raise _unreadable(name, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(
            f"{name} is a directory", why=f"one {kind} file is needed", fix="Name a file inside it."
        )
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(
            f"{name} is a device or a pipe", why="its size is unknown", fix="Save it to a file first."
        )
    found = Encoded(name=name, size=status.st_size, path=path)
    _require_bytes(found, limits, cap)
    return found


def _data_uri(uri: str, limits: MediaLimits, cap: str, kind: str) -> Encoded:
    """RFC 2397, with or without `;base64`. The declared media type is not trusted: content decides."""
    head, comma, payload = uri.partition(",")
    declared = short_name(head[5:].split(";")[0] or "no type")[:40]
    name = f"data URI ({declared})"
    if not comma:
        raise MediaError(
            f"{name} has no data",
            why="there is no comma",
            fix="Write data:image/png;base64,<the encoded file>.",
        )
    is_base64 = head.lower().rstrip().endswith(";base64")
    # A low estimate of the decoded size, so that an oversized payload is refused before it is copied.
    least = (
        len(payload) - 2 * payload.count("%")
        if not is_base64
        else (len(payload) - 2 * payload.count("%")) // 2
    )
    if least > getattr(limits, cap):
        _require_bytes(Encoded(name=name, size=least), limits, cap)
    data = unquote_to_bytes(payload)
    if is_base64:
        data = _base64(data, name)
    found = Encoded(name=f"data URI ({declared}, {len(data):,} bytes)", size=len(data), data=data)
    _require_bytes(found, limits, cap)
    return found


def _base64(text: bytes, name: str) -> bytes:
    """Standard or URL-safe alphabet, line breaks and missing padding allowed; anything else is an error."""
    packed = b"".join(text.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error as error:
        raise MediaError(
            f"{name} is not valid base64", why=str(error), fix="Encode the whole file again."
        ) from error


def _refuse_url(source: str, kind: str) -> None:
    match = _SCHEME.match(source)
    if match is None:
        return
    scheme, name = match[1].lower(), short_name(source.strip())
    if scheme in ("http", "https"):
        raise MediaError(
            f"{name} is a web address",
            why="this library opens files and never fetches; fetching belongs to the server",
            fix=f"Download the {kind} first and give its path.",
        )
    raise MediaError(
        f"{name} is a {scheme} address", why="only files are opened here", fix="Give the file's path."
    )


def _require_bytes(found: Encoded, limits: MediaLimits, cap: str) -> None:
    if found.size == 0:
        raise MediaError(f"{found.name} is empty", why="0 bytes", fix="Save or download the file again.")
    limits.require(found.name, cap, found.size, fix="Make the file smaller")


def _neighbour(path: Path) -> str:
    """A hint with the most similar name in the folder; a bounded listing, since folders may hold millions."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, 2000)]
    except OSError:
        return f"There is no folder {short_name(str(path.parent))}; check the path."
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {short_name(str(path.with_name(close[0])))}?" if close else "Check the path."


def _unreadable(name: str, error: Exception) -> MediaError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return MediaError(f"{name} cannot be read", why=why, fix="Check the path and its permissions.")
