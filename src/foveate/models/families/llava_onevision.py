"""LLaVA-OneVision (Li et al. 2024, arXiv 2408.03326): SigLIP tiles, area interpolated down to a cap,
newlines.

Owns: `anyres_max_9`, and that only a lone image is tiled: with several images in a prompt each is padded to
a square and becomes one tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.models.families.llava_next import LlavaNext
from foveate.models.records import Region, VisualGrid

if TYPE_CHECKING:
    import PIL.Image
    import torch


class LlavaOnevision(LlavaNext):
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

    def pack_keywords(self) -> dict[str, Any]:
        return {"vision_aspect_ratio": self.config.vision_aspect_ratio}
