"""Paths, bytes, URIs and objects: what opens, under which name, and what is said of what does not."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from foveate.errors import FoveateError, MediaError
from foveate.media import Image, MediaLimits, open_image


@pytest.fixture
def png() -> bytes:
    out = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(5).integers(0, 256, (9, 7, 3), np.uint8)).save(out, "PNG")
    return out.getvalue()


def one_line(error: pytest.ExceptionInfo[MediaError]) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    assert isinstance(error.value, FoveateError)
    return text


def test_all_routes_give_the_same_image(png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a picture.jpg"  # a wrong extension on purpose: content decides
    path.write_bytes(png)
    monkeypatch.setenv("HOME", str(tmp_path))
    packed = base64.b64encode(png).decode()
    urlsafe = base64.urlsafe_b64encode(png).decode().rstrip("=")
    pil = PIL.Image.open(io.BytesIO(png))
    first = open_image(path)
    routes = [
        str(path),
        "~/a picture.jpg",
        Path("~/a picture.jpg"),
        png,
        bytearray(png),
        memoryview(png),
        f"data:image/png;base64,{packed}",
        f"DATA:image/jpeg;charset=utf-8;BASE64,{packed}",
        "data:;base64," + "\n".join(packed[at : at + 60] for at in range(0, len(packed), 60)),
        f"data:image/png;base64,{urlsafe}",
        f"data:image/png;base64,{urllib.parse.quote(packed)}",
        f"data:image/png,{urllib.parse.quote_from_bytes(png)}",
        pil,
        np.asarray(pil),
        first,
    ]
    for route in routes:
        image = open_image(route)
        assert image == first and image.digest == first.digest and np.array_equal(image.rgb, first.rgb)
        assert len(repr(image)) < 250 and packed[:40] not in repr(image)
    assert hash(first) == hash(open_image(png))
    assert first.source.endswith("a picture.jpg")


def test_digest_is_of_pixels_and_shape() -> None:
    rgb = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    changed = rgb.copy()
    changed[3, 5, 2] ^= 1
    digests = {
        open_image(array).digest for array in (rgb, rgb.reshape(6, 4, 3), rgb.reshape(2, 12, 3), changed)
    }
    assert len(digests) == 4


def test_image_is_frozen_and_independent_of_its_source() -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    pil = PIL.Image.fromarray(rgb.copy())
    image, other = open_image(rgb), open_image(pil)
    rgb[:] = 255
    pil.paste((255, 255, 255), (0, 0, 5, 4))
    copy = image.pil()
    copy.paste((9, 9, 9), (0, 0, 5, 4))
    assert image.rgb.max() == other.rgb.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        image.rgb[0, 0, 0] = 1
    with pytest.raises(AttributeError):
        image.digest = "x"  # type: ignore[misc]
    assert isinstance(image, Image) and image.pil().size == (5, 4)


def test_missing_file_names_the_likely_one(png: bytes, tmp_path: Path) -> None:
    (tmp_path / "kitchen.png").write_bytes(png)
    with pytest.raises(MediaError) as error:
        open_image(tmp_path / "kitchn.png")
    text = one_line(error)
    assert "does not exist" in text and "Did you mean" in text and "kitchen.png?" in text
    with pytest.raises(MediaError, match="no folder"):
        open_image(tmp_path / "nowhere" / "kitchen.png")
    with pytest.raises(MediaError, match="does not exist"):
        open_image(tmp_path / "kitchen.png" / "inner.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, this is text", "no known image format"),
        (b"\x00" * 600, "no known image format"),
        (b"%PDF-1.7 ....", "PDF document"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC photo"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00", "AVIF image"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "read_video"),
        (b"<?xml version='1.0'?><svg xmlns='x'/>", "SVG drawing"),
        (b"\n<!DOCTYPE html><html>404", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "WAV sound"),
    ],
)
def test_what_is_not_an_image_is_named(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(MediaError) as error:
            open_image(source)
        assert words in one_line(error)
    assert "in memory" in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_are_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="device or a pipe"):
        open_image(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://example.com/a.png", "never fetches; fetching belongs to the server"),
        ("HTTPS://example.com/a.png", "Download the image first"),
        (" https://example.com/a.png", "web address"),
        ("file:///etc/hostname", "file address"),
        ("s3://bucket/a.png", "s3 address"),
        ("", "path is empty"),
        (".", "is a directory"),
        ("a\0b.png", "cannot be read"),
        ("~nobody-of-that-name/a.png", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("line\nbreak.png", "does not exist"),
        (7, "int"),
        (None, "NoneType"),
        (io.BytesIO(b"x"), "BytesIO"),
        (np.zeros((2, 2), np.uint8), "shape (2, 2)"),
        (np.zeros((2, 2, 3), np.float32), "float32"),
        (np.zeros((0, 2, 3), np.uint8), "no pixels"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png;base64,@@@@", "not valid base64"),
        ("data:image/png;base64,abcde", "not valid base64"),
        ("data:text/plain,hello", "no known image format"),
    ],
)
def test_bad_sources(source: object, words: str) -> None:
    with pytest.raises(MediaError) as error:
        open_image(source)  # type: ignore[arg-type]
    assert words in one_line(error)


def test_a_megabyte_of_data_uri_never_reaches_a_message() -> None:
    for uri in (
        "data:image/png;base64," + base64.b64encode(b"not an image" * 90_000).decode(),
        "data:" + "x" * 1_000_000 + ";base64,QUJD",
        "data:image/png;base64," + "!" * 1_000_000,
        "y" * 1_000_000,
        "https://example.com/" + "z" * 1_000_000,
    ):
        with pytest.raises(MediaError) as error:
            open_image(uri)
        one_line(error)


def test_unreadable_file(png: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(png)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")
    with pytest.raises(MediaError, match="cannot be read"):
        open_image(path)


def test_import_is_light_and_brings_neither_torch_nor_av() -> None:
    code = "import sys, foveate.media; print(sorted({'torch', 'transformers', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_limits_are_checked_for_ready_images_too() -> None:
    image = open_image(np.zeros((10, 10, 3), np.uint8))
    for source in (image, image.pil(), np.array(image.rgb)):
        with pytest.raises(MediaError, match="100 pixels, and max_pixels is 99"):
            open_image(source, limits=MediaLimits(max_pixels=99))
