"""InternVL3 in transformers' own format (Zhu et al. 2025, arXiv 2504.10479): tiles by aspect ratio, pixel
shuffle.

Owns: up to `max_patches` tiles plus a thumbnail, InternViT with its CLS token, whose row is the salience, and videos,
whose frames are one tile each and numbered in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from foveate.models.attention import listening
from foveate.models.parts.towers import (
    block_mean,
    listen_to_tower,
    square_side,
    tile_regions,
    tower_has_cls,
    whole_region,
)
from foveate.models.records import Encoded, PreparedMedia, Region, VisualGrid
from foveate.models.video import VideoModel

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class InternVL(VideoModel):
    """`InternVLForConditionalGeneration`."""

    family = "internvl"

    @property
    def patch_side(self) -> int:
        """Patches along one side of a tile."""
        vision = self.config.vision_config
        return int(self.image_processor.size["height"]) // square_side(vision.patch_size)

    @property
    def factor(self) -> int:
        """Patches along one side of a token."""
        return round(1 / self.config.downsample_ratio)

    @property
    def salience_kind(self) -> str | None:
        return "cls" if tower_has_cls(self.hf_model.model.vision_tower) else "column"

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        processor = self.image_processor
        edge, side = int(processor.size["height"]), self.patch_side // self.factor
        cols, rows = (1, 1)
        if processor.max_patches > 1:
            cols, rows = get_optimal_tiled_canvas(
                (height, width), (edge, edge), processor.min_patches, processor.max_patches
            )
        count = rows * cols + int(rows * cols > 1)  # more than one tile: a thumbnail of the whole comes last
        return VisualGrid(
            tokens=side * side * count,
            rows=side * rows,
            cols=side * cols,
            tiles=((side, side),) * count,
            pixel_width=edge * cols,
            pixel_height=edge * rows,
            regions=tile_regions(rows, cols, side) + whole_region(side) * int(rows * cols > 1),
        )

    def placeholder_text(self, grid: VisualGrid) -> str:
        start = getattr(self.tokenizer, "start_image_token", "<img>")
        end = getattr(self.tokenizer, "end_image_token", "</img>")
        if not grid.is_video:
            return f"{start}{self.image_token * grid.tokens}{end}"
        frame = f"{start}{self.image_token * (grid.rows * grid.cols)}{end}"
        return "\n".join(f"Frame{number}: {frame}" for number in range(1, grid.frames + 1))

    @property
    def video_placeholder(self) -> str:
        # Words of the template's: the tokens of a video are those of images.
        return str(getattr(self.tokenizer, "video_token", None) or "<video>")

    def video_grid(self, width: int, height: int, times: Sequence[float]) -> VisualGrid:
        side, edge = self.patch_side // self.factor, int(self.image_processor.size["height"])
        return VisualGrid(
            tokens=side * side * len(times),
            rows=side,
            cols=side,
            tiles=((side, side),) * len(times),
            pixel_width=edge,
            pixel_height=edge,
            regions=(Region(rows=side, cols=side),) * len(times),
            frames=len(times),
            times=tuple(float(time) for time in times),
        )

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        # Stored configurations say crop_to_patches false; InternVL's own processor turns it on for images.
        output = self.image_processor(images=[image], crop_to_patches=True, return_tensors="pt")
        return {"pixel_values": output["pixel_values"]}

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        core = self.hf_model.model
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        listen_to_tower(tap, core.vision_tower, self.config.vision_feature_layer)
        with listening(tap):
            output = core.get_image_features(pixel_values=pixels, return_dict=True)
        counts = [item.grid.tokens for item in media]
        features = output.pooler_output.flatten(0, 1).split(counts)
        rows: list[torch.Tensor | None] = [None] * len(media)
        if tap is not None:
            pooled = [block_mean(row, self.patch_side, self.factor) for row in tap.rows]
            rows = list(torch.cat(pooled).split(counts))
        return [(feature, row, ()) for feature, row in zip(features, rows, strict=True)]
