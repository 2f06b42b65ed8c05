"""The records that travel between rooms: grids, prepared images, prompts, features, tokens, checkpoints.

Owns their fields and shapes. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Region:
    """A run of an image's visual tokens in raster order, and the part of the picture it shows.

    Attributes:
        rows, cols: tokens that show the picture.
        row_cuts, col_cuts: first row and column of each tower input that the region is made of.
        box: top, left, bottom, right of what it shows, as shares of the picture.
        overview: whether it shows the whole picture beside regions that show parts.
        before, after: separators in front of the first and behind the last token.
        row_ends: whether a separator ends each row.
    """

    rows: int
    cols: int
    row_cuts: tuple[int, ...] = (0,)
    col_cuts: tuple[int, ...] = (0,)
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    overview: bool = False
    before: int = 0
    after: int = 0
    row_ends: bool = False

    @property
    def tokens(self) -> int:
        """Separators included."""
        return self.rows * (self.cols + int(self.row_ends)) + self.before + self.after


@dataclass(frozen=True, kw_only=True)
class VisualGrid:
    """What one image or video becomes, known from its size (and times) alone, before anything is encoded.

    Attributes:
        tokens: visual tokens the language model will see, separators included.
        rows, cols: layout of the main grid in tokens (for tiled families: of the tiles' area).
        tiles: (rows, cols) in tokens of every tower input, in the order they are encoded.
        pixel_width, pixel_height: size of the image after resizing, in pixels.
        extra: separators (such as LLaVA-NeXT's newline) counted in `tokens`.
        regions: where each token stands in the picture, in token order; empty where the image is one raster of
            rows x cols tokens without separators.
        frames: pictures of equal layout one behind the other in time order, as a video has; `rows`, `cols` and the
            pixels are then those of one, and `tokens`, `tiles`, `extra` and `regions` of all together.
        times: seconds of each of the `frames` of a video, as the family reads time; empty for an image. It is what
            tells a video from pictures that were joined.
    """

    tokens: int
    rows: int
    cols: int
    tiles: tuple[tuple[int, int], ...]
    pixel_width: int
    pixel_height: int
    extra: int = 0
    regions: tuple[Region, ...] = ()
    frames: int = 1
    times: tuple[float, ...] = ()

    @property
    def is_video(self) -> bool:
        """Whether it has a time axis."""
        return bool(self.times)


@dataclass(frozen=True, kw_only=True)
class PreparedMedia:
    """One image or video after pixel processing, ready for the tower.

    `tensors` holds "pixel_values" (leading dimension: tiles, frames or patches) and what else the tower wants;
    `digest` is the content digest of what was decoded; `width` and `height` are its size in pixels; `video` is the
    name of the video that a picture is a frame of, where the family reads frames as pictures.
    """

    tensors: dict[str, torch.Tensor]
    grid: VisualGrid
    width: int
    height: int
    digest: str = ""
    source: str = ""
    video: str = ""


@dataclass(kw_only=True)
class Prompt:
    """A conversation as the model reads it: template applied, placeholders expanded.

    `spans[i]` is the half-open range of token indices that image or video i covers, text between its tiles or
    frames included.
    """

    token_ids: list[int]
    media: list[PreparedMedia]
    spans: list[tuple[int, int]]
    text: str


@dataclass(kw_only=True)
class MediaFeatures:
    """What the tower and projector made of one image or video.

    features: [N, D] in the language model's width; salience: [N] float32 or None, separators 0;
    deepstack: one [N, D] per language layer that adds visual features again (Qwen3-VL);
    shallow_salience: [N] of an early tower layer, keys: [N, d] head means of the tower layer that the model
    reads, both float32, separators 0, None unless asked for (`TowerRequest`);
    digest: content digest of the source picture. After reduction there are fewer rows than `grid.tokens`.
    """

    features: torch.Tensor
    grid: VisualGrid
    salience: torch.Tensor | None = None
    deepstack: tuple[torch.Tensor, ...] = ()
    shallow_salience: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    digest: str = ""


@dataclass(frozen=True)
class GeneratedToken:
    """One decoding step. `text` is what this token completes and may be empty; `finish_reason` is set on the
    last token only: "stop" (end of sequence), "length" (max_new_tokens) or "context" (no room left)."""

    id: int
    text: str
    finish_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoadedCheckpoint:
    """What `loading.py` read from a folder and hands to the family's adapter.

    `video_settings` is how frames of a video are processed, as far as the folder says it apart from pictures.
    """

    ref: str
    folder: Path
    config: Any
    hf_model: Any
    tokenizer: Any
    image_processor: Any
    chat_template: str | None
    dtype: torch.dtype
    dtype_reason: str
    device: torch.device
    device_reason: str
    video_settings: dict[str, Any] = field(default_factory=dict)


# What a family's tower gives for one image: features [N, D], what the tap heard [N, C] or None (see
# `SalienceTap.rows`), deepstack features.
Encoded = tuple[torch.Tensor, torch.Tensor | None, tuple[torch.Tensor, ...]]
