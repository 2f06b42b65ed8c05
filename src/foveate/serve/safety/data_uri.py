"""data: URIs (RFC 2397) in base64, decoded strictly and only after their size is known to fit.

Owns the grammar. The declared media type is ignored: content decides.
"""

from __future__ import annotations

import binascii
import re

import pybase64

from foveate.serve.safety.content import too_large
from foveate.serve.safety.policy import MediaRefused

SHOWN = "The data: URI"
_HEAD = re.compile(r"data:[a-z0-9!#$&^_.+/-]*(?:;[a-z0-9_.-]+=[a-z0-9_.\"+/-]*)*;base64,", re.IGNORECASE)
_LONGEST_HEAD = 256


def decode(uri: str, cap: int) -> bytes:
    """The bytes of a base64 data: URI.

    Strict (RFC 4648 §3): the standard alphabet, its exact padding, no line breaks, so that nothing can hide in
    characters that one decoder skips and another reads.

    Raises:
        MediaRefused: another form, more than `cap` bytes, or base64 that is none.
    """
    head = _HEAD.match(uri[:_LONGEST_HEAD])
    if head is None:
        raise MediaRefused(
            f"{SHOWN} is refused",
            reason="malformed",
            why="it does not start like data:image/png;base64,",
            fix="Encode the file as base64 and put that in front.",
        )
    length = len(uri) - head.end()
    least = length // 4 * 3 - 2  # padding takes up to two
    if least > cap:
        raise too_large(SHOWN, cap, at_least=least)
    try:
        data = pybase64.b64decode(uri[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:  # the latter for letters beyond ASCII
        raise MediaRefused(
            f"{SHOWN} is not valid base64",
            reason="encoding",
            why="only the standard alphabet with its padding counts: no line breaks, no - and _",
            fix="Encode the whole file again.",
        ) from error
    if len(data) > cap:
        raise too_large(SHOWN, cap, at_least=len(data))
    return data
