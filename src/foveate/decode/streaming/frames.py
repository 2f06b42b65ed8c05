"""What a frame becomes: pixels, its visual tokens, and fewer of them where a budget asks for that.

Owns the opening of frames, what is counted of them, and their reduction; where a method acts behind the tower, a frame
is cut to the same number of tokens whatever it shows, so that the stream's bound is known before the first. Knows no
windows and no templates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from foveate.decode.streaming.settings import StreamError, StreamSettings
from foveate.media import open_image
from foveate.models.records import MediaFeatures, PreparedMedia, VisualGrid
from foveate.reduce.base import Reducer
from foveate.reduce.budget import Budget
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.registry import get_reducer

if TYPE_CHECKING:
    from foveate.media import ImageSource
    from foveate.models.base import VisionLanguageModel

# Families that tile lone pictures do not tile frames.
_AMONG_OTHERS = 2


@dataclass(kw_only=True)
class FrameCounts:
    """Every frame that was pushed is in one of these: nothing is lost without a number."""

    seen: int = 0
    used: int = 0
    # "rate": more than asked for; "late": time ran back; "refused": not a picture, or too large
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class SeenFrame:
    """One frame behind the tower: `features` of the tokens that are kept, and which those are."""

    media: PreparedMedia
    features: MediaFeatures
    keep: KeepMap


class FrameReader:
    """Frames for one stream.

    Args:
        width, height: of the largest frame in pixels.
        question: what is asked of every second; the budget "auto" goes by it.

    Attributes:
        grid: of the largest frame, before reduction.
        tokens: that it takes.

    Raises:
        StreamError: the method does not act between tower and language model.
        ReductionError: a budget or method that this model's frames cannot be cut to.
    """

    def __init__(
        self, model: VisionLanguageModel, settings: StreamSettings, *, width: int, height: int, question: str
    ) -> None:
        self._model, self._question = model, question
        self._budget = Budget.parse(settings.visual_budget)
        self._reducer = get_reducer(settings.reducer)
        if self._budget.kind != "full":
            _require_between(self._reducer)
            self._reducer.check(model)
        self.grid = self._grid(width, height)
        self.tokens = self._kept(self.grid)

    def _grid(self, width: int, height: int) -> VisualGrid:
        return self._model.visual_grid(width, height, images_in_prompt=_AMONG_OTHERS)

    def _kept(self, grid: VisualGrid) -> int:
        return self._reducer.plan(grid, self._budget, question=self._question).kept

    def prepared(self, source: ImageSource) -> PreparedMedia:
        """A frame ready for the tower.

        Raises:
            MediaError: it cannot be opened.
            StreamError: it becomes more tokens than the stream was opened for.
        """
        image = open_image(source)
        grid = self._grid(image.width, image.height)
        tokens = self._kept(grid)
        if tokens > self.tokens:
            raise StreamError(
                f"A frame of {image.width} x {image.height} pixels becomes {tokens} visual tokens",
                why=f"the bound was made for {self.tokens}",
                fix="Open the stream with the size of its largest frame.",
            )
        return PreparedMedia(
            tensors=self._model.process_pixels(image.pil(), images_in_prompt=_AMONG_OTHERS),
            grid=grid,
            width=image.width,
            height=image.height,
            digest=image.digest,
            source=image.source,
        )

    def seen(self, media: Sequence[PreparedMedia]) -> list[SeenFrame]:
        """Frames through the tower, cut to the budget."""
        plans = [self._reducer.plan(item.grid, self._budget, question=self._question) for item in media]
        wanted = not all(plan.is_full for plan in plans)
        encoded = self._model.encode(media, salience=self._reducer.request() if wanted else False)
        maps = self._reducer.select_batch(encoded, plans, questions=[self._question] * len(plans))
        return [
            SeenFrame(media=item, features=self._reducer.apply(features, keep), keep=keep)
            for item, features, keep in zip(media, encoded, maps, strict=True)
        ]


def _require_between(reducer: Reducer) -> None:
    if reducer.stage != "before the language model":
        raise StreamError(
            f"The method {reducer.name} cannot cut the frames of a stream",
            why=f"it acts on {reducer.stage}: here each frame is cut behind the tower, on its own",
            fix="Use average_pool or another method for stills (docs/reduction.md).",
        )


def shortened(token_ids: Sequence[int], image_token: int, keeps: Sequence[KeepMap]) -> list[int]:
    """Ids of a turn without the placeholders of tokens that are dropped from its frames, in order."""
    kept = iter(torch.cat([keep.mask().cpu() for keep in keeps]).tolist()) if keeps else iter(())
    short = [token for token in token_ids if token != image_token or next(kept)]
    assert next(kept, None) is None, "a frame has more tokens than its turn has places"
    return short


def places_only(frame: SeenFrame) -> KeepMap:
    """What positions need of a frame, without the memory of its pixels, features and scores."""
    return replace(frame.keep, scores=None, merge=None)
