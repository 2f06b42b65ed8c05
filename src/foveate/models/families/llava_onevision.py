"""LLaVA-OneVision (Li et al. 2024, arXiv 2408.03326): SigLIP tiles, area interpolated down to a cap,
newlines.

Owns: `anyres_max_9`; that only a lone image is tiled: with several images in a prompt each is padded to a square and
becomes one tile; and videos, whose frames are one tile each, pooled to half its rows and columns, with one newline
behind the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.models.families.llava_next import LlavaNext
from foveate.models.parts.towers import llava_features
from foveate.models.records import Encoded, PreparedMedia, Region, VisualGrid
from foveate.models.video import VideoModel

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap

POOLING = 2  # tokens of a frame that become one, along each side


class LlavaOnevision(LlavaNext, VideoModel):
    """`LlavaOnevisionForConditionalGeneration`."""

    family = "llava_onevision"

    @property
    def max_tiles(self) -> int:  # type: ignore[override]
        """The cap on the area, in tiles, written in the configuration as "anyres_max_9"."""
        return int(str(self.config.vision_aspect_ratio).removeprefix("anyres_max_"))

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        if images_in_prompt == 1:
            return super().visual_grid(width, height)
        tile = int(self.config.vision_config.image_size)
        side = tile // int(self.config.vision_config.patch_size)
        return VisualGrid(
            tokens=side * side + 1,  # one newline closes the tile
            rows=side,
            cols=side,
            tiles=((side, side),),
            pixel_width=tile,
            pixel_height=tile,
            extra=1,
            regions=(Region(rows=side, cols=side, after=1),),
        )

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        if images_in_prompt == 1:
            return super().process_pixels(image)
        # The processor decides by the images it is given together: two of the same, one taken.
        pair = self.image_processor(images=[[image, image]], return_tensors="pt")["pixel_values"]
        return {"pixel_values": pair[0][:1]}

    def placeholder_text(self, grid: VisualGrid) -> str:
        return (self.video_token if grid.is_video else self.image_token) * grid.tokens

    def video_grid(self, width: int, height: int, times: Sequence[float]) -> VisualGrid:
        tile = int(self.config.vision_config.image_size)
        side = -(-(tile // int(self.config.vision_config.patch_size)) // POOLING)
        frame, last = Region(rows=side, cols=side), Region(rows=side, cols=side, after=1)
        return VisualGrid(
            tokens=len(times) * side * side + 1,
            rows=side,
            cols=side,
            tiles=((side, side),) * len(times),
            pixel_width=tile,
            pixel_height=tile,
            extra=1,
            regions=(frame,) * (len(times) - 1) + (last,),
            frames=len(times),
            times=tuple(float(time) for time in times),
        )

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        if not media[0].grid.is_video:
            return super().encode_batch(media, tap)
        core = self.hf_model.model
        counts = [item.grid.frames for item in media]
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        features, rows = llava_features(core, self.config, pixels, tap)
        pooled = core.apply_pooling(features).split(counts)
        newline = core.image_newline[None].to(features)
        salience: list[torch.Tensor | None] = [None] * len(media)
        if tap is not None:
            # Pooled as the features are; the newline is worth 0.
            heard = core.apply_pooling(torch.stack([row for row in rows if row is not None]))
            zero = heard.new_zeros(1, heard.shape[-1])
            salience = [torch.cat([item.flatten(0, 1), zero]) for item in heard.split(counts)]
        return [
            (torch.cat([item.flatten(0, 1), newline]), row, ())
            for item, row in zip(pooled, salience, strict=True)
        ]

    def pack_keywords(self) -> dict[str, Any]:
        return {"vision_aspect_ratio": self.config.vision_aspect_ratio}
