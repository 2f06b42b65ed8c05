"""LLaVA-1.5 (Liu et al. 2023, arXiv 2310.03744): a ViT, a two-layer MLP, a language model. fovea-nano is one.

Owns: one tile an image, features of the tower layer `vision_feature_layer` (CLIP's last but one), CLS cut
    off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from foveate.models.base import VisionLanguageModel
from foveate.models.parts.towers import llava_features, processed_size, tower_has_cls
from foveate.models.records import Encoded, PreparedMedia, Region, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class Llava(VisionLanguageModel):
    """`LlavaForConditionalGeneration` with a CLIP or SigLIP tower."""

    family = "llava"
    default_template = (
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}ASSISTANT: {% endif %}"
        "{% if message['role'] == 'user' %}USER: {% endif %}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{{ ' ' }}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )

    @property
    def salience_kind(self) -> str | None:
        return "cls" if tower_has_cls(self.hf_model.model.vision_tower) else "column"

    @property
    def resizes(self) -> bool:
        tower = self.hf_model.model.vision_tower
        embeddings = getattr(tower, "vision_model", tower).embeddings
        # A CLS token that stays a feature would come on top of the smaller raster.
        return hasattr(embeddings, "interpolate_pos_encoding") and not self._raster(1, 1).extra

    def resized(self, item: PreparedMedia, rows: int, cols: int) -> PreparedMedia:
        """The tower interpolates its position embeddings to the smaller raster."""
        patch = int(self.config.vision_config.patch_size)
        pixels = torch.nn.functional.interpolate(
            item.tensors["pixel_values"].float(),
            size=(rows * patch, cols * patch),
            mode="bilinear",
            antialias=True,
        )
        tensors = {**item.tensors, "pixel_values": pixels.to(item.tensors["pixel_values"].dtype)}
        return replace(item, tensors=tensors, grid=self._raster(rows, cols))

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        pixel_width, pixel_height = processed_size(self.image_processor, width, height)
        patch = int(self.config.vision_config.patch_size)
        return self._raster(pixel_height // patch, pixel_width // patch, pixel_height, pixel_width)

    def _raster(self, rows: int, cols: int, pixel_height: int = 0, pixel_width: int = 0) -> VisualGrid:
        """One raster; its pixels are whole patches where not told otherwise."""
        patch = int(self.config.vision_config.patch_size)
        # The tower puts its CLS token in front, and "default" drops whatever stands there.
        first = int(tower_has_cls(self.hf_model.model.vision_tower))
        first -= int(self.config.vision_feature_select_strategy == "default")
        return VisualGrid(
            tokens=rows * cols + first,
            rows=rows,
            cols=cols,
            tiles=((rows, cols),),
            pixel_width=pixel_width or cols * patch,
            pixel_height=pixel_height or rows * patch,
            extra=max(first, 0),
            regions=(Region(rows=rows, cols=cols, before=1),) if first > 0 else (),
        )

    def placeholder_text(self, grid: VisualGrid) -> str:
        return self.image_token * grid.tokens

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.image_processor(images=image, return_tensors="pt")["pixel_values"]}

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        features, rows = llava_features(self.hf_model.model, self.config, pixels, tap)
        return [(feature, row, ()) for feature, row in zip(features, rows, strict=True)]
