"""Every colour mode in every format that can hold it opens as the RGB that a person would see."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from foveate.errors import MediaError
from foveate.media import open_image

HEIGHT, WIDTH = 24, 36


def encode(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def hand_made_png(width: int, height: int, rows: bytes, depth: int, colour: int, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def smooth_rgb() -> np.ndarray:
    """A colour ramp: all three channels differ everywhere, and lossy codecs keep it within a few levels."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack(
        [x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), 255 - x * 255 // (WIDTH - 1)], 2
    ).astype(np.uint8)


def assert_close(found: np.ndarray, expected: np.ndarray, levels: int) -> None:
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= levels


@pytest.mark.parametrize(
    ("kind", "options", "levels"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_deflate"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 24),
        ("JPEG", {"quality": 98, "subsampling": 0}, 8),
        ("JPEG", {"quality": 98, "subsampling": 0, "progressive": True}, 8),
    ],
)
def test_rgb(kind: str, options: dict[str, object], levels: int) -> None:
    rgb = smooth_rgb()
    image = open_image(encode(PIL.Image.fromarray(rgb), kind, **options))
    assert_close(image.rgb, rgb, levels)
    assert (image.width, image.height) == (WIDTH, HEIGHT)
    assert image.rgb.dtype == np.uint8 and image.rgb.flags.c_contiguous and not image.rgb.flags.writeable


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_palette(kind: str) -> None:
    picture = PIL.Image.fromarray(smooth_rgb()).quantize(16)
    assert picture.mode == "P"
    assert_close(open_image(encode(picture, kind)).rgb, np.asarray(picture.convert("RGB")), 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG"])
def test_grey_fills_all_three_channels(kind: str) -> None:
    grey = smooth_rgb()[:, :, 0]
    found = open_image(encode(PIL.Image.fromarray(grey), kind)).rgb
    assert_close(found, np.repeat(grey[:, :, None], 3, 2), 4 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_one_bit(kind: str) -> None:
    bits = (smooth_rgb()[:, :, 0] // 16) % 2 == 1
    found = open_image(encode(PIL.Image.fromarray(bits), kind)).rgb
    assert_close(found, np.repeat(np.where(bits, 255, 0)[:, :, None], 3, 2), 0)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_alpha_lies_on_white(kind: str, options: dict[str, object]) -> None:
    """Hidden black under alpha 0 must come out white, half-covered black mid-grey, and opaque colour as it is."""
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[:, 1] = (0, 0, 0, 128)
    rgba[:, 2] = (10, 200, 30, 255)
    found = open_image(encode(PIL.Image.fromarray(rgba), kind, **options)).rgb
    assert_close(found[0], np.array([[255, 255, 255], [127, 127, 127], [10, 200, 30]]), 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_with_alpha_lies_on_white(kind: str) -> None:
    picture = PIL.Image.merge("LA", [PIL.Image.new("L", (2, 1), 0), PIL.Image.new("L", (2, 1), 0)])
    picture.putpixel((1, 0), (40, 255))
    assert open_image(encode(picture, kind)).rgb[0].tolist() == [[255] * 3, [40] * 3]


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_palette_transparency_lies_on_white(kind: str) -> None:
    picture = PIL.Image.new("P", (2, 1), 0)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.putpixel((1, 0), 1)
    picture.info["transparency"] = 0
    found = open_image(encode(picture, kind, **({"lossless": True} if kind == "WEBP" else {}))).rgb
    assert found[0].tolist() == [[255, 255, 255], [200, 0, 0]]


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x40", 0, [255, 255]),  # 0 is transparent, 1 is white
        (2, b"\x40", 1, [255, 0]),
        (4, b"\x3f", 3, [255, 255]),
        (4, b"\x36", 6, [51, 255]),
        (8, b"\x64\x07", 7, [100, 255]),
        (16, struct.pack(">2H", 300, 51400), 300, [255, 200]),
    ],
)
def test_png_transparent_grey_at_every_depth(depth: int, row: bytes, key: int, expected: list[int]) -> None:
    data = hand_made_png(2, 1, b"\0" + row, depth, 0, chunk(b"tRNS", struct.pack(">H", key)))
    assert open_image(data).rgb[0, :, 0].tolist() == expected


def test_png_transparent_colour_of_16_bits() -> None:
    row = b"\0" + struct.pack(">6H", 0x1234, 0x2000, 0, 0x4000, 0x5000, 0x6000)
    data = hand_made_png(2, 1, row, 16, 2, chunk(b"tRNS", struct.pack(">3H", 0x1234, 0x2000, 0)))
    assert open_image(data).rgb[0].tolist() == [[255, 255, 255], [0x40, 0x50, 0x60]]


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
)
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str, options: dict[str, object]) -> None:
    grey = np.linspace(0, 65535, 257).round().astype(np.uint16)[None]
    found = open_image(encode(PIL.Image.fromarray(grey), kind, **options)).rgb[0, :, 0]
    assert found.tolist() == np.round(grey[0] / 257).astype(int).tolist()
    assert len(set(found.tolist())) == 256


def test_tiff_where_white_is_zero() -> None:
    picture = PIL.Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert open_image(encode(picture, "TIFF", tiffinfo={262: 0})).rgb[0, :, 0].tolist() == [255, 0]


def test_twelve_bit_tiff_uses_its_own_full_range() -> None:
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 200), (277, 3, 1)]
    entries += [(278, 3, 1), (279, 4, 3)]
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in entries
    )
    head = b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0"
    data = head.ljust(200, b"\0") + bytes([0xFF, 0xF8, 0x00])  # samples 4095 and 2048
    assert open_image(data).rgb[0, :, 0].tolist() == [255, 128]


def test_wide_integers_mean_16_bit_grey() -> None:
    picture = PIL.Image.fromarray(np.array([[0, 25700, 65535]], np.int32))
    assert picture.mode == "I"
    assert open_image(picture).rgb[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("values", [np.array([[0.0, 1.0]], np.float32), np.array([[0, 70000]], np.int32)])
def test_samples_without_a_range_are_refused_not_guessed(values: np.ndarray) -> None:
    with pytest.raises(MediaError, match="does not guess"):
        open_image(PIL.Image.fromarray(values))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("ink", "rgb"),
    [
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 255, 0, 0), (255, 0, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
        ((0, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_cmyk(kind: str, ink: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    data = encode(PIL.Image.new("CMYK", (16, 16), ink), kind)
    assert_close(open_image(data).rgb, np.full((16, 16, 3), rgb), 2)


def test_cmyk_jpeg_of_the_tests_is_adobe_inverted() -> None:
    """The test above proves the inversion only if the file stores it: paper white is 255 in the raw samples."""
    data = encode(PIL.Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "JPEG")
    assert b"Adobe" in data
    picture = PIL.Image.open(io.BytesIO(data))
    picture.tile = [
        picture.tile[0]._replace(args=("CMYK", *picture.tile[0].args[1:]))
    ]  # without Pillow's inversion
    assert min(picture.getpixel((3, 3))) >= 253


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_other_pillow_modes(mode: str) -> None:
    source = PIL.Image.fromarray(smooth_rgb())
    if mode in ("La", "RGBa"):
        picture = source.convert("LA" if mode == "La" else "RGBA").convert(mode)
    else:
        picture = source.convert("P").convert("PA") if mode == "PA" else source.convert(mode)
    through = {"La": "LA", "RGBa": "RGBA"}.get(mode)
    expected = picture.convert(through).convert("RGB") if through else picture.convert("RGB")
    assert_close(open_image(picture).rgb, np.asarray(expected), 0)


def test_gif_and_webp_animations_give_the_first_frame() -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
        assert open_image(data).rgb[4, 4].tolist() == [255, 0, 0], kind


def corners() -> np.ndarray:
    """A picture without any symmetry: eight orientations give eight different results."""
    rgb = np.zeros((16, 24, 3), np.uint8)
    rgb[:8, :8], rgb[:8, 8:], rgb[8:, :8], rgb[8:, 8:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
    return rgb


# How a camera stores the upright picture for each EXIF value, from the standard and not from the code tested.
STORED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),  # to be turned clockwise for viewing, so stored turned anticlockwise
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation](corners())))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encode(stored, kind, exif=exif, **options)
    assert_close(open_image(data).rgb, corners(), 6)
    assert open_image(PIL.Image.open(io.BytesIO(data))) == open_image(data)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_impossible_orientation_shows_the_picture_as_stored(value: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = value
    assert_close(open_image(encode(PIL.Image.fromarray(corners()), "PNG", exif=exif)).rgb, corners(), 0)
