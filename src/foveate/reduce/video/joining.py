"""From the images of a prompt to one video and back.

Owns the grid of a video, features laid end to end, and each frame's part of what was kept, where the frames are the
images of a prompt, in its order, each encoded on its own. (A video that its family reads as one needs none of this.)
Knows no method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import torch

from foveate.errors import ReductionError
from foveate.models.records import MediaFeatures, Region, VisualGrid
from foveate.reduce.keep_map import KeepMap


def video_grid(grids: Sequence[VisualGrid]) -> VisualGrid:
    """The grid of frames of one grid each.

    Raises:
        ReductionError: the images are not of one size in tokens.
    """
    first = grids[0]
    for index, grid in enumerate(grids[1:], start=2):
        if grid != first:
            raise ReductionError(
                "The images of this prompt are not the frames of one video",
                why=f"image 1 becomes {first.rows} x {first.cols} tokens from {first.pixel_width} x "
                f"{first.pixel_height} pixels, image {index} {grid.rows} x {grid.cols} from "
                f"{grid.pixel_width} x {grid.pixel_height}",
                fix="Give frames of one size, or use a method for stills such as fastervlm.",
            )
    regions = first.regions or (Region(rows=first.rows, cols=first.cols),)
    return replace(
        first,
        tokens=first.tokens * len(grids),
        tiles=first.tiles * len(grids),
        extra=first.extra * len(grids),
        regions=regions * len(grids),
        frames=len(grids),
    )


def join_frames(items: Sequence[MediaFeatures]) -> MediaFeatures:
    """The frames' features as one item, [T N, D]; rows and keys where every frame has them.

    Raises:
        ReductionError: the frames are not of one size in tokens.
    """

    def joined(name: str) -> torch.Tensor | None:
        values = [getattr(item, name) for item in items]
        return None if any(value is None for value in values) else torch.cat(values)

    levels = zip(*(item.deepstack for item in items), strict=True)
    return MediaFeatures(
        features=torch.cat([item.features for item in items]),
        grid=video_grid([item.grid for item in items]),
        salience=joined("salience"),
        deepstack=tuple(torch.cat(level) for level in levels),
        shallow_salience=joined("shallow_salience"),
        keys=joined("keys"),
        digest=hashlib.sha256("\n".join(item.digest for item in items).encode()).hexdigest(),
    )


def frame_maps(keep: KeepMap, grid: VisualGrid) -> list[KeepMap]:
    """Of each frame, whose grid is `grid`, which of its tokens are kept: none, it may be.

    For places and pictures alone: what a token is merged from may be in another frame, so only the video's own
    keep-map says it.
    """
    size = grid.tokens
    cuts = torch.arange(1, keep.grid.frames, device=keep.kept.device) * size
    parts = keep.kept.tensor_split(torch.searchsorted(keep.kept, cuts).cpu())
    scores = [None] * len(parts) if keep.scores is None else keep.scores.split(size)
    return [
        replace(keep, grid=grid, kept=part - index * size, scores=row, merge=None)
        for index, (part, row) in enumerate(zip(parts, scores, strict=True))
    ]


def split_frames(item: MediaFeatures, keep: KeepMap, grids: Sequence[VisualGrid]) -> list[MediaFeatures]:
    """A reduced video as one item a frame, for the language model, which places features image by image."""
    counts = [part.count for part in frame_maps(keep, grids[0])]
    levels = [level.split(counts) for level in item.deepstack]
    return [
        MediaFeatures(
            features=features,
            grid=grid,
            deepstack=tuple(level[index] for level in levels),
            digest=item.digest,
        )
        for index, (features, grid) in enumerate(zip(item.features.split(counts), grids, strict=True))
    ]
