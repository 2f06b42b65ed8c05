"""Where the pictures and videos of requests come from: data: URIs, the web, a media folder, uploads.

Owns the choice between the sources. Fetching safely is `safety.fetch`'s work, decoding `media`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from foveate.media import Video, read_video
from foveate.serve.files import ID_PREFIX, FileStore
from foveate.serve.safety.fetch import MediaFetcher
from foveate.serve.safety.policy import MediaPolicy
from foveate.serve.settings import ServeSettings


class PictureStore:
    """Reads what a content part names."""

    def __init__(self, settings: ServeSettings, files: FileStore) -> None:
        self._files = files
        self.policy = MediaPolicy(allowed_domains=settings.media_domains, media_folder=settings.media_folder)
        self._fetcher = MediaFetcher(self.policy)

    async def read(self, source: str, *, owner: str) -> bytes:
        """The bytes of a data: URI, an address, or a file that this owner has uploaded.

        Raises:
            MediaRefused: the policy, the host or the content stands against it.
            ApiError: there is no such file.
        """
        if source.startswith(ID_PREFIX):
            return self._files.get(source, owner=owner).data
        return await self._fetcher.fetch(source)

    async def video(self, source: str, *, frames_per_second: float, max_frames: int) -> Video:
        """Frames of a video with their times, decoded beside the event loop.

        Raises:
            MediaRefused: the policy, the host or the content stands against it.
            MediaError: not a video, damaged, or above a limit.
        """
        data = await self._fetcher.fetch(source, kind="video")

        def decode() -> Video:
            return read_video(
                data, limits=self.policy.limits, frames_per_second=frames_per_second, max_frames=max_frames
            )

        return await asyncio.to_thread(decode)

    def refusals(self) -> Iterator[tuple[str, str, int]]:
        """("media", reason, count)."""
        return (("media", reason, count) for reason, count in sorted(self._fetcher.refused.items()))

    async def close(self) -> None:
        """Ends connections and threads."""
        await self._fetcher.aclose()
