"""Qwen2-VL (Wang et al. 2024, arXiv 2409.12191): native resolution, 2 x 2 patches a token, M-RoPE.

Owns: the resize to a multiple of patch x merge within a pixel budget, per-image attention in the tower,
    positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import PromptError
from foveate.models.attention import listening
from foveate.models.base import VisionLanguageModel
from foveate.models.parts.mrope import mrope_positions
from foveate.models.parts.patches import patches_of, picture_of
from foveate.models.records import Encoded, PreparedMedia, Prompt, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class Qwen2VL(VisionLanguageModel):
    """`Qwen2VLForConditionalGeneration`."""

    family = "qwen2_vl"

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        processor = self.image_processor
        factor = processor.patch_size * processor.merge_size
        try:
            pixel_height, pixel_width = smart_resize(
                height,
                width,
                factor,
                min_pixels=processor.size["shortest_edge"],
                max_pixels=processor.size["longest_edge"],
            )
        except ValueError as error:
            raise PromptError(
                f"An image of {width} x {height} pixels is too narrow for {self.ref}",
                why="its longer side may be at most 200 times the shorter",
                fix="Crop the image.",
            ) from error
        rows, cols = pixel_height // factor, pixel_width // factor
        return VisualGrid(
            tokens=rows * cols,
            rows=rows,
            cols=cols,
            tiles=((rows, cols),),
            pixel_width=pixel_width,
            pixel_height=pixel_height,
        )

    def placeholder_text(self, grid: VisualGrid) -> str:
        return self.image_token * grid.tokens

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        output = self.image_processor(images=[image], return_tensors="pt")
        return {"pixel_values": output["pixel_values"], "image_grid_thw": output["image_grid_thw"]}

    @property
    def resizes(self) -> bool:
        return True

    def picture(self, item: PreparedMedia) -> torch.Tensor:
        vision = self.config.vision_config
        return picture_of(
            item.tensors["pixel_values"],
            item.grid.rows,
            item.grid.cols,
            merge=vision.spatial_merge_size,
            patch=vision.patch_size,
        )[None]

    def resized(self, item: PreparedMedia, rows: int, cols: int) -> PreparedMedia:
        """Native resolution: the tower reads any number of patches."""
        vision = self.config.vision_config
        merge, patch = int(vision.spatial_merge_size), int(vision.patch_size)
        side = merge * patch
        before = item.tensors["pixel_values"]
        smaller = torch.nn.functional.interpolate(
            self.picture(item).float(), size=(rows * side, cols * side), mode="bilinear", antialias=True
        )[0].to(before.dtype)
        frames = before.shape[1] // (3 * patch * patch)
        tensors = {
            **item.tensors,
            "pixel_values": patches_of(smaller, merge=merge, patch=patch, frames=frames),
            "image_grid_thw": torch.tensor([[1, rows * merge, cols * merge]]),
        }
        grid = VisualGrid(
            tokens=rows * cols,
            rows=rows,
            cols=cols,
            tiles=((rows, cols),),
            pixel_width=cols * side,
            pixel_height=rows * side,
        )
        return replace(item, tensors=tensors, grid=grid)

    def positions(self, prompt: Prompt) -> torch.Tensor:
        grids = [(item.grid.rows, item.grid.cols) for item in prompt.media]
        return mrope_positions(prompt.token_ids, self.image_token_id, grids)[:, None].to(self.device)

    @property
    def salience_layer(self) -> torch.nn.Module:
        """The attention whose column mean is the salience: of the last block."""
        return self.hf_model.model.visual.blocks[-1].attn

    @property
    def shallow_layers(self) -> list[torch.nn.Module]:
        """The attention modules that an early salience row can be of."""
        return [block.attn for block in self.hf_model.model.visual.blocks]

    def arrange(self, row: torch.Tensor, item: PreparedMedia) -> torch.Tensor:
        """[patches, C] in the tower's order -> [tokens, C] in raster order."""
        merge = int(self.config.vision_config.spatial_merge_size)
        return row.reshape(-1, merge * merge, row.shape[1]).mean(
            dim=1
        )  # the tower keeps a token's patches together

    def tower(self, pixels: torch.Tensor, grids: torch.Tensor) -> Any:
        """transformers' image features of patches [P, c] and grids [images, 3] (time, height, width)."""
        return self.hf_model.model.get_image_features(pixels, grids, return_dict=True)

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        grids = torch.cat([item.tensors["image_grid_thw"] for item in media]).to(self.device)
        if tap is not None:
            tap.listen_to(self.salience_layer, has_cls=False, layers=self.shallow_layers)
        with listening(tap):
            output = self.tower(pixels, grids)
        levels = getattr(output, "deepstack_features", None) or []
        encoded: list[Encoded] = []
        for index, item in enumerate(media):
            row = None if tap is None else self.arrange(tap.rows[index], item)
            encoded.append((output.pooler_output[index], row, tuple(level[index] for level in levels)))
        return encoded
