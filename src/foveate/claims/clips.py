"""Clips of the world as a tower sees them, and which of their tokens show something new.

Owns the clips of a seed, the truth about them, and the share of it that a method keeps. A moving scene shows the same
objects again and again; pictures in a row that have nothing to do with each other show none twice. Only the tower
runs: what is kept is counted, not asked. Knows no margin and no claim.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.claims.base import Row
from foveate.evaluate.statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    import numpy as np

    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import MediaFeatures
    from foveate.reduce.base import Reducer

MOVING, UNRELATED = "moving", "unrelated"
FRAMES, FRAMES_PER_SECOND = 8, 8.0
_FIRST, _STRETCH = 60_000_000, 100_000
_CHANGED = 8  # of 255: a patch with a pixel that differs more shows something new


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames as the tower gives them, and per frame which tokens show an object that the frame before did not.

    features: one a frame, with salience; new: [T, N] booleans, most of the patch an object and its pixels changed.
    """

    features: list[MediaFeatures]
    new: np.ndarray


@functools.lru_cache(maxsize=2)
def clips(model: VisionLanguageModel, kind: str, count: int, seed: int) -> tuple[Clip, ...]:
    """The same for every arm, which is why they are kept until the next seed."""
    return tuple(_made(model, kind, count, seed))


def _made(model: VisionLanguageModel, kind: str, count: int, seed: int) -> Iterator[Clip]:
    from PIL import Image

    from foveate.models.parts.salience import TowerRequest
    from foveate.world import render, sample_scene

    patch = int(model.config.vision_config.patch_size)
    number = _FIRST + _STRETCH * seed
    for _ in range(count):
        if kind == MOVING:
            scene = sample_scene("shapes", "test", number)
            number += 1
            drawn = [render(scene.at(frame / FRAMES_PER_SECOND), 168) for frame in range(FRAMES)]
        else:
            drawn = [render(sample_scene("shapes", "test", number + frame), 168) for frame in range(FRAMES)]
            number += FRAMES
        # One by one: all frames in one prompt are more than fovea-nano's context holds.
        message = [{"role": "user", "content": [{"type": "image"}]}]
        media = [model.prepare(message, images=[Image.fromarray(one.rgb)]).media[0] for one in drawn]
        yield Clip(
            features=model.encode(media, salience=TowerRequest(salience=True)),
            new=new_objects([one.rgb for one in drawn], [one.ids for one in drawn], patch),
        )


def new_objects(pictures: Sequence[np.ndarray], ids: Sequence[np.ndarray], patch: int) -> np.ndarray:
    """[T, N] booleans: patches that are mostly object and not as they were in the frame before; all in the first."""
    import numpy as np

    def by_patch(values: np.ndarray) -> np.ndarray:
        rows, columns = values.shape[0] // patch, values.shape[1] // patch
        cut = values[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch)
        return cut.transpose(0, 2, 1, 3).reshape(rows * columns, patch * patch)

    new = []
    for frame, (picture, own) in enumerate(zip(pictures, ids, strict=True)):
        shows = by_patch(own >= 0).mean(axis=1) > 0.5
        if frame:
            apart = np.abs(picture.astype(int) - pictures[frame - 1].astype(int)).max(axis=2)
            shows &= by_patch(apart).max(axis=1) > _CHANGED
        new.append(shows)
    return np.stack(new)


def kept_of_new(clip: Clip, reducer: Reducer, budget: str) -> float:
    """The share of the clip's new object tokens that a method keeps: of all frames at once, or of each."""
    import numpy as np

    from foveate.reduce.video.joining import join_frames

    items = [join_frames(clip.features)] if reducer.stage == "video" else clip.features
    plans = [reducer.plan(item.grid, budget) for item in items]
    masks = [keep.mask().cpu().numpy() for keep in reducer.select_batch(items, plans)]
    kept = np.concatenate(masks).reshape(clip.new.shape)
    return float((kept & clip.new).sum() / clip.new.sum())


def difference_by_clip(rows: Sequence[Row], column: str, first: str, second: str) -> Interval:
    """Of two arms, clip by clip, all seeds together."""

    def shares(arm: str) -> list[float]:
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])
        return [share for row in mine for share in row[column]]

    return bootstrap_mean([a - b for a, b in zip(shares(first), shares(second), strict=True)])
