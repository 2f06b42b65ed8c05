"""Whether a video file is all there, by what its container says about its own length.

Owns the outermost boxes of MP4, Matroska and AVI. Knows nothing of streams and codecs. The demuxer reads a
cut Matroska or AVI file up to the cut and then reports a normal end, which would turn half a film into a
whole one without a word.
"""

from __future__ import annotations

import io
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def declared_size(file: BinaryIO, size: int) -> int:
    """Bytes the file should have by its own account; at most `size` when it is whole or does not say.

    Args:
        file: seekable; its position is left at the start.
        size: its real length in bytes.
    """
    file.seek(0)
    head = file.read(16)
    if head[:4] == b"RIFF":
        declared = 8 + int.from_bytes(head[4:8], "little")
    elif head[:4] == _EBML:
        declared = _matroska(file)
    elif head[4:8] == b"ftyp":
        declared = _boxes(file, size)
    else:
        declared = 0
    file.seek(0)
    return declared


def _matroska(file: BinaryIO) -> int:
    """End of the Segment (RFC 8794): identifier, then a variable-size length; all ones means not known."""
    file.seek(4)
    length, known = _variable_integer(file)
    if not known:
        return 0
    file.seek(length, io.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length, known = _variable_integer(file)
    return file.tell() + length if known else 0


def _variable_integer(file: BinaryIO) -> tuple[int, bool]:
    first = file.read(1)
    if not first or first == b"\x00":
        return 0, False
    octets = 9 - first[0].bit_length()
    rest = file.read(octets - 1)
    bits = 7 * octets
    value = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return value, len(rest) == octets - 1 and value != (1 << bits) - 1


def _boxes(file: BinaryIO, size: int) -> int:
    """Furthest end of the top-level boxes (ISO/IEC 14496-12). Trailing bytes that are no box do not count."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or not name.isalnum():
            break
        at += length
    return at
