"""What a family answers beside the contract of pictures where its models were trained on videos.

Owns the questions, and what most families answer. Knows no containers and no codecs (`foveate.media` decodes), no
resizing (`parts/video_pixels.py`) and no family. A prepared video is a `PreparedMedia` as a picture is; what tells it
apart is the time axis of its grid.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from foveate.models.base import VisionLanguageModel
from foveate.models.parts.video_pixels import frames_to_pixels
from foveate.models.records import VisualGrid

if TYPE_CHECKING:
    import numpy as np


class VideoModel(VisionLanguageModel):
    """A checkpoint of a family that reads videos as videos."""

    accepts_videos: ClassVar[bool] = True

    @abc.abstractmethod
    def video_grid(self, width: int, height: int, times: Sequence[float]) -> VisualGrid:
        """The layout and exact token count of a video, before it is encoded.

        Args:
            width, height: of its frames in pixels.
            times: [T] seconds of the frames from the first, ascending; T is 1 or more.
        """

    def process_frames(self, frames: np.ndarray, grid: VisualGrid) -> dict[str, torch.Tensor]:
        """Pixel processing of frames [T, height, width, 3] uint8, as `video_grid` laid them out."""
        size = {"width": grid.pixel_width, "height": grid.pixel_height}
        return {"pixel_values": frames_to_pixels(frames, **size, settings=self.frame_settings)}

    @property
    def frame_settings(self) -> dict[str, Any]:
        """How frames are resized and normalised: what the checkpoint says of videos, else what it says of images."""
        stated = {key: value for key, value in self.video_settings.items() if value is not None}
        return {**self.image_processor.to_dict(), **stated}

    @property
    def video_token_id(self) -> int:
        """The id that marks a visual token of a video; that of images where the family has no other."""
        value = getattr(self.config, "video_token_id", None)
        return self.image_token_id if value is None else int(value)

    @property
    def video_token(self) -> str:
        """The text of that token."""
        return str(self.tokenizer.convert_ids_to_tokens(self.video_token_id))

    @property
    def video_placeholder(self) -> str:
        """What the chat template writes once per video."""
        return self.video_token

    @property
    def visual_token_ids(self) -> frozenset[int]:
        return frozenset({self.image_token_id, self.video_token_id})

    @property
    def reserved_texts(self) -> frozenset[str]:
        return super().reserved_texts | {self.video_placeholder, self.video_token}
