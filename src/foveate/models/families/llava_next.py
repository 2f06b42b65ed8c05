"""LLaVA-NeXT (Liu et al. 2024, llava-vl.github.io/blog/2024-01-30-llava-next): LLaVA with any-resolution
tiles.

Owns: base tile plus a grid of tiles chosen by aspect ratio, padding cut away, a newline embedding after each
    row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.models.families.llava import Llava
from foveate.models.parts.anyres import AnyresLayout, anyres_layout, pack
from foveate.models.parts.towers import llava_features
from foveate.models.records import Encoded, PreparedMedia, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class LlavaNext(Llava):
    """`LlavaNextForConditionalGeneration`."""

    family = "llava_next"
    max_tiles: int | None = None

    @property
    def resizes(self) -> bool:
        return False  # a smaller picture changes its tiles, not their size

    def layout(self, width: int, height: int) -> AnyresLayout:
        """Tiles and area of one image."""
        vision = self.config.vision_config
        return anyres_layout(
            width,
            height,
            pinpoints=self.config.image_grid_pinpoints,
            tile=int(vision.image_size),
            patch=int(vision.patch_size),
            max_tiles=self.max_tiles,
        )

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        layout = self.layout(width, height)
        tile = int(self.config.vision_config.image_size)
        return VisualGrid(
            tokens=layout.tokens,
            rows=layout.rows,
            cols=layout.cols,
            tiles=((layout.side, layout.side),) * (1 + layout.tile_rows * layout.tile_cols),
            pixel_width=tile * layout.tile_cols,
            pixel_height=tile * layout.tile_rows,
            extra=layout.rows,
            regions=layout.regions,
        )

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        tiles = self.image_processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": tiles}

    def pack_keywords(self) -> dict[str, Any]:
        """What transformers' packing wants beside features, sizes and newline."""
        return {"vision_feature_select_strategy": self.config.vision_feature_select_strategy}

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        core = self.hf_model.model
        counts = [item.tensors["pixel_values"].shape[0] for item in media]
        sizes = torch.tensor([[item.height, item.width] for item in media])
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        features, rows = llava_features(core, self.config, pixels, tap)
        packed = pack(core, features.split(counts), sizes, core.image_newline, **self.pack_keywords())
        salience: list[torch.Tensor | None] = [None] * len(media)
        if tap is not None:
            # The packing that placed the features places what was heard; newlines are worth 0.
            stacked = torch.stack([row for row in rows if row is not None])
            newline = stacked.new_zeros(stacked.shape[-1])
            salience = list(pack(core, stacked.split(counts), sizes, newline, **self.pack_keywords()))
        return [(feature, row, ()) for feature, row in zip(packed, salience, strict=True)]
