"""Spatial and temporal redundancy on frames of the world: what a temporal and a spatial method keep of each.

Owns the clips, the truth about them and the margins. A moving scene shows the same objects again and again; pictures in
a row that have nothing to do with each other show none twice. Only the tower runs: what is kept is counted, not asked.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from foveate.claims.base import Arm, Claim, Estimate, Margin, Paper, Progress, Row, Tier, Verdict, judge
from foveate.evaluate.statistics import Interval, bootstrap_mean

if TYPE_CHECKING:
    import numpy as np

    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import MediaFeatures

EVS, FASTERVLM, RANDOM = "evs", "fastervlm", "random"
MOVING, UNRELATED = "moving", "unrelated"
BUDGET = "25%"
CLIPS = {Tier.SMOKE: 4, Tier.CLAIM: 60}
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


class Redundancy(Claim):
    """The share of the objects' new tokens that each method keeps, of clips with and without repetition."""

    name = "llmc-redundancy"
    system = "LLMC+"
    statement = (
        "Spatial and temporal redundancy need different methods: at 25 % of the tokens of 8 frames a temporal method "
        "(EVS) keeps more of the objects' tokens that are new in their frame than a spatial one (FasterVLM, frame by "
        "frame) where a scene moves, and fewer where the frames are unrelated pictures (fovea-nano's tower, world "
        "scenes of difficulty 2)."
    )
    limits = (
        "answers: fovea-nano takes single pictures, so what is kept is counted against the world's masks and no "
        "question is asked; the authors compare on benchmarks of long natural video."
    )
    paper = Paper(
        title="LLMC+: Benchmarking Vision-Language Model Compression with a Plug-and-play Toolkit",
        arxiv="2508.09981",
        year=2025,
    )
    arms = (
        Arm(name=EVS, description="the first frame, and of the others the tokens that changed most"),
        Arm(name=FASTERVLM, description="of every frame the quarter that its CLS token attends to most"),
        Arm(name=RANDOM, description="of every frame a quarter at random"),
    )
    margin = (
        Margin(quantity="new object tokens kept, moving: EVS - FasterVLM", threshold=0.0, no_effect=0.0),
        Margin(quantity="new object tokens kept, unrelated: FasterVLM - EVS", threshold=0.0, no_effect=0.0),
    )
    seeds: ClassVar = {Tier.SMOKE: (0,), Tier.CLAIM: (1, 2, 3)}
    sources = ("foveate.claims.llmc_redundancy",)

    @cached_property
    def _model(self) -> VisionLanguageModel:
        from foveate.models import load

        return load()

    def steps(self, tier: Tier) -> int:
        return 2 * CLIPS[tier]

    def measure(self, arm: str, *, tier: Tier, seed: int, progress: Progress) -> list[Row]:
        row: Row = {"arm": arm, "seed": seed}
        done = 0
        for kind in (MOVING, UNRELATED):
            shares = []
            for clip in _clips(self._model, kind, CLIPS[tier], seed):
                shares.append(round(kept_of_new(clip, arm, seed), 6))
                done += 1
                progress(done)
            row |= {f"{kind}_kept": sum(shares) / len(shares), f"{kind}_by_clip": shares}
        return [row]

    def verdict(self, rows: Sequence[Row]) -> Verdict:
        """Differences clip by clip, all seeds together."""
        intervals = (
            _difference(rows, f"{MOVING}_by_clip", EVS, FASTERVLM),
            _difference(rows, f"{UNRELATED}_by_clip", FASTERVLM, EVS),
        )
        return judge(
            [
                Estimate(margin=margin, interval=interval)
                for margin, interval in zip(self.margin, intervals, strict=True)
            ]
        )


def _difference(rows: Sequence[Row], column: str, first: str, second: str) -> Interval:
    def shares(arm: str) -> list[float]:
        mine = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["seed"])
        return [share for row in mine for share in row[column]]

    return bootstrap_mean([a - b for a, b in zip(shares(first), shares(second), strict=True)])


@functools.lru_cache(maxsize=2)
def _clips(model: VisionLanguageModel, kind: str, count: int, seed: int) -> tuple[Clip, ...]:
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


def kept_of_new(clip: Clip, arm: str, seed: int) -> float:
    """The share of the clip's new object tokens that a method keeps."""
    import numpy as np

    from foveate.reduce import get_reducer
    from foveate.reduce.video.joining import join_frames

    if arm == EVS:
        reducer, items = get_reducer("evs"), [join_frames(clip.features)]
    else:
        reducer = get_reducer("random", seed=seed) if arm == RANDOM else get_reducer("fastervlm")
        items = clip.features
    plans = [reducer.plan(item.grid, BUDGET) for item in items]
    masks = [keep.mask().cpu().numpy() for keep in reducer.select_batch(items, plans)]
    kept = np.concatenate(masks).reshape(clip.new.shape)
    return float((kept & clip.new).sum() / clip.new.sum())
