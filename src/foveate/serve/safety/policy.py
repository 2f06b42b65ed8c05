"""What may be fetched for a request, from where, and how much of it.

Owns the settings and the error. Knows neither sockets nor formats: fetch.py enforces.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import MediaError, nearest
from foveate.media import MediaLimits
from foveate.serve.safety.limits import SafetySettingsError, limit, require_range

SCHEMES = ("https", "http", "data")


class MediaRefused(MediaError):  # noqa: N818  (a refusal is the server's decision, and its name in the API)
    """Media that the server does not fetch or take; nothing of its content is told.

    Attributes:
        reason: a word for metrics: address, scheme, too_large, ... (see `REASONS`).
    """

    def __init__(self, what: str, *, reason: str, why: str = "", fix: str = "") -> None:
        assert reason in REASONS, reason
        super().__init__(what, why=why, fix=fix)
        self.reason = reason


REASONS = {
    "malformed": "the URL is not written as one, or in a way that programs read differently",
    "scheme": "a scheme that is not allowed",
    "domain": "a host or port that is not allowed",
    "address": "the name has no public address",
    "redirect": "too many redirects, or one to where none may lead",
    "unreachable": "no connection, or one that broke",
    "timeout": "too slow",
    "status": "the host answered with an error",
    "encoding": "a compressed transfer, or base64 that is none",
    "too_large": "more bytes or pixels than allowed",
    "type": "the content is not an image (or video) that opens here",
    "file": "local files are off, or it is not in the media folder",
}


@dataclass(frozen=True, kw_only=True)
class MediaPolicy:
    """Where pictures and videos of requests may come from, and what one may cost.

    The reason for each default stands beside it.

    Raises:
        SafetySettingsError: a value that cannot be enforced.
    """

    schemes: tuple[str, ...] = limit(
        ("https", "data"), "", "add http only if needed: what it brings can be changed on the way"
    )
    allowed_domains: tuple[str, ...] = limit(
        (), "", "none: any public host. `example.org` means that host, `*.example.org` those below it"
    )
    ports: tuple[int, ...] = limit((443, 80), "", "other ports are other services: mail, databases, consoles")
    private_networks: tuple[str, ...] = limit(
        (), "", "networks such as 10.1.2.0/24 that may be reached although they are not public"
    )
    refused_networks: tuple[str, ...] = limit(
        (), "", "public networks that may not be reached, such as the operator's own"
    )
    media_folder: Path | None = limit(  # noqa: RUF009  (its default is None)
        None, "", "file: URLs open only files in this folder; none: no files"
    )
    max_bytes: int = limit(20 * 2**20, "bytes", "an encoded image; counted while it arrives")
    max_video_bytes: int = limit(128 * 2**20, "bytes", "an encoded video")
    max_pixels: int = limit(2**25, "pixels", "an image or a frame, as its header claims; 100 MB of RGB")
    max_frames: int = limit(64, "frames", "kept from one video, whatever a request asks for")
    max_video_seconds: float = limit(600.0, "seconds", "length of a video")
    connect_timeout: float = limit(3.0, "seconds", "to connect to one address, with TLS")
    read_timeout: float = limit(5.0, "seconds", "of silence")
    total_timeout: float = limit(15.0, "seconds", "from the name to the last byte, redirects included")
    max_redirects: int = limit(3, "redirects", "each is checked like the first URL")
    max_concurrent: int = limit(16, "fetches", "at once; others wait, and their waiting counts as time")

    def __post_init__(self) -> None:
        for name in ("schemes", "allowed_domains", "ports", "private_networks", "refused_networks"):
            if isinstance(getattr(self, name), str) or not isinstance(getattr(self, name), Sequence):
                raise SafetySettingsError(f"MediaPolicy.{name} is not a list", fix="Give a tuple.")
        for scheme in self.schemes:
            if scheme not in SCHEMES:
                hint = "Name a media_folder for files." if scheme == "file" else nearest(scheme, SCHEMES)
                raise SafetySettingsError(f"unknown scheme {scheme!r} in MediaPolicy.schemes", fix=hint)
        for name in ("private_networks", "refused_networks"):
            for network in getattr(self, name):
                _require_network(name, network)
        for name in ("max_bytes", "max_video_bytes", "max_pixels", "max_frames", "max_concurrent"):
            require_range(self, name, least=1)
        for name in ("max_video_seconds", "connect_timeout", "read_timeout", "total_timeout"):
            require_range(self, name, above=True)
        require_range(self, "max_redirects")

    @property
    def limits(self) -> MediaLimits:
        """The caps for opening what was fetched, so that decoding holds to the same policy."""
        return MediaLimits(
            max_bytes=self.max_bytes,
            max_pixels=self.max_pixels,
            max_video_bytes=self.max_video_bytes,
            max_video_seconds=self.max_video_seconds,
            max_frames=self.max_frames,
            max_video_pixels=self.max_frames * 2**21,  # as if every frame were Full HD
        )

    def allows_host(self, host: str) -> bool:
        """Whether a lower-case host without a final dot is among the allowed domains."""
        if not self.allowed_domains:
            return True
        for entry in self.allowed_domains:
            name = entry.lower().rstrip(".")
            if host == name or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
                return True
        return False


def _require_network(name: str, network: str) -> None:
    try:
        ipaddress.ip_network(network)
    except ValueError as error:
        raise SafetySettingsError(
            f"MediaPolicy.{name} has {network!r}",
            why=str(error),
            fix="Write it as 10.1.2.0/24 or fd00:1::/64.",
        ) from error
