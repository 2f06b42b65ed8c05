"""Two things about PNG files that Pillow lets pass: missing rows, and transparent greys below 8 bits.

Owns reading PNG chunks as far as these need it. Knows nothing of limits; it holds at most one mebibyte of
inflated data.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL.PngImagePlugin import PngImageFile

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type: grey, RGB, palette, grey + alpha, RGBA
_GREY, _TRUECOLOUR = 0, 2
# Adam7: first column, first row, column step, row step of each pass.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_STEP = 1 << 20


def missing_bytes(data: bytes) -> int:
    """How many bytes of filtered rows the header promises and the stream does not hold; 0 for a whole PNG.

    A header may claim more rows than follow; the decoder leaves those black without a word. Inflating once
    more, without keeping the output, is the only way to know.
    """
    expected = _promised_bytes(data)
    inflater, held = zlib.decompressobj(), 0
    for piece in _image_data(data):
        pending = piece
        while held < expected and not inflater.eof:
            out = inflater.decompress(pending, _STEP)
            held += len(out)
            pending = inflater.unconsumed_tail
            if not pending and len(out) < _STEP:
                break
    return max(0, expected - held)


def repair_transparency(header: PngImageFile, data: bytes) -> None:
    """Bring the transparent colour of a tRNS chunk to the depth at which Pillow compares it.

    Greys of 2 and 4 bits are decoded scaled to 8 bits, and colours of 16 bits to their high byte, but the
    transparent colour is left as written in the file, where it matches nothing or the wrong pixels.
    """
    depth, colour_type, key = data[24], data[25], header.info.get("transparency")
    if colour_type == _GREY and depth in (2, 4) and isinstance(key, int):
        header.info["transparency"] = min(key * 255 // (2**depth - 1), 255)
    elif colour_type == _TRUECOLOUR and depth == 16 and isinstance(key, tuple):
        header.info["transparency"] = tuple(value >> 8 for value in key)


def _promised_bytes(data: bytes) -> int:
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * _CHANNELS[colour_type]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for column, row, column_step, row_step in passes:
        columns = -(-max(0, width - column) // column_step)
        rows = -(-max(0, height - row) // row_step)
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0  # one filter byte a row
    return total


def _image_data(data: bytes) -> Iterator[bytes]:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length
