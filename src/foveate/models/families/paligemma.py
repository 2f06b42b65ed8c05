"""PaliGemma (Beyer et al. 2024, arXiv 2407.07726) and PaliGemma 2 (Steiner et al. 2024, arXiv 2412.03555).

Owns: a prefix (images, then one question) whose tokens all see each other, positions from 1, no chat
    template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import PromptError
from foveate.models.attention import listening
from foveate.models.base import VisionLanguageModel
from foveate.models.parts.towers import listen_to_tower
from foveate.models.records import Encoded, PreparedMedia, Prompt, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class PaliGemma(VisionLanguageModel):
    """`PaliGemmaForConditionalGeneration`, on Gemma or Gemma 2."""

    family = "paligemma"
    adds_special_tokens = False  # `render` writes the beginning of sequence behind the images

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        edge = int(self.image_processor.size["height"])
        side = edge // int(self.config.vision_config.patch_size)
        return VisualGrid(
            tokens=side * side,
            rows=side,
            cols=side,
            tiles=((side, side),),
            pixel_width=edge,
            pixel_height=edge,
        )

    def placeholder_text(self, grid: VisualGrid) -> str:
        return self.image_token * grid.tokens

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """All images, beginning of sequence, the question, a line break: the form of its training."""
        if any(message["role"] == "assistant" for message in messages):
            raise PromptError(
                f"{self.ref} answers one question at a time",
                why="PaliGemma is not trained on conversations",
                fix="Send the images and one question, without earlier turns.",
            )
        parts = [part for message in messages for part in message["content"]]
        images = self.image_token * sum(part["type"] == "image" for part in parts)
        text = "\n".join(part["text"] for part in parts if part["type"] == "text")
        return f"{images}{self.tokenizer.bos_token or ''}{text}\n"

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.image_processor(images=image, return_tensors="pt")["pixel_values"]}

    def positions(self, prompt: Prompt) -> torch.Tensor:
        return super().positions(prompt) + 1

    def attention_groups(self, prompt: Prompt) -> torch.Tensor | None:
        return torch.zeros(len(prompt.token_ids), dtype=torch.long, device=self.device)

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.hf_model.lm_head(hidden)
        cap = getattr(self.text_config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        core = self.hf_model.model
        pixels = torch.cat([item.tensors["pixel_values"] for item in media]).to(self.device, self.dtype)
        listen_to_tower(tap, core.vision_tower, -1)
        with listening(tap):
            output = core.get_image_features(pixels, return_dict=True)
        rows: list[Any] = [None] * len(media) if tap is None else tap.rows
        return [(feature, row, ()) for feature, row in zip(output.pooler_output, rows, strict=True)]
