"""LLaVA-1.5 (Liu et al. 2023, arXiv 2310.03744): a ViT, a two-layer MLP, a language model. fovea-nano is one.

Owns: one tile an image, features of the tower layer `vision_feature_layer` (CLIP's last but one), CLS cut
    off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from foveate.models.attention import listening
from foveate.models.base import PreparedMedia, VisionLanguageModel, VisualGrid
from foveate.models.parts.towers import processed_size, tower_attention_module, tower_has_cls

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

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        pixel_width, pixel_height = processed_size(self.image_processor, width, height)
        patch = int(self.config.vision_config.patch_size)
        rows, cols = pixel_height // patch, pixel_width // patch
        # "full" keeps the tower's CLS token as one more visual token in front.
        extra = int(self.config.vision_feature_select_strategy == "full" and tower_has_cls(self.tower))
        return VisualGrid(
            tokens=rows * cols + extra,
            rows=rows,
            cols=cols,
            tiles=((rows, cols),),
            pixel_width=pixel_width,
            pixel_height=pixel_height,
            extra=extra,
        )

    @property
    def tower(self) -> torch.nn.Module:
        """The vision tower."""
        return self.hf_model.model.vision_tower

    def placeholder_text(self, grid: VisualGrid) -> str:
        return self.image_token * grid.tokens

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.image_processor(images=image, return_tensors="pt")["pixel_values"]}

    def encode_batch(
        self, media: Sequence[PreparedMedia], tap: SalienceTap | None
    ) -> list[tuple[torch.Tensor, torch.Tensor | None, tuple[torch.Tensor, ...]]]:
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        if tap is not None:
            layer = tower_attention_module(self.tower, self.config.vision_feature_layer)
            tap.listen_to(layer, has_cls=tower_has_cls(self.tower))
        with listening(tap):
            output = self.hf_model.model.get_image_features(pixel_values=pixels, return_dict=True)
        # A CLS token kept as a feature ("full") counts as a separator in front.
        rows = [
            None if tap is None else torch.nn.functional.pad(tap.rows[index], (item.grid.extra, 0))
            for index, item in enumerate(media)
        ]
        return [(features, row, ()) for features, row in zip(output.pooler_output, rows, strict=True)]
