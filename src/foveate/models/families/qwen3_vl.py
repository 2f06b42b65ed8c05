"""Qwen3-VL (Qwen team 2025, arXiv 2511.21631): Qwen2-VL with deepstack (Meng et al. 2024, arXiv 2406.04334).

Owns: features of several tower blocks that the first language layers add at the visual tokens again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foveate.models.families.qwen2_vl import Qwen2VL
from foveate.models.records import MediaFeatures, Prompt


class Qwen3VL(Qwen2VL):
    """`Qwen3VLForConditionalGeneration`."""

    family = "qwen3_vl"

    def language_keywords(self, prompt: Prompt, features: Sequence[MediaFeatures]) -> dict[str, Any]:
        if not features:
            return {}
        levels = zip(*(item.deepstack for item in features), strict=True)
        visual = torch.tensor(prompt.token_ids, device=self.device) == self.image_token_id
        return {
            "visual_pos_masks": visual[None],
            "deepstack_visual_embeds": [torch.cat(level) for level in levels],
        }
