"""file: URLs, for operators who name one folder that requests may read from.

Owns the confinement. What lies outside is refused in the same words as what does not exist, so that a request cannot
find out which files the machine has.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from foveate.media.sources import short_name
from foveate.serve.safety.content import too_large
from foveate.serve.safety.policy import MediaRefused

_FILE = re.compile(r"file:(?://(?:localhost)?)?(/[^?#]*)", re.IGNORECASE)


def read(url: str, folder: Path | None, cap: int) -> bytes:
    """The bytes of a regular file within the folder, links followed and judged by where they end.

    Args:
        folder: None refuses every file.

    Raises:
        MediaRefused: no folder, not in it, not a regular file, or above `cap` bytes.
    """
    if folder is None:
        raise MediaRefused(
            "file: URLs are off",
            reason="file",
            why="this server has no media folder",
            fix="Send the picture as data: URI, or start the server with --media-folder.",
        )
    found = _FILE.fullmatch(url)
    path = unquote(found[1]) if found else ""
    shown = short_name(url)
    try:
        root = folder.resolve(strict=True)
        real = Path(path).resolve(strict=True)
        inside = real.is_relative_to(root) and stat.S_ISREG(real.stat().st_mode)
    except (OSError, ValueError, RuntimeError):  # missing, NUL or surrogate in the name, links in a circle
        inside = False
    if not path or not inside:
        raise _outside(shown)
    try:
        # The path is real now; if its last part has become a link or a pipe since, it is not opened or waited for.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _outside(shown) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _outside(shown)
        data = file.read(cap + 1)
    if len(data) > cap:
        raise too_large(shown, cap, at_least=len(data))
    return data


def _outside(shown: str) -> MediaRefused:
    return MediaRefused(
        f"{shown} cannot be read",
        reason="file",
        why="it is not a file in the server's media folder",
        fix="Write file:///folder/name.png with the whole path.",
    )
