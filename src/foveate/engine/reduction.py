"""A request with fewer visual tokens: what is known of it before its images are encoded, and what is filled in after.

Owns the plan of one request (how many tokens each image keeps, under which names its features are cached), the
prompt without the dropped placeholders, and the places in the position table that wait for the choice. Knows no
method and no scheduling: blocks are allocated for what is kept, because the prompt has no other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from foveate.engine.positions import PositionTrack
from foveate.engine.request import RequestError, RequestTooLongError
from foveate.reduce.budget import Budget, Plan
from foveate.reduce.edges import edge_share
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.layout import layout_of
from foveate.reduce.prompt import shrink
from foveate.reduce.registry import get_reducer, methods_for
from foveate.reduce.tiles import uniform_quotas

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt
    from foveate.reduce.base import Reducer

DEFAULT_METHOD = "fastervlm"  # scores with the row every tower has, and needs nothing else


@dataclass(frozen=True, kw_only=True)
class VisualBudget:
    """What a request asks for.

    Attributes:
        budget: full, auto, a number of tokens or a share ("25%") of each image.
        reducer: a method's name, or one made by `get_reducer`.
        question: what is asked, for auto and for methods that read it; the whole prompt where it is empty.
    """

    budget: Budget | str | int = "full"
    reducer: Reducer | str = DEFAULT_METHOD
    question: str = ""


@dataclass(kw_only=True)
class Reduction:
    """One request's images after planning.

    Attributes:
        image_tokens: visual tokens of all images before any is dropped.
        plans, names: of each image; names tell reducer, settings and count apart in every cache.
        track: positions of the prompt without dropped placeholders; where tokens keep their places, those of an
            image are filled in by `place` once it is known which they are.
        known_maps: what is kept of each image where that is known before encoding, else None.
    """

    reducer: Reducer
    image_tokens: int
    plans: tuple[Plan, ...]
    names: tuple[str, ...]
    question: str
    track: PositionTrack
    known_maps: tuple[KeepMap | None, ...]
    _rows: tuple[torch.Tensor, ...] = ()  # per image: places of its kept tokens in the track
    _full: tuple[torch.Tensor, ...] = ()  # per image: [R, N] positions of all its tokens

    def place(self, index: int, keep: KeepMap) -> None:
        """Fills in the positions of image `index`; again is harmless."""
        if self._rows:
            self.track.table[:, self._rows[index]] = self._full[index][:, keep.kept.cpu()]


def plan_reduction(
    model: VisionLanguageModel, prompt: Prompt, asked: VisualBudget
) -> tuple[Prompt, Reduction | None]:
    """The prompt as the language model will see it, and the plan; None where nothing is dropped.

    Raises:
        ReductionError: no such method or budget, or the tower cannot give what the method needs.
        RequestError: a choice that is known too late for a serving path.
    """
    reducer = get_reducer(asked.reducer) if isinstance(asked.reducer, str) else asked.reducer
    budget, question = Budget.parse(asked.budget), asked.question or prompt.text
    if (
        reducer.stage == "video"
        and budget.kind != "full"
        and not any(one.grid.is_video for one in prompt.media)
    ):
        raise RequestError(
            f"The method {reducer.name} chooses among the frames of a video together",
            why="a request's images are planned and cached each on its own, and none of them is a video",
            fix="Use a method for stills such as fastervlm here, or foveate.reduce.reduce_prompt for this one.",
        )
    plans = []
    for item in prompt.media:
        edges = edge_share(model.picture(item)) if budget.kind == "auto" else None
        plans.append(reducer.plan(item.grid, budget, question=question, edges=edges))
    if all(plan.is_full for plan in plans):
        return prompt, None
    if reducer.stage == "language":
        near = methods_for(model.salience_kind, model.resizes, near=reducer.name)
        raise RequestError(
            f"The method {reducer.name} drops tokens between the layers of the language model",
            why="a request's blocks hold the same tokens in every layer, and are counted before its images are read",
            fix=f"Use {near[0]} here, or foveate.reduce.reduce_prompt for this one.",
        )
    reducer.check(model)
    if reducer.stage == "input":
        smaller, maps = shrink(model, prompt, reducer, plans)
        # The smaller pictures are encoded whole, under the names their own grids give them.
        return smaller, _already_small(model, smaller, reducer, maps)
    kept = _kept_placeholders(model, prompt, reducer, plans)
    after, before_index = _without_dropped(model, prompt, kept)
    table = model.positions(prompt)
    mode = reducer.position_mode(m_rope=table.ndim == 3)
    if mode == "repack" and table.ndim == 3:
        raise RequestError(
            f"The method {reducer.name} is to close the gaps between visual tokens",
            why=f"with the positions of {model.family} (M-RoPE) that depends on which tokens stay, "
            "and a request's positions are planned before its images are encoded",
            fix="Leave positions at their default.",
        )
    names = tuple(reducer.cache_key(plan, question=question) for plan in plans)
    full = _track(table)
    reduction = Reduction(
        reducer=reducer,
        image_tokens=sum(plan.total for plan in plans),
        plans=tuple(plans),
        names=tuple(f"{name}, positions {mode}" for name in names),
        question=question,
        track=_track(model.positions(after)) if mode == "repack" else full,
        known_maps=(None,) * len(plans),
    )
    if mode == "repack":
        return after, reduction
    if int(table.max()) >= model.context_length:
        raise RequestTooLongError(
            f"The prompt's positions reach {int(table.max()) + 1}, for dropped tokens keep their places",
            why=f"the context of {model.ref} is {model.context_length} tokens",
            fix='Close the gaps (positions="repack"), or use fewer or smaller images.',
        )
    reduction.track = PositionTrack(table=full.table[:, before_index].clone(), following=full.following)
    visual = model.visual_mask(prompt.token_ids)
    stays = model.visual_mask(after.token_ids)
    totals, counts = [plan.total for plan in plans], [plan.kept for plan in plans]
    reduction._rows = tuple(stays.nonzero()[:, 0].split(counts))
    reduction._full = tuple(full.table[:, places] for places in visual.nonzero()[:, 0].split(totals))
    return after, reduction


def _already_small(
    model: VisionLanguageModel, prompt: Prompt, reducer: Reducer, maps: Sequence[KeepMap]
) -> Reduction:
    """The record of pictures that were made smaller: nothing is left to choose."""
    tokens = [item.grid.tokens for item in prompt.media]
    return Reduction(
        reducer=reducer,
        image_tokens=sum(keep.total for keep in maps),
        plans=tuple(Plan(kept=count, ceiling=count, total=count, asked="full") for count in tokens),
        names=("",) * len(tokens),
        question="",
        track=_track(model.positions(prompt)),
        known_maps=tuple(maps),
    )


def _track(table: torch.Tensor) -> PositionTrack:
    table = table[:, 0] if table.ndim == 3 else table
    return PositionTrack(table=table.cpu(), following=int(table.max()) + 1)


def _kept_placeholders(
    model: VisionLanguageModel, prompt: Prompt, reducer: Reducer, plans: Sequence[Plan]
) -> list[torch.Tensor]:
    """Per image, [N] booleans: as many placeholders as tokens will be kept, each run of them as many as its tile.

    Placeholders are alike, so which of a run stay does not matter; text between runs parts them.
    """
    visual = model.visual_mask(prompt.token_ids)
    places = visual.nonzero()[:, 0].split([plan.total for plan in plans])
    kept = []
    for item, plan, own in zip(prompt.media, plans, places, strict=True):
        mask = torch.zeros(plan.total, dtype=torch.bool)
        cuts = (own.diff() != 1).nonzero()[:, 0] + 1
        if plan.is_full:
            mask[:] = True
        elif not len(cuts):
            mask[: plan.kept] = True
        else:
            layout = layout_of(item.grid)
            if reducer.tile_rule != "uniform" or len(layout.tiles) != len(cuts) + 1:
                raise RequestError(
                    f"The method {reducer.name} shares the tokens of an image among its tiles by what they show",
                    why=f"{model.family} writes text between tiles, and a request's tokens are counted before "
                    "its images are encoded",
                    fix='Ask for equal shares: get_reducer(name, tiles="uniform").',
                )
            quotas = uniform_quotas(tuple(tile.tokens for tile in layout.tiles), plan.ceiling)
            starts = [0, *cuts.tolist()]
            for start, tile, quota in zip(starts, layout.tiles, quotas, strict=True):
                mask[start : start + (reducer.fit(tile.rows, tile.cols, quota) if quota else 0)] = True
        kept.append(mask)
    return kept


def _without_dropped(
    model: VisionLanguageModel, prompt: Prompt, kept: Sequence[torch.Tensor]
) -> tuple[Prompt, torch.Tensor]:
    """(the prompt that stays, [T'] indices of its tokens in the whole one)."""
    ids = torch.tensor(prompt.token_ids)
    stays = ~model.visual_mask(prompt.token_ids)
    stays[(~stays).nonzero()[:, 0]] = torch.cat(list(kept))
    before = torch.cat([torch.zeros(1, dtype=torch.long), stays.long().cumsum(0)])
    spans = [(int(before[first]), int(before[last])) for first, last in prompt.spans]
    return replace(prompt, token_ids=ids[stays].tolist(), spans=spans), stays.nonzero()[:, 0]
