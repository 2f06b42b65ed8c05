"""What the engine derives from a prompt once: positions, cuts, images, names.

Owns the arithmetic between token indices, visual tokens and images of one prompt: where a chunk may end, which
images it needs and which rows of their features. Knows no scheduling and no cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from foveate.engine.positions import PositionService, PositionTrack

if TYPE_CHECKING:
    from foveate.engine.reduction import Reduction
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import PreparedMedia, Prompt


@dataclass(frozen=True, kw_only=True)
class PromptLayout:
    """Derived facts of one prompt of T tokens.

    Attributes:
        groups: [T] attention groups or None, as the family says.
        atomic: half-open token ranges, ascending, that must run in one chunk: within each, tokens see later
            ones.
        visual_before: [T + 1] how many visual tokens stand before each index.
        visual_ranges: per image, the half-open range of its visual tokens, counted over the prompt.
        media_keys: per image, the name under which its features are cached.
        media_bytes: per image, the memory its features take.
        reduction: how the images are cut to their budgets; None where nothing is dropped.
    """

    positions: PositionTrack
    groups: torch.Tensor | None
    atomic: tuple[tuple[int, int], ...]
    visual_before: tuple[int, ...]
    visual_ranges: tuple[tuple[int, int], ...]
    media_keys: tuple[str, ...]
    media_bytes: tuple[int, ...]
    reduction: Reduction | None = None

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.visual_before) - 1

    def cut(self, start: int, stop: int) -> int:
        """The last allowed end of a chunk from `start` that is at most `stop`; `start` if there is none."""
        for first, last in self.atomic:
            if first < stop < last:
                return max(first, start)
        return stop

    def shortest_chunk(self, start: int) -> int:
        """The first allowed end after `start`."""
        return next((last for first, last in self.atomic if first <= start < last), start + 1)

    def visual_slice(self, start: int, stop: int) -> tuple[int, int]:
        """Visual tokens among tokens [start, stop), counted over the prompt; generated tokens are none."""
        return self.visual_before[min(start, self.length)], self.visual_before[min(stop, self.length)]

    def media_in(self, start: int, stop: int) -> list[int]:
        """Images some of whose visual tokens are among tokens [start, stop)."""
        first, last = self.visual_slice(start, stop)
        return [index for index, (low, high) in enumerate(self.visual_ranges) if low < last and first < high]

    def feature_rows(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(image, first row, end row) of the features that tokens [start, stop) take, in order."""
        first, last = self.visual_slice(start, stop)
        rows = []
        for index in self.media_in(start, stop):
            low, high = self.visual_ranges[index]
            rows.append((index, max(first, low) - low, min(last, high) - low))
        return rows

    def first_token_of(self, media_index: int) -> int:
        """Token index of the image's first visual token."""
        return self.visual_before.index(self.visual_ranges[media_index][0] + 1) - 1

    def media_done(self, media_index: int, computed: int) -> bool:
        """Whether all visual tokens of the image are among the first `computed` tokens."""
        return self.visual_slice(0, computed)[1] >= self.visual_ranges[media_index][1]


def lay_out(
    model: VisionLanguageModel,
    prompt: Prompt,
    positions: PositionService,
    settings: str,
    reduction: Reduction | None = None,
) -> PromptLayout:
    """Derives the layout; `settings` names model and pixel processing (see `processing_settings`).

    Args:
        prompt: with `reduction`, the prompt that is left.
    """
    counts = [item.grid.tokens for item in prompt.media]
    names = [""] * len(counts)
    if reduction is not None:
        counts, names = [plan.kept for plan in reduction.plans], list(reduction.names)
    before, visual = [0], model.visual_token_ids
    for token in prompt.token_ids:
        before.append(before[-1] + (token in visual))
    ranges, first = [], 0
    for count in counts:
        ranges.append((first, first + count))
        first += count
    groups = model.attention_groups(prompt)
    return PromptLayout(
        positions=positions.track(prompt) if reduction is None else reduction.track,
        groups=groups,
        atomic=_atomic(groups),
        visual_before=tuple(before),
        visual_ranges=tuple(ranges),
        media_keys=tuple(
            media_key(item, settings, name) for item, name in zip(prompt.media, names, strict=True)
        ),
        media_bytes=tuple(feature_bytes(model, count) for count in counts),
        reduction=reduction,
    )


def _atomic(groups: torch.Tensor | None) -> tuple[tuple[int, int], ...]:
    """The range from first to last token of every group; ranges that overlap are one."""
    if groups is None:
        return ()
    extents: dict[int, tuple[int, int]] = {}
    for index, group in enumerate(groups.tolist()):
        if group >= 0:
            extents[group] = (extents.get(group, (index, 0))[0], index + 1)
    joined: list[tuple[int, int]] = []
    for first, last in sorted(extents.values()):
        if joined and first < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def feature_bytes(model: VisionLanguageModel, tokens: int) -> int:
    """Memory of an image's features before it is encoded, deepstack levels included."""
    levels = len(
        getattr(getattr(model.config, "vision_config", None), "deepstack_visual_indexes", None) or ()
    )
    return tokens * int(model.text_config.hidden_size) * (1 + levels) * model.dtype.itemsize


def processing_settings(model: VisionLanguageModel) -> str:
    """A digest of everything beside the picture that its features depend on."""
    processor = getattr(model, "image_processor", None)
    settings: Mapping[str, Any] = {} if processor is None else processor.to_dict()
    videos: Mapping[str, Any] = getattr(model, "video_settings", {})
    parts = [model.ref, model.family, str(model.dtype), *(f"{k}={settings[k]!r}" for k in sorted(settings))]
    parts += [f"video {k}={videos[k]!r}" for k in sorted(videos)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def media_key(item: PreparedMedia, settings: str, reducer: str = "") -> str:
    """The name of an image's features: content, processing, grid (how it was tiled) and reducer."""
    digest = item.digest
    if not digest:  # media prepared by hand: its pixels are its content
        content = hashlib.sha256()
        for name in sorted(item.tensors):
            tensor = item.tensors[name].contiguous()
            content.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            content.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
        digest = content.hexdigest()
    # The same picture is tiled differently alone and among others (LLaVA-OneVision), and the same frames can be looked
    # at at other times: the grid tells them apart.
    parts = (digest, settings, repr(item.grid), str(item.width), str(item.height), reducer)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
