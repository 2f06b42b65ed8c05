"""Decoder-only text models (Llama, Qwen2, Gemma2...): the same contract, no images.

Knows only that a causal LM has `model` and a head; whatever its head does to logits (soft caps, scales) is
kept by calling the whole transformers model once for the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.errors import PromptError
from foveate.models.base import VisionLanguageModel
from foveate.models.records import Encoded, PreparedMedia, VisualGrid

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.parts.salience import SalienceTap


class TextOnly(VisionLanguageModel):
    """Any supported decoder-only model; every question about an image is refused by name."""

    family = "text"
    accepts_images = False
    keeps_content_parts = False

    def _refuse(self) -> PromptError:
        return PromptError(
            f"{self.ref} is a text-only model ({self.config.model_type}) and cannot look at images",
            fix="Choose a vision-language model (foveate ls).",
        )

    @property
    def image_token_id(self) -> int:
        return -1

    @property
    def language_model(self) -> Any:
        return self.hf_model.model

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = self.hf_model.lm_head(hidden)
        cap = getattr(self.text_config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        raise self._refuse()

    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        raise self._refuse()

    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        raise self._refuse()

    def placeholder_text(self, grid: VisualGrid) -> str:
        raise self._refuse()
