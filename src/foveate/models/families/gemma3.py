"""Gemma 3 (Gemma team 2025, arXiv 2503.19786): SigLIP pooled to 256 tokens, images attend both ways.

Owns: the text around an image, pan and scan crops, one attention group per run of image tokens, pooled
    salience.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from foveate.models.attention import listening
from foveate.models.base import VisionLanguageModel
from foveate.models.parts.towers import block_mean, listen_to_tower, tile_regions, whole_region
from foveate.models.records import Encoded, PreparedMedia, Prompt, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class Gemma3(VisionLanguageModel):
    """`Gemma3ForConditionalGeneration`."""

    family = "gemma3"
    window_cuts_groups = True

    @property
    def side(self) -> int:
        """Tokens along one side of an image."""
        return int(self.config.mm_tokens_per_image**0.5)

    @property
    def template_placeholder(self) -> str:
        """The template writes the token that begins an image."""
        return str(self.tokenizer.convert_ids_to_tokens(self.config.boi_token_index))

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        crops, side = self._crops(width, height), self.side
        edge = int(self.image_processor.size["height"])
        return VisualGrid(
            tokens=side * side * (1 + crops),
            rows=side,
            cols=side,
            tiles=((side, side),) * (1 + crops),
            pixel_width=edge,
            pixel_height=edge,
            # Crops cut the longer side into equal parts.
            regions=whole_region(side)
            + (tile_regions(1, crops, side) if width >= height else tile_regions(crops, 1, side))
            if crops
            else (),
        )

    def _crops(self, width: int, height: int) -> int:
        """How many pan-and-scan crops the processor adds; it looks at the array's shape alone."""
        processor = self.image_processor
        if not processor.do_pan_and_scan:
            return 0
        shape_only = np.broadcast_to(np.uint8(0), (3, height, width))  # no memory behind it
        return len(
            processor.pan_and_scan(
                shape_only,
                processor.pan_and_scan_min_crop_size,
                processor.pan_and_scan_max_num_crops,
                processor.pan_and_scan_min_ratio_to_activate,
            )
        )

    def placeholder_text(self, grid: VisualGrid) -> str:
        end = self.tokenizer.convert_ids_to_tokens(self.config.eoi_token_index)
        one = f"\n\n{self.template_placeholder}{self.image_token * self.side**2}{end}\n\n"
        crops = len(grid.tiles) - 1
        if not crops:
            return one
        return f"Here is the original image {one} and here are some crops to help you see better " + " ".join(
            [one] * crops
        )

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.image_processor(images=[image], return_tensors="pt")["pixel_values"]}

    def attention_groups(self, prompt: Prompt) -> torch.Tensor | None:
        if not prompt.media:
            return None
        visual = torch.tensor(prompt.token_ids) == self.image_token_id
        starts = visual & ~torch.nn.functional.pad(visual, (1, 0))[:-1]
        return torch.where(visual, starts.cumsum(0) - 1, -1).to(self.device)

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        core = self.hf_model.model
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        listen_to_tower(tap, core.vision_tower, -1)
        with listening(tap):
            output = core.get_image_features(pixels, return_dict=True)
        counts = [item.grid.tokens for item in media]
        features = output.pooler_output.flatten(0, 1).split(counts)
        rows: list[torch.Tensor | None] = [None] * len(media)
        if tap is not None:
            patches = self.config.vision_config.image_size // self.config.vision_config.patch_size
            pooled = [block_mean(row, patches, patches // self.side) for row in tap.rows]
            rows = list(torch.cat(pooled).split(counts))
        return [(feature, row, ()) for feature, row in zip(features, rows, strict=True)]
