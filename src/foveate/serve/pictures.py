"""Where the pictures of requests come from: data: URIs, the web, a media folder.

Owns the choice between the sources. Fetching safely is `safety.fetch`'s work.
"""

from __future__ import annotations

from typing import Protocol

from foveate.errors import MediaError
from foveate.media.limits import MediaLimits
from foveate.media.sources import locate


class Fetcher(Protocol):
    """See `foveate.serve.safety.fetch.MediaFetcher`."""

    async def fetch(self, url: str) -> bytes:
        """The bytes of a picture; MediaRefused where the policy is against it."""


class PictureStore:
    """Reads what a content part names."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def read(self, source: str) -> bytes:
        """The bytes of a data: URI or an address.

        Raises:
            FoveateError: refused, or not there.
        """
        return await self._fetcher.fetch(source)


class InlineOnly:
    """Pictures that are in the request itself; no address is ever fetched."""

    async def fetch(self, url: str) -> bytes:
        """The bytes of a data: URI.

        Raises:
            MediaError: anything else.
        """
        if url[:5].lower() != "data:":
            raise MediaError(
                "The picture is no data: URI",
                why="this server fetches nothing",
                fix="Send its bytes in base64.",
            )
        data = locate(url, MediaLimits(), cap="max_bytes", kind="image").data
        assert data is not None
        return data
