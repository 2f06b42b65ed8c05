"""Idefics3 (Laurençon et al. 2024, arXiv 2408.12637) and SmolVLM (Marafioti et al. 2025, arXiv 2504.05299).

Owns: the split into square tiles with row and column markers in the text, a global view last, pixel shuffle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.models.attention import listening
from foveate.models.base import VisionLanguageModel
from foveate.models.parts.towers import block_mean, listen_to_tower, tile_regions, whole_region
from foveate.models.records import Encoded, PreparedMedia, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap

AROUND = "<fake_token_around_image>"
GLOBAL = "<global-img>"


class Idefics3(VisionLanguageModel):
    """`Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`."""

    family = "idefics3"

    @property
    def language_model(self) -> Any:
        return self.hf_model.model.text_model

    @property
    def tile_side(self) -> int:
        """Tokens along one side of a tile, after pixel shuffle."""
        patches = (
            int(self.image_processor.max_image_size["longest_edge"]) // self.config.vision_config.patch_size
        )
        return int(patches // self.config.scale_factor)

    def _split(self, width: int, height: int) -> tuple[int, int]:
        """(rows, cols) of tiles; (1, 1) is one tile without a global view.

        Computed here because the processor's own `get_number_of_image_patches` takes the second side from
        before the first was rounded up, and so miscounts where `longest_edge` is no multiple of the tile.
        """
        from transformers.models.idefics3.image_processing_pil_idefics3 import get_resize_output_image_size

        processor = self.image_processor
        edge = int(processor.max_image_size["longest_edge"])
        if not processor.do_image_splitting:
            return 1, 1
        if processor.do_resize and processor.size.get("longest_edge"):
            shape_only = np.broadcast_to(np.uint8(0), (3, height, width))  # no memory behind it
            height, width = get_resize_output_image_size(shape_only, int(processor.size["longest_edge"]))
        elif processor.do_resize:
            height, width = int(processor.size["height"]), int(processor.size["width"])
        aspect = width / height
        if width >= height:
            cols = math.ceil(width / edge)
            return math.ceil(int(cols * edge / aspect) / edge), cols
        rows = math.ceil(height / edge)
        return rows, math.ceil(int(rows * edge * aspect) / edge)

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        rows, cols = self._split(width, height)
        count = rows * cols + int(rows * cols > 1)
        side, edge = self.tile_side, int(self.image_processor.max_image_size["longest_edge"])
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
        side = self.tile_side
        tile = self.image_token * (side * side)
        whole = f"{AROUND}{GLOBAL}{tile}{AROUND}"
        if len(grid.tiles) == 1:
            return whole
        lines = [
            "".join(f"{AROUND}<row_{row + 1}_col_{col + 1}>{tile}" for col in range(grid.cols // side)) + "\n"
            for row in range(grid.rows // side)
        ]
        return "".join(lines) + "\n" + whole

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": self.image_processor(images=[[image]], return_tensors="pt")["pixel_values"][0]
        }

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        core = self.hf_model.model
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        listen_to_tower(tap, core.vision_model, -1)
        with listening(tap):
            output = core.get_image_features(pixel_values=pixels[None], return_dict=True)
        features = output.pooler_output[0].split([item.grid.tokens for item in media])
        rows: list[torch.Tensor | None] = [None] * len(media)
        if tap is not None:
            factor = int(self.config.scale_factor)
            pooled = [block_mean(row, self.tile_side * factor, factor) for row in tap.rows]
            rows = list(torch.cat(pooled).split([item.grid.tokens for item in media]))
        return [(feature, row, ()) for feature, row in zip(features, rows, strict=True)]


class SmolVLM(Idefics3):
    """The same design under its own model type."""

    family = "smolvlm"
