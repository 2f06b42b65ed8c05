"""Frames of moving scenes as the frozen tower sees them, cut to the budget and kept on disk: each is seen once.

Owns the folder of one array a stream. Knows no tokens and no training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from foveate.decode.streaming.frames import FrameReader
from foveate.errors import FoveateError
from foveate.world.moving import MovingScene, sample_moving
from foveate.world.render import render

SIZE = 168  # pixels, the width and height of a frame
_AT_ONCE = 24


@dataclass(frozen=True, kw_only=True)
class SeenStream:
    """A stream and what the language model reads of it: features [seconds, tokens of a frame, D] float16."""

    scene: MovingScene
    features: np.ndarray


class FrameStore:
    """Streams of one split, seen by one model at one budget, in `folder`.

    Args:
        origin: what the features depend on; a folder made with something else is refused.

    Raises:
        FoveateError: the folder holds frames of another origin.
    """

    def __init__(
        self,
        folder: Path,
        reader: FrameReader,
        *,
        seconds: int,
        origin: dict[str, str],
        device: torch.device | None = None,
    ) -> None:
        self._folder, self._reader, self._seconds = folder, reader, seconds
        self._device = device or torch.device("cpu")
        folder.mkdir(parents=True, exist_ok=True)
        card, told = folder / "origin.json", {**origin, "seconds": str(seconds)}
        if not card.exists():
            card.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        if json.loads(card.read_text(encoding="utf-8")) != told:
            raise FoveateError(
                f"{folder} holds frames that were seen otherwise",
                why=f"{card.read_text(encoding='utf-8').strip()} there, {json.dumps(told)} here",
                fix="Give the same settings, or another --out.",
            )

    def ensure(self, split: str, count: int, tell: Callable[[int], None] = lambda done: None) -> None:
        """Sees the streams 0 .. count - 1 of a split that have not been seen yet."""
        for index in range(count):
            path = self._path(split, index)
            if not path.exists():
                partial = path.with_suffix(".partial")
                with partial.open("wb") as out:
                    np.save(out, self._seen(sample_moving(split, index, seconds=self._seconds)))
                partial.replace(path)
            tell(index + 1)

    def open(self, split: str, index: int) -> SeenStream:
        """A stream that has been seen; its features are read as they are used."""
        scene = sample_moving(split, index, seconds=self._seconds)
        return SeenStream(scene=scene, features=np.load(self._path(split, index), mmap_mode="r"))

    def _path(self, split: str, index: int) -> Path:
        return self._folder / f"{split}-{index:05}.npy"

    def _seen(self, scene: MovingScene) -> np.ndarray:
        rows = []
        for start in range(0, scene.seconds, _AT_ONCE):
            seconds = range(start, min(start + _AT_ONCE, scene.seconds))
            frames = [
                self._reader.prepared(Image.fromarray(render(scene.at(one), SIZE).rgb)) for one in seconds
            ]
            # What bfloat16 loses is less than what the noise of a camera would.
            with torch.autocast(self._device.type, dtype=torch.bfloat16):
                seen = self._reader.seen(frames)
            rows += [frame.features.features.float().cpu().numpy() for frame in seen]
        return np.stack(rows).astype(np.float16)
