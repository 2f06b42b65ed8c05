"""Limits act before decoding, and damaged files never open with something missing."""

from __future__ import annotations

import base64
import io
import struct
import tracemalloc
import warnings
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.errors import MediaError
from foveate.media import MediaLimits, open_image
from foveate.media import image as image_module

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "png": ("PNG", {}),
    "jpeg": ("JPEG", {"quality": 90}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", {}),
    "webp lossless": ("WEBP", {"lossless": True}),
}


@cache
def encoded(kind: str) -> bytes:
    name, options = KINDS[kind]
    noise = np.random.default_rng(3).integers(0, 256, (29, 31, 3), np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    if name in ("JPEG", "PNG", "WEBP"):
        options = options | {"exif": exif}
    PIL.Image.fromarray(noise).save(out, name, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, rows: bytes, *extra: bytes, interlace: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlace))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def claim(kind: str, width: int, height: int) -> bytes:
    """A real file whose header is rewritten to claim another size."""
    data = bytearray(encoded(kind))
    if kind == "png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    elif "jpeg" in kind:
        at = data.index(b"\xff\xc2" if "progressive" in kind else b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif kind == "gif":
        data[6:10] = struct.pack("<HH", width, height)
    elif kind == "bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif kind.startswith("tiff"):
        (at,) = struct.unpack_from("<I", data, 4)
        for entry in range(struct.unpack_from("<H", data, at)[0]):
            place = at + 2 + 12 * entry
            tag = struct.unpack_from("<H", data, place)[0]
            if tag in (256, 257):
                data[place : place + 12] = struct.pack("<HHII", tag, 4, 1, width if tag == 256 else height)
    else:
        assert data[12:16] == b"VP8X"  # both have EXIF and so the extended header
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def measured(source: bytes, limits: MediaLimits) -> tuple[str, int]:
    """The error's text and the peak of Python-side memory above the start."""
    tracemalloc.start()
    with pytest.raises(MediaError) as error:
        open_image(source, limits=limits)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return str(error.value), peak


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("pixels were decoded before the limit was checked")

    monkeypatch.setattr(image_module, "_load", load)


@pytest.mark.parametrize("kind", list(KINDS))
def test_giant_claims_raise_before_decoding(kind: str, no_decoding: None) -> None:
    side = 60_000 if "webp" not in kind else 16_000
    text, peak = measured(claim(kind, side, side), MediaLimits(max_side=65_536))
    assert (
        f"{side * side:,} pixels" in text and "max_pixels is 67,108,864" in text and f"{side}x{side}" in text
    )
    assert peak < 4_000_000


def test_png_of_60000_squared_costs_nothing_by_default() -> None:
    text, peak = measured(png(60_000, 60_000, b"\0" * 100_000), MediaLimits())
    assert "60,000 pixels, and max_side is 32,768" in text
    assert peak < 4_000_000


def test_simple_webp_headers_are_read_before_the_canvas_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(image_module._READERS, "WebP", None)  # calling it would be a TypeError
    picture = PIL.Image.new("RGB", (300, 200), "red")
    for options in ({"lossless": True}, {"lossless": False}):
        out = io.BytesIO()
        picture.save(out, "WEBP", **options)
        assert out.getvalue()[12:16] in (b"VP8L", b"VP8 ")
        with pytest.raises(MediaError, match=r"300x200.*60,000 pixels, and max_pixels is 59,999"):
            open_image(out.getvalue(), limits=MediaLimits(max_pixels=59_999))


def test_pixels_just_inside_the_limit_open() -> None:
    assert open_image(encoded("png"), limits=MediaLimits(max_pixels=29 * 31)).width == 29  # turned by EXIF
    with pytest.raises(MediaError, match="899 pixels, and max_pixels is 898"):
        open_image(encoded("png"), limits=MediaLimits(max_pixels=898))


def test_thin_strip_is_refused() -> None:
    with pytest.raises(MediaError, match="max_side is 32,768"):
        open_image(png(40_000, 1, b"\0" * 120_001))


def test_bytes_are_counted_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)  # a hole: three gigabytes by stat, nothing on disk

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the file was opened before its size was checked")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(MediaError, match=r"sparse.png.*3,221,225,472 bytes, and max_bytes is 67,108,864"):
        open_image(path)


def test_bytes_cap_on_every_route(tmp_path: Path) -> None:
    data = encoded("png")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    packed = "data:image/png;base64," + base64.b64encode(data).decode()
    plain = "data:image/png," + "".join(f"%{byte:02x}" for byte in data)
    for source in (data, path, packed, plain):
        open_image(source, limits=MediaLimits(max_bytes=len(data)))
        with pytest.raises(MediaError, match=rf"{len(data):,} bytes, and max_bytes is {len(data) - 1:,}"):
            open_image(source, limits=MediaLimits(max_bytes=len(data) - 1))


def test_large_base64_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("decoded before the size was checked")

    monkeypatch.setattr(base64, "b64decode", forbidden)
    with pytest.raises(MediaError, match="max_bytes is 1,000"):
        open_image("data:image/png;base64," + "A" * 100_000, limits=MediaLimits(max_bytes=1000))


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 30_000_000)),
        chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"a" * 30_000_000)),
        chunk(b"iCCP", b"k\0\0" + zlib.compress(b"a" * 30_000_000)),
    ],
    ids=["zTXt", "iTXt", "iCCP"],
)
def test_compressed_metadata_cannot_unpack_without_bound(bomb: bytes) -> None:
    rows = (b"\0" + b"\x40" * 12) * 4
    data = png(4, 4, rows, bomb)
    assert len(data) < 100_000
    text, peak = measured(data, MediaLimits())
    assert "Decompressed data too large" in text and peak < 8_000_000


def test_row_data_beyond_the_header_is_not_kept() -> None:
    """A 20 kB IDAT that inflates to 20 MB for a 4x4 picture opens as that picture, without the memory."""
    rows = (b"\0" + b"\x40" * 12) * 4
    data = png(4, 4, rows + b"\0" * 20_000_000)
    tracemalloc.start()
    image = open_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert image.rgb.tolist() == [[[0x40] * 3] * 4] * 4 and peak < 4_000_000


@pytest.mark.parametrize("interlace", [False, True])
def test_png_that_promises_more_rows_than_it_holds(interlace: bool) -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (31, 29), (200, 100, 50)).save(out, "PNG")
    data = bytearray(out.getvalue())
    if interlace:  # Pillow writes no Adam7: seven passes by hand
        rgb = np.full((29, 31, 3), (200, 100, 50), np.uint8)
        starts = (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
        rows = b"".join(
            b"\0" + rgb[y, x0::dx].tobytes() for x0, y0, dx, dy in starts for y in range(y0, 29, dy)
        )
        data = bytearray(png(31, 29, rows, interlace=1))
    assert open_image(bytes(data)).rgb[28, 30].tolist() == [200, 100, 50]
    data[20:24] = struct.pack(">I", 40)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    with pytest.raises(MediaError, match="damaged"):
        open_image(bytes(data))


def test_interlaced_png_that_lacks_its_last_rows() -> None:
    """Four rows of the last pass, no more than the filter bytes of the other passes: only a count by pass sees it."""
    starts = (
        (0, 0, 8, 8),
        (0, 4, 4, 8),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )  # the others hold no column
    rows = b"".join(
        b"\0" + b"\x40" * 3 * len(range(x0, 2, dx)) for x0, y0, dx, dy in starts for _ in range(y0, 64, dy)
    )
    assert open_image(png(2, 64, rows, interlace=1)).rgb.min() == 0x40
    with pytest.raises(MediaError, match="lacks 28 bytes of pixels"):
        open_image(png(2, 64, rows[:-28], interlace=1))


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "tiff", "tiff lzw", "webp", "webp lossless"])
def test_headers_that_claim_more_than_there_is(kind: str) -> None:
    """Slightly too tall, well inside every limit: an error, or for GIF a screen larger than its one frame."""
    data = claim(kind, 31, 60)
    if kind == "gif":
        image = open_image(data)
        assert np.array_equal(image.rgb[:29], open_image(encoded(kind)).rgb)
        return
    with pytest.raises(MediaError, match="damaged"):
        open_image(data)
    if "tiff" in kind:
        with pytest.raises(MediaError, match="damaged"):
            open_image(PIL.Image.open(io.BytesIO(data)))


@given(kind=st.sampled_from(sorted(KINDS)), share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=250, deadline=None)
def test_truncated_anywhere_raises_or_loses_nothing(kind: str, share: float) -> None:
    whole = encoded(kind)
    cut = whole[: int(share * len(whole))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about cut TIFF directories before it fails
        try:
            image = open_image(cut)
        except MediaError as error:
            assert "in memory" in str(error) and "\n" not in str(error)
            return
    assert image == open_image(whole), "opened, but not with the pixels of the whole file"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_cut_in_the_middle_says_truncated(kind: str) -> None:
    data = encoded(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MediaError, match="truncated or damaged"):
            open_image(data[: len(data) // 2])


@given(
    kind=st.sampled_from(sorted(KINDS)),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12
    ),
    front=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_random_damage_raises_only_media_errors(
    kind: str, changes: list[tuple[float, int]], front: bool
) -> None:
    data = bytearray(encoded(kind))
    reach = min(len(data), 400) if front else len(data)  # headers are where surprises are
    for place, value in changes:
        data[int(place * reach)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = open_image(bytes(data), limits=MediaLimits(max_pixels=1_000_000))
        except MediaError:
            return
    assert image.rgb.size <= 3_000_000


@pytest.mark.parametrize("value", [0, -1, True, "64", float("nan"), None])
def test_limits_must_be_positive_numbers(value: object) -> None:
    with pytest.raises(MediaError, match=r"MediaLimits.max_bytes is"):
        MediaLimits(max_bytes=value)  # type: ignore[arg-type]
