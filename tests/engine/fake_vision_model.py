"""A model of one layer whose answers a few lines of plain Python can foretell.

Each token stores value = (embedding x (position + 1)) mod 97; attention with equal weights gives the mean of all
values before, hence their sum; the next token is a function of that sum. A wrong, missing, stale or foreign slot
anywhere in the cache changes the answer, so the stateful test compares whole answers, not only counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from foveate.models.records import MediaFeatures, PreparedMedia, Prompt, VisualGrid

VOCABULARY = 97
END, IMAGE = 0, 96


def fake_image(seed: int, tokens: int) -> PreparedMedia:
    """An image whose features are integers of its own."""
    grid = VisualGrid(
        tokens=tokens, rows=1, cols=tokens, tiles=((1, tokens),), pixel_width=tokens, pixel_height=1
    )
    values = torch.arange(tokens, dtype=torch.float32)[:, None] * 3 + 100 + 17 * seed
    return PreparedMedia(
        tensors={"pixel_values": values}, grid=grid, width=tokens, height=1, digest=f"image {seed}"
    )


def fake_prompt(parts: Sequence[int | PreparedMedia]) -> Prompt:
    """Token ids and images in order."""
    ids: list[int] = []
    media: list[PreparedMedia] = []
    spans: list[tuple[int, int]] = []
    for part in parts:
        if isinstance(part, int):
            ids.append(part)
        else:
            spans.append((len(ids), len(ids) + part.grid.tokens))
            ids += [IMAGE] * part.grid.tokens
            media.append(part)
    return Prompt(token_ids=ids, media=media, spans=spans, text="")


class FakeTokenizer:
    """One letter per id."""

    eos_token_id = END

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(chr(0x4E00 + token) for token in ids)


class FakeModel:
    """What the engine needs of a `VisionLanguageModel`."""

    ref, family = "fake", "fake"
    device, dtype = torch.device("cpu"), torch.float32
    image_token_id = IMAGE
    visual_token_ids = frozenset({IMAGE})
    accepts_images = True
    window_cuts_groups = False
    context_length = 200
    quantisation = None

    def __init__(self, *, bidirectional: bool = False) -> None:
        self.bidirectional = bidirectional
        self.tokenizer = FakeTokenizer()
        self.config = SimpleNamespace(vision_config=None)
        self.text_config = SimpleNamespace(
            num_attention_heads=1, hidden_size=1, num_hidden_layers=1, vocab_size=VOCABULARY, eos_token_id=END
        )
        self.image_processor = None
        self.encoded: list[str] = []
        self.hf_model = SimpleNamespace(
            generation_config=SimpleNamespace(eos_token_id=END),
            get_input_embeddings=lambda: lambda ids: ids[:, None].float(),
        )

    def positions(self, prompt: Prompt) -> torch.Tensor:
        return torch.arange(len(prompt.token_ids))[None]

    def attention_groups(self, prompt: Prompt) -> torch.Tensor | None:
        if not self.bidirectional or not prompt.media:
            return None
        groups = torch.full((len(prompt.token_ids),), -1)
        for index, (first, last) in enumerate(prompt.spans):
            groups[first:last] = index
        return groups

    def encode(self, media: Sequence[PreparedMedia]) -> list[MediaFeatures]:
        self.encoded += [item.digest for item in media]
        batch = torch.cat([item.tensors["pixel_values"] for item in media])
        pieces = batch.split([item.grid.tokens for item in media])
        return [
            MediaFeatures(features=piece, grid=item.grid) for piece, item in zip(pieces, media, strict=True)
        ]

    def merge(self, prompt: Prompt, features: Sequence[MediaFeatures]) -> torch.Tensor:
        ids = torch.tensor(prompt.token_ids)
        embeds = ids[:, None].float()
        visual = ids == IMAGE
        assert int(visual.sum()) == sum(item.features.shape[0] for item in features)
        if features:
            embeds[visual] = torch.cat([item.features for item in features])
        return embeds[None]

    def language_keywords(self, prompt: Prompt, features: Sequence[MediaFeatures]) -> dict[str, Any]:
        return {}

    def run_language_model(
        self, embeds: torch.Tensor, positions: torch.Tensor, state: Any, **_: Any
    ) -> torch.Tensor:
        place = positions[0].float() + 1
        value = torch.remainder(embeds[0, :, 0] * place, VOCABULARY)[None, None, :, None]
        zero = torch.zeros_like(value)
        mean = state.attend(0, zero, zero, value, scale=1.0)[0, 0, :, 0]
        return torch.stack([(mean * place).round(), embeds[0, :, 0]], dim=-1)[None]

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        best = torch.remainder(31 * hidden[..., 0] + 7 * hidden[..., 1] + 11, VOCABULARY)[..., None]
        return -0.2 * torch.remainder(torch.arange(VOCABULARY) - best, VOCABULARY)

    # -- foretold in plain Python --------------------------------------------------------------------------

    def foretell(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """Greedy tokens of this prompt alone."""
        numbers = [float(token) for token in prompt.token_ids]
        for item, (first, last) in zip(prompt.media, prompt.spans, strict=True):
            numbers[first:last] = item.tensors["pixel_values"][:, 0].tolist()
        answer: list[int] = []
        while len(answer) < max_tokens:
            total = sum(number * (place + 1) % VOCABULARY for place, number in enumerate(numbers))
            token = int((31 * round(total) + 7 * numbers[-1] + 11) % VOCABULARY)
            answer.append(token)
            if token == END:
                break
            numbers.append(float(token))
        return answer
