"""The digest's framing is injective: bytes and typed settings can be read back from it, in one way only."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate.media import digest_media
from foveate.media.digest import framed

values = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(-2, 2),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, -0.0, 1.0, "1", "1.0", "True", "b1", "i1", ""]),
    st.text(alphabet=st.characters(), max_size=6),
)
mappings = st.dictionaries(st.text(max_size=4), values, max_size=4)
part_lists = st.lists(st.binary(max_size=12), max_size=4)


def stream(parts: list[bytes], settings: dict[str, Any]) -> bytes:
    return b"".join(bytes(piece) for piece in framed(parts, settings))


def parsed(data: bytes) -> tuple[list[bytes], dict[str, Any]]:
    """An independent reader of the framing: its existence is the proof that nothing collides."""
    at = 0

    def number() -> int:
        nonlocal at
        at += 8
        return struct.unpack(">Q", data[at - 8 : at])[0]

    def item() -> bytes:
        nonlocal at
        length = number()
        at += length
        return data[at - length : at]

    def value(raw: bytes) -> Any:
        kind, body = raw[:1], raw[1:]
        if kind == b"b":
            return body == b"1"
        if kind == b"i":
            return int(body, 16)
        return struct.unpack(">d", body)[0] if kind == b"f" else body.decode("utf-8", "surrogatepass")

    item()
    parts = [item() for _ in range(number())]
    settings = {}
    for _ in range(number()):
        key = item().decode("utf-8", "surrogatepass")
        settings[key] = value(item())
    assert at == len(data)
    return parts, settings


def typed(settings: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {key: (type(value).__name__, repr(value)) for key, value in settings.items()}


@given(part_lists, mappings)
def test_framing_reads_back_exactly(parts: list[bytes], settings: dict[str, Any]) -> None:
    found_parts, found = parsed(stream(parts, settings))
    assert found_parts == parts and typed(found) == typed(settings)


@given(part_lists, mappings, part_lists, mappings)
def test_equal_digests_mean_equal_input(
    parts: list[bytes], settings: dict[str, Any], other_parts: list[bytes], other: dict[str, Any]
) -> None:
    same = parts == other_parts and typed(settings) == typed(other)
    assert (digest_media(parts, settings) == digest_media(other_parts, other)) == same


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_moving_a_boundary_changes_the_digest(data: bytes, first: int, second: int) -> None:
    cuts = [[data[:at], data[at:]] for at in (min(first, len(data)), min(second, len(data)))]
    assert (digest_media(cuts[0], {}) == digest_media(cuts[1], {})) == (cuts[0] == cuts[1])


def test_types_and_near_values_differ() -> None:
    kinds: list[Any] = [
        1,
        1.0,
        True,
        "1",
        "True",
        "1.0",
        0,
        0.0,
        -0.0,
        False,
        "",
        "b1",
        "i1",
        2**70,
        float("inf"),
    ]
    assert len({digest_media(b"x", {"k": kind}) for kind in kinds}) == len(kinds)
    layouts = [
        {},
        {"": ""},
        {"a": "b"},
        {"ab": ""},
        {"": "ab"},
        {"a": "", "b": ""},
        {"a": "b", "c": "d"},
        {"c": "b", "a": "d"},
    ]
    assert len({digest_media(b"", layout) for layout in layouts}) == len(layouts)
    assert len({digest_media(raw, {}) for raw in ([], [b""], [b"", b""])}) == 3


def test_order_buffers_and_processes_do_not_matter() -> None:
    forward, backward = {"a": 1, "b": "x"}, {"b": "x", "a": 1}
    expected = digest_media(b"picture", forward)
    assert (
        expected
        == digest_media(bytearray(b"picture"), backward)
        == digest_media([memoryview(b"picture")], forward)
    )
    assert digest_media(np.arange(6, dtype=np.uint8).reshape(2, 3), {}) == digest_media(bytes(range(6)), {})
    assert digest_media(np.empty((0, 3), np.uint8), {}) == digest_media(b"", {})
    code = "from foveate.media import digest_media; print(digest_media(b'picture', {'b': 'x', 'a': 1}))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected


def test_framing_is_pinned() -> None:
    """A change here makes every stored digest stale: raise the number in the domain string with it."""
    expected = b"\0\0\0\0\0\0\0\x16foveate.media.digest/1" + b"\0\0\0\0\0\0\0\x01" + b"\0\0\0\0\0\0\0\x02hi"
    expected += b"\0\0\0\0\0\0\0\x01" + b"\0\0\0\0\0\0\0\x01k" + b"\0\0\0\0\0\0\0\x03i-a"
    assert stream([b"hi"], {"k": -10}) == expected


@pytest.mark.parametrize("value", [None, b"1", [1], np.int64(1), 1j])
def test_untyped_settings_are_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="setting 'k' must be"):
        digest_media(b"", {"k": value})


def test_keys_must_be_text() -> None:
    with pytest.raises(TypeError, match="name must be str"):
        digest_media(b"", {1: "x"})  # type: ignore[dict-item]
