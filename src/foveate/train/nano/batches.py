"""Batches for fovea-nano: pictures, dense labels, and many questions packed behind one image.

Each sequence is `<bos><user><image>*N` followed by dialogues. A dialogue sees the image and itself only (block
mask, positions restarting after the image), which equals training on one prompt per dialogue at a fraction of
the cost: the image is paid once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from foveate.train.nano.dense import patch_labels, patch_objects, scene_labels
from foveate.world import Example, make_example

IMAGE_SIZE, GRID = 168, 12
# Some pictures are drawn at another size and resampled, as a user's file would be.
_SIZES = (168, 168, 168, 168, 112, 140, 224, 336)
# Captions and boxes have many tokens; without this they would drown the short answers.
_LONG_WEIGHT = 0.4
# Text places behind each picture: one length for all, so that nothing is padded to the longest of a batch.
TEXT_ROOM = 142
_COLUMNS = ("token_ids", "positions", "targets", "weights", "segments")


@dataclass(slots=True)
class Batch:
    """pixels [B,3,S,S]; labels [B,5,G,G]; offsets [B,2,G,G]; scene [B,K]. Text columns are [B,T]: token_ids,
    positions (counted from the first text place), targets (-100 = not trained), weights, segments (k = dialogue
    k, -1 = padding). Looks are [M]: the row and the text place where the reply to a question about objects begins,
    and [M, G²] whether each patch shows an object that the question is about. `blind` batches are read without
    their pictures."""

    pixels: Tensor
    labels: Tensor
    offsets: Tensor
    scene: Tensor
    token_ids: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor
    segments: Tensor
    look_rows: Tensor
    look_places: Tensor
    look_maps: Tensor
    blind: bool = False

    def to(self, device: torch.device) -> Batch:
        moved: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
        return Batch(**moved)

    @property
    def prefix(self) -> int:
        """Places before the text: `<bos><user>` and the visual tokens."""
        return 2 if self.blind else 2 + GRID * GRID

    def all_positions(self) -> Tensor:
        """[B, P + T]."""
        opening = torch.arange(self.prefix, device=self.positions.device).expand(len(self.token_ids), -1)
        return torch.cat([opening, self.positions + self.prefix], dim=1)

    def mask(self) -> Tensor:
        """[B, 1, T, P + T] scores to add: a text place sees the opening, the picture, and its dialogue so far."""
        rows, length = self.segments.shape
        device = self.segments.device
        causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        same = (self.segments[:, :, None] == self.segments[:, None, :]) & causal
        own = torch.zeros(rows, length, length, device=device).masked_fill_(~same, -1e4)
        return torch.cat([torch.zeros(rows, length, self.prefix, device=device), own], dim=2)[:, None]


def to_pixels(rgb: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 -> [3, 168, 168] float32 in -1..1, resampled as the shipped image processor does."""
    if rgb.shape[:2] != (IMAGE_SIZE, IMAGE_SIZE):
        rgb = np.asarray(Image.fromarray(rgb).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))
    return (rgb.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)


class Packer:
    """Turns examples into batches with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.end, self.pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.bos = tokenizer.bos_token_id
        self.user, self.assistant, self.image = tokenizer.convert_tokens_to_ids(
            ["<user>", "<assistant>", "<image>"]
        )
        self._cache: dict[str, list[int]] = {}

    def _encode(self, text: str) -> list[int]:
        found = self._cache.get(text)
        if found is None:
            found = self.tokenizer.encode(text, add_special_tokens=False)
            if len(self._cache) < 200_000:
                self._cache[text] = found
        return found

    def sequence(self, example: Example, room: int) -> dict[str, list]:
        """Text columns of one example; dialogues that no longer fit into `room` tokens are left out."""
        columns: dict[str, list] = {name: [] for name in (*_COLUMNS, "looks")}
        for number, dialogue in enumerate(example.dialogues, start=1):
            tokens: list[int] = []
            trained: list[float] = []
            looks: list[tuple[int, tuple[int, ...]]] = []
            for turn, question in enumerate(dialogue):
                asked = (
                    ([self.user] if turn else []) + self._encode(question.text) + [self.end, self.assistant]
                )
                reply = [*self._encode(question.answer), self.end]
                weight = _LONG_WEIGHT if question.family in ("caption", "grounding") else 1.0
                tokens += asked
                if example.scene.objects and question.family != "caption":
                    looks.append((len(tokens) - 1, question.object_ids))
                tokens += reply
                trained += [0.0] * len(asked) + [weight] * len(reply)
            if len(columns["token_ids"]) + len(tokens) > room:
                continue
            columns["looks"] += [(len(columns["token_ids"]) + place, ids) for place, ids in looks]
            columns["token_ids"] += tokens
            columns["positions"] += range(len(tokens))
            # The target of a place is the token after it; the last place of a dialogue has none.
            columns["targets"] += [t if w else -100 for t, w in zip(tokens[1:], trained[1:], strict=True)] + [
                -100
            ]
            columns["weights"] += [*trained[1:], 0.0]
            columns["segments"] += [number] * len(tokens)
        return columns

    def pack(self, examples: Sequence[Example], *, room: int = TEXT_ROOM, blind: bool = False) -> Batch:
        rows = [self.sequence(e, room) for e in examples]
        columns = {
            key: torch.tensor([[*r[key], *[fill] * (room - len(r[key]))] for r in rows])
            for key, fill in zip(_COLUMNS, (self.pad, 0, -100, 0.0, -1), strict=True)
        }
        looks = [(i, place, ids) for i, row in enumerate(rows) for place, ids in row["looks"]]
        under = [patch_objects(e, GRID).flatten() for e in examples]
        maps = [np.isin(under[i], ids) for i, _, ids in looks]
        dense = [patch_labels(e, GRID) for e in examples]
        return Batch(
            pixels=torch.from_numpy(np.stack([to_pixels(e.rendering.rgb) for e in examples])),
            labels=torch.from_numpy(np.stack([d[0] for d in dense])),
            offsets=torch.from_numpy(np.stack([d[1] for d in dense])),
            scene=torch.from_numpy(np.stack([scene_labels(e) for e in examples])),
            look_rows=torch.tensor([i for i, _, _ in looks], dtype=torch.long),
            look_places=torch.tensor([place for _, place, _ in looks], dtype=torch.long),
            look_maps=torch.from_numpy(np.stack(maps) if maps else np.zeros((0, GRID * GRID), dtype=bool)),
            blind=blind,
            **columns,
        )


class NanoBatches(Dataset[Batch]):
    """Batches from picture number `start` on, each a pure function of its first picture's number, so a resumed
    run sees exactly what it would have seen."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        batch_size: int,
        start: int,
        count: int,
        mixture: Sequence[int] = (1, 3, 1),
    ) -> None:
        self.packer = Packer(tokenizer)
        self.batch_size, self.start, self.count, self.mixture = batch_size, start, count, mixture

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Batch:
        first = self.start + place * self.batch_size
        rng = random.Random(first)
        examples = [training_example(first + i, rng, self.mixture) for i in range(self.batch_size)]
        # A few batches without pictures, so that "no image" measures what can be guessed, not confusion.
        return self.packer.pack(examples, blind=first // self.batch_size % 27 == 26)


def training_example(index: int, rng: random.Random, mixture: Sequence[int] = (1, 3, 1)) -> Example:
    """`mixture` weighs the difficulties 1, 2 and 3."""
    page = rng.random() < 0.36
    return make_example(
        "page" if page else "shapes",
        "train",
        index,
        size=rng.choice(_SIZES),
        questions=9,
        difficulty=rng.choices((1, 2, 3), mixture)[0],
        caption="first" if rng.random() < (0.35 if page else 0.45) else "none",
    )


def validation_examples(split: str, count: int, *, difficulty: int = 2) -> Iterator[Example]:
    """A fixed set of fresh pictures, two of shapes to one page."""
    for index in range(count):
        domain = "page" if index % 3 == 2 else "shapes"
        yield make_example(
            domain, split, index, questions=2 if domain == "page" else 6, difficulty=difficulty
        )
