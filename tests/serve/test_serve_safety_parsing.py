"""URLs and addresses against other readers of them, and pictures that have crashed other engines."""

from __future__ import annotations

import io
import ipaddress
from urllib.parse import urlsplit

import httpx2
import numpy as np
import PIL.Image
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foveate.errors import MediaError
from foveate.media import open_image, read_video
from foveate.models import load
from foveate.serve.safety.addresses import Reachable, embedded, is_public
from foveate.serve.safety.location import follow, parse
from foveate.serve.safety.policy import MediaPolicy, MediaRefused

PIECES = st.sampled_from(
    [
        *(
            "http",
            "https",
            "HTTPS",
            ":",
            "//",
            "/",
            "///",
            "\\",
            "@",
            "#",
            "?",
            ":80",
            ":443",
            ":8080",
            ":00080",
            ":",
        ),
        *(
            "pictures.example",
            "127.0.0.1",
            "[::1]",
            "[2606:4700::1111]",
            "1.1.1.1",
            "0x7f.1",
            "xn--bcher-kva.example",
        ),
        *(
            "user",
            "%40",
            "%2f",
            "%00",
            "..",
            ".",
            "a",
            "é",
            "１",
            "。",
            " ",
            "\t",
            "\n",
            "&",
            "=",
            "+",
            "|",
            "[",
            "]",
        ),
    ]
)
URLS = st.lists(PIECES, max_size=8).map("".join) | st.lists(PIECES, max_size=6).map(
    lambda pieces: "https://" + "".join(pieces)
)


@given(URLS)
@example("https://pictures.example:443/a?b#c")
@example("https://pictures.example./a/../b")
@example("HTTP://[2606:4700::1111]:8080?x")
def test_what_is_accepted_is_read_alike_by_other_parsers(url):
    """An attack on a parser needs two that differ: here all three agree, or the URL is refused."""
    try:
        location = parse(url)
    except MediaRefused:
        return
    standard, client = urlsplit(url), httpx2.URL(url)
    assert location.scheme == standard.scheme == client.scheme
    assert location.host == standard.hostname.removesuffix(".") == client.raw_host.decode().removesuffix(".")
    default = {"http": 80, "https": 443}[location.scheme]
    assert location.port == (standard.port or default) == (client.port or default)
    assert not standard.username and not client.username
    again = parse(location.url)  # what a redirect is resolved against means the same
    assert (again.scheme, again.host, again.port) == (location.scheme, location.host, location.port)


@given(URLS)
@example("///127.0.0.1/a")
@example("https:a")
@example("https:///a")
@example("http:")
@example(":http:")
@example("//[")
def test_a_redirect_leads_where_other_parsers_think_or_nowhere(target):
    base = parse("https://pictures.example/a/b?c")
    try:
        location = follow(base, target)
    except MediaRefused as refusal:
        assert refusal.reason == "redirect"
        return
    client = httpx2.URL("https://pictures.example/a/b?c").join(target)
    assert (location.scheme, location.host) == (client.scheme, client.raw_host.decode().removesuffix("."))
    assert location.scheme == "https"


@given(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
    | st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
)
def test_public_addresses_are_public_to_the_standard_library_too(address):
    if is_public(address) and embedded(address) is None:
        assert address.is_global and not address.is_multicast and not address.is_reserved


@given(st.integers(0, 2**32 - 1))
def test_every_form_of_an_address_is_judged_as_the_address(number):
    plain = ipaddress.IPv4Address(number)
    base = {"mapped": 0xFFFF << 32, "nat64": 0x64FF9B << 96, "isatap": (0x26064700 << 96) + (0x5EFE << 32)}
    for form in (ipaddress.IPv6Address(start + number) for start in base.values()):
        assert embedded(form) == plain and is_public(form) == is_public(plain)
    assert not is_public(ipaddress.IPv6Address((0x2002 << 112) + (number << 80)))  # 6to4 whatever is inside
    only = Reachable.of([f"{plain}/32"], [])
    assert only.allows(plain) and only.allows(ipaddress.IPv6Address((0xFFFF << 32) + number))
    assert not Reachable.of([f"{plain}/32"], [f"{plain}/32"]).allows(plain)  # refused goes before private


def test_the_edges_of_reserved_blocks():
    for inside, outside in (
        ("10.0.0.0", "9.255.255.255"), ("10.255.255.255", "11.0.0.0"), ("100.64.0.0", "100.63.255.255"),
        ("100.127.255.255", "100.128.0.0"), ("172.31.255.255", "172.32.0.0"), ("172.16.0.0", "172.15.255.255"),
        ("169.254.0.0", "169.253.255.255"), ("192.168.255.255", "192.169.0.0"), ("198.19.255.255", "198.20.0.0"),
        ("0.255.255.255", "1.0.0.0"), ("224.0.0.0", "223.255.255.255"), ("2001:1ff:ffff::", "2001:200::"),
        ("1fff:ffff::", "2000::"), ("4000::", "3fff:1000::"),
    ):  # fmt: skip
        assert not is_public(ipaddress.ip_address(inside)), inside
        assert is_public(ipaddress.ip_address(outside)), outside


# -- pictures that crashed other engines ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (3, 3), (4, 3), (3, 200), (200, 1), (1, 2000)])
def test_pictures_whose_shape_reads_as_channels(size):
    """CVE-2026-22773: width or height of 1 or 3 was taken for the number of channels, and the engine died."""
    model = load()
    pixels = np.arange(size[0] * size[1] * 3, dtype=np.uint32).reshape(size[1], size[0], 3).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    image = open_image(file.getvalue(), limits=MediaPolicy().limits)
    assert image.rgb.shape == (size[1], size[0], 3) and np.array_equal(image.rgb, pixels)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    tokens = [
        token.text for token in model.generate(model.prepare(messages, images=[image]), max_new_tokens=2)
    ]
    assert tokens


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16"])
def test_pictures_of_few_channels(mode):
    """The same with the file's own channels: 1, 2 or 4 of them become three."""
    file = io.BytesIO()
    PIL.Image.new(mode, (3, 3)).save(file, "TIFF")
    assert open_image(file.getvalue(), limits=MediaPolicy().limits).rgb.shape == (3, 3, 3)


@pytest.mark.parametrize(("rate", "frames"), [(1e9, 10_000), (2.0, 65), (None, 10**9)])
def test_a_request_cannot_raise_the_number_of_frames(rate, frames):
    """CVE-2026-105758: rate and number of frames came from the request and went to the decoder unchecked."""
    with pytest.raises(MediaError, match="max_frames is 64"):
        read_video(
            b"\x00\x00\x00\x18ftypmp42",
            frames_per_second=rate,
            max_frames=frames,
            limits=MediaPolicy().limits,
        )
