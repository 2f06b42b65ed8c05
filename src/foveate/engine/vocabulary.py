"""The bytes that each token id adds to an answer.

Owns the reading of a tokenizer's vocabulary for grammars, which are over bytes. Knows no grammar. Special tokens,
ids without a token (a model's padding) and ids beyond the model's head add nothing: no grammar can choose them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from foveate.engine.request import RequestError

# Decoders under which a token adds the same bytes wherever it stands, save for one space at the front.
_KNOWN_DECODERS = {"ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip"}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer's vocabulary as bytes.

    Attributes:
        spellings: by id, as many as the model's head has rows; empty where a token adds no text.
        drops_first_space: whether decoding takes one space off the front of an answer (SentencePiece's way).
    """

    spellings: tuple[bytes, ...]
    drops_first_space: bool


def read_vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """Reads a Hugging Face tokenizer; `size` is the number of rows of the model's head.

    Raises:
        RequestError: the tokenizer is not a fast one, or what its tokens add depends on their place.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refusal(tokenizer, "it is not a fast one, so the bytes of its tokens are not known")
    decoders = list(_decoders(json.loads(backend.to_str())["decoder"]))
    unknown = sorted(set(decoders) - _KNOWN_DECODERS)
    if unknown or not decoders:
        raise _refusal(
            tokenizer, f"its decoder is {unknown[0] if unknown else 'none'}, under which tokens add spaces"
        )
    added = backend.get_added_tokens_decoder()
    tokens = {number: token for token, number in backend.get_vocab().items() if 0 <= number < size}
    plain = {number: token for number, token in tokens.items() if number not in added}
    spellings = [b""] * size
    if "ByteLevel" in decoders:
        for number, token in plain.items():
            spellings[number] = _byte_level(token)
    else:
        for number, text in _decoded(backend, list(plain)):
            spellings[number] = text.encode()
        if "ByteFallback" in decoders:
            for number, token in plain.items():
                if found := _BYTE_TOKEN.fullmatch(token):
                    spellings[number] = bytes([int(found[1], 16)])
    for number, token in added.items():
        if number < size and not token.special:
            spellings[number] = token.content.encode()
    return Vocabulary(spellings=tuple(spellings), drops_first_space=_drops_first_space(backend, spellings))


def _refusal(tokenizer: Any, why: str) -> RequestError:
    return RequestError(
        f"Constrained output cannot use the tokenizer {type(tokenizer).__name__}",
        why=why,
        fix="Send the request without a constraint.",
    )


def _decoders(decoder: dict[str, Any] | None) -> Iterator[str]:
    """The kinds of a decoder and its parts."""
    if decoder is None:
        return
    yield decoder["type"]
    for part in decoder.get("decoders", ()):
        yield from _decoders(part)


def _byte_level_table() -> dict[str, int]:
    """Character -> byte of byte-level BPE (Radford et al. 2019): printable Latin-1 stands for itself, every other
    byte, in order, for the characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_LEVEL = _byte_level_table()


def _byte_level(token: str) -> bytes:
    if all(character in _BYTE_LEVEL for character in token):
        return bytes(_BYTE_LEVEL[character] for character in token)
    return token.encode()  # as the decoder does


def _decoded(backend: Any, numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
    """What each token adds after another one, asked of the decoder itself: some look different at the start."""
    anchors = backend.encode("a", add_special_tokens=False).ids[-1:]
    before = backend.decode(anchors, skip_special_tokens=True)
    texts = backend.decode_batch([[*anchors, number] for number in numbers], skip_special_tokens=True)
    for number, text in zip(numbers, texts, strict=True):
        if text.startswith(before):
            yield number, text[len(before) :]


def _drops_first_space(backend: Any, spellings: Sequence[bytes]) -> bool:
    spaced = next((number for number, text in enumerate(spellings) if re.match(rb" [a-z]", text)), None)
    return spaced is not None and not backend.decode([spaced]).startswith(" ")
