"""Where the pictures lie among the tokens that a head reads.

Owns the runs of visual tokens of a prompt and their grids. Knows no head.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.models.records import Prompt, VisualGrid


@dataclass(frozen=True, kw_only=True)
class VisualRun:
    """Visual tokens [start, stop) of one picture, one behind the other.

    Attributes:
        grid: (rows, columns) they are the raster of; None where they are none, or some are missing.
    """

    start: int
    stop: int
    grid: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class HeadLayout:
    """The tokens of one prompt and the answer so far, as a head reads them.

    Attributes:
        length: tokens.
        prompt: how many of them belong to the prompt; pictures are compressed, and the question is read, among these.
        runs: of visual tokens, ascending.
    """

    length: int
    prompt: int
    runs: tuple[VisualRun, ...] = ()

    def behind(self, start: int) -> HeadLayout:
        """Without the first `start` tokens; of a picture that is cut through its other tokens stay."""
        runs = []
        for run in self.runs:
            if run.stop > start:
                whole = run.start >= start
                runs.append(
                    VisualRun(
                        start=max(run.start - start, 0),
                        stop=run.stop - start,
                        grid=run.grid if whole else None,
                    )
                )
        return replace(self, length=self.length - start, prompt=max(self.prompt - start, 0), runs=tuple(runs))


def layout_of(prompt: Prompt, visual: Collection[int], *, length: int) -> HeadLayout:
    """The layout of a prompt that `length` - len(prompt.token_ids) answered tokens follow; `visual` are the ids that
    mark places of features (`VisionLanguageModel.visual_token_ids`).

    Pictures of a prompt are told apart by their spans; a picture that the prompt cuts into tiles with text between
    has a run for each.
    """
    tokens = prompt.token_ids
    cuts = {place for span in prompt.spans for place in span}
    runs: list[VisualRun] = []
    start: int | None = None
    for place in range(len(tokens) + 1):
        is_visual = place < len(tokens) and tokens[place] in visual
        if start is not None and (not is_visual or place in cuts):
            runs.append(VisualRun(start=start, stop=place, grid=_grid_of(prompt, start, place)))
            start = None
        if is_visual and start is None:
            start = place
    return HeadLayout(length=length, prompt=len(tokens), runs=tuple(runs))


def _grid_of(prompt: Prompt, start: int, stop: int) -> tuple[int, int] | None:
    for item, (first, last) in zip(prompt.media, prompt.spans, strict=False):
        if first <= start and stop <= last:
            return _raster(item.grid) if item.grid.tokens == stop - start else None
    return None


def _raster(grid: VisualGrid) -> tuple[int, int] | None:
    """Rows and columns of a picture without separators and tiles; frames of a video stand below each other."""
    rows, cols = grid.rows * grid.frames, grid.cols
    return (rows, cols) if not grid.regions and rows * cols == grid.tokens else None
