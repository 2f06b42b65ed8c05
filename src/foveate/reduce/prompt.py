"""A prompt with fewer visual tokens, through the reference path: what evaluation runs and the engine is compared with.

Owns dropping placeholders, spans, and the steps in order: refuse, plan, encode or shrink, select, gather, place. Knows
no requests and no scheduling.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from foveate.errors import ReductionError
from foveate.models.generation import LanguageInputs, SamplingOptions, generate
from foveate.models.records import GeneratedToken, MediaFeatures, Prompt
from foveate.reduce.base import Reducer
from foveate.reduce.budget import Budget, Plan
from foveate.reduce.edges import edge_share
from foveate.reduce.keep_map import KeepMap
from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.planning import plan_inside
from foveate.reduce.language.records import Inside, LayerReport
from foveate.reduce.language.running import LanguageRun
from foveate.reduce.positions import reduced_positions
from foveate.reduce.shapes import middles, shape_for
from foveate.reduce.video.joining import frame_maps, join_frames, split_frames, video_grid

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


@dataclass(kw_only=True)
class ReducedPrompt:
    """A prompt whose images take fewer tokens.

    Attributes:
        prompt: token ids without the dropped placeholders, spans to match; media as the tower saw them.
        features: of each image, its kept tokens.
        positions: [1, T'] or [3, 1, T'].
        following: position of the first generated token.
        keep_maps: what was kept of each image, and why; one of all images where they are the frames of a video.
        inside: what a method that drops tokens between layers starts from; None for methods before them.
        layers: what it kept in each layer, known (and `keep_maps` filled) once the prompt has been read.
    """

    prompt: Prompt
    features: list[MediaFeatures]
    positions: torch.Tensor
    following: int
    keep_maps: list[KeepMap]
    inside: Inside | None = None
    layers: LayerReport | None = None

    def note(self, report: LayerReport) -> None:
        """Takes down what was kept between the layers: each image's last keep-map, and all of them in `layers`."""
        self.layers = report
        self.keep_maps = [maps[-1] for maps in report.keep_maps]

    @property
    def inputs(self) -> LanguageInputs:
        """What the language model is given."""
        return LanguageInputs(features=self.features, positions=self.positions, following=self.following)


@torch.inference_mode()
def reduce_prompt(
    model: VisionLanguageModel,
    prompt: Prompt,
    features: Sequence[MediaFeatures] | None,
    reducer: Reducer,
    budget: Budget | str | int,
    *,
    question: str | None = None,
) -> ReducedPrompt:
    """The prompt with each image or video cut to the budget; to a method over frames all images of a prompt without
    videos are one.

    Args:
        features: of the prompt's media, encoded with `salience=reducer.request()`; None encodes them here.
        budget: for each image on its own, or for the video.
        question: what is asked, for "auto" and methods that read it; the prompt's text where None is given.

    Raises:
        ReductionError: the model's tower cannot give what the method needs, or the budget does not fit an image,
            or images that are to be one video differ in size.
    """
    asked = prompt.text if question is None else question
    parsed = Budget.parse(budget)
    video = reducer.stage == "video" and bool(prompt.media) and parsed.kind != "full"
    video = video and not any(item.grid.is_video for item in prompt.media)  # which are videos already
    plans = _plans(model, prompt, reducer, parsed, asked, video=video)
    if not all(plan.is_full for plan in plans):
        reducer.check(model)
    if reducer.stage == "input":
        return _shrunk(model, prompt, reducer, plans)
    if features is None:
        features = model.encode(prompt.media, salience=reducer.request())
    if isinstance(reducer, LanguageReducer) and not all(plan.is_full for plan in plans):
        return _between_layers(model, prompt, features, reducer, plans, asked)
    items = [join_frames(features)] if video else features
    maps = reducer.select_batch(items, plans, questions=[asked] * len(plans))
    kept_tokens = _kept_tokens(model, prompt, maps)
    after = _without_dropped(prompt, kept_tokens)
    reduced = [reducer.apply(item, keep) for item, keep in zip(items, maps, strict=True)]
    by_image: Sequence[KeepMap] = maps
    if video:
        grids = [item.grid for item in prompt.media]
        by_image, reduced = frame_maps(maps[0], grids[0]), split_frames(reduced[0], maps[0], grids)
    m_rope = model.positions(prompt).ndim == 3
    mode = reducer.position_mode(m_rope=m_rope)
    if mode == "repack" and m_rope and any(item.grid.is_video for item in prompt.media):
        raise ReductionError(
            f"The method {reducer.name} is to close the gaps between visual tokens of a video",
            why=f"the positions of {model.family} have a time axis, whose seconds do not close up",
            fix="Leave positions at their default.",
        )
    positions, following = reduced_positions(model, prompt, after, kept_tokens, by_image, mode)
    return ReducedPrompt(
        prompt=after,
        features=reduced,
        positions=positions,
        following=following,
        keep_maps=maps,
    )


def _plans(
    model: VisionLanguageModel,
    prompt: Prompt,
    reducer: Reducer,
    budget: Budget,
    question: str,
    *,
    video: bool,
) -> list[Plan]:
    """A plan an image, or one for all where they are a video; "auto" then goes by the mean over its frames."""
    edges: list[float | None] = [None] * len(prompt.media)
    if budget.kind == "auto":
        edges = [edge_share(model.picture(item)) for item in prompt.media]
    grids = [item.grid for item in prompt.media]
    if video:
        found = [value for value in edges if value is not None]
        grids, edges = [video_grid(grids)], [sum(found) / len(found) if found else None]
    return [
        reducer.plan(grid, budget, question=question, edges=edge)
        for grid, edge in zip(grids, edges, strict=True)
    ]


def _kept_tokens(model: VisionLanguageModel, prompt: Prompt, maps: Sequence[KeepMap]) -> torch.Tensor:
    """[T'] indices of the prompt's tokens that stay: all text, and of each image what its map keeps."""
    visual = model.visual_mask(prompt.token_ids)
    kept = ~visual
    if maps:
        kept[visual.nonzero()[:, 0]] = torch.cat([keep.mask().cpu() for keep in maps])
    return kept.nonzero()[:, 0]


def _without_dropped(prompt: Prompt, kept_tokens: torch.Tensor) -> Prompt:
    """Token ids and spans of what stays."""
    length = len(prompt.token_ids)
    before = torch.zeros(length + 1, dtype=torch.long)
    before[kept_tokens + 1] = 1
    before = before.cumsum(0)
    return replace(
        prompt,
        token_ids=[prompt.token_ids[index] for index in kept_tokens.tolist()],
        spans=[(int(before[first]), int(before[last])) for first, last in prompt.spans],
    )


def shrink(
    model: VisionLanguageModel, prompt: Prompt, reducer: Reducer, plans: Sequence[Plan]
) -> tuple[Prompt, list[KeepMap]]:
    """The prompt with smaller pictures, for methods that act on the input, and what that keeps of each."""
    media, maps = [], []
    for item, plan in zip(prompt.media, plans, strict=True):
        if plan.is_full:
            media.append(item)
            maps.append(KeepMap.full(item.grid, method=reducer.cache_key(plan), asked=plan.asked))
            continue
        grid = item.grid
        rows, cols = shape_for(grid.rows, grid.cols, plan.ceiling // grid.frames)
        smaller = model.resized(item, rows, cols)
        assert smaller.grid.tokens == plan.kept, (
            f"{smaller.grid.tokens} tokens where {plan.kept} were planned"
        )
        media.append(smaller)
        frame = torch.tensor(middles(grid.rows, grid.cols, rows, cols))
        maps.append(
            KeepMap(
                grid=grid,
                kept=torch.cat([frame + index * grid.rows * grid.cols for index in range(grid.frames)]),
                asked=plan.asked,
                reason=plan.reason,
                method=reducer.cache_key(plan),
                stage=reducer.stage,
            )
        )
    after = _without_dropped(prompt, _kept_tokens(model, prompt, maps))
    return replace(after, media=media), maps


def _shrunk(
    model: VisionLanguageModel, prompt: Prompt, reducer: Reducer, plans: Sequence[Plan]
) -> ReducedPrompt:
    """Smaller pictures through the tower; positions are the model's own for them."""
    after, maps = shrink(model, prompt, reducer, plans)
    positions = model.positions(after)
    return ReducedPrompt(
        prompt=after,
        features=model.encode(after.media),
        positions=positions,
        following=int(positions.max()) + 1,
        keep_maps=maps,
    )


def _between_layers(
    model: VisionLanguageModel,
    prompt: Prompt,
    features: Sequence[MediaFeatures],
    reducer: LanguageReducer,
    plans: Sequence[Plan],
    question: str,
) -> ReducedPrompt:
    """The whole prompt, and what its run through the language model starts from."""
    positions = model.positions(prompt)
    kept = [torch.arange(item.grid.tokens) for item in features]
    m_rope = positions.ndim == 3
    return ReducedPrompt(
        prompt=prompt,
        features=list(features),
        positions=positions,
        following=int(positions.max()) + 1,
        keep_maps=[],
        inside=plan_inside(model, prompt, features, kept, reducer, plans, m_rope=m_rope, question=question),
    )


@torch.inference_mode()
def reduced_logits(model: VisionLanguageModel, reduced: ReducedPrompt) -> torch.Tensor:
    """[T', V]: the reduced prompt in one reference forward; T' tokens reach the last layer."""
    between = None if reduced.inside is None else LanguageRun(model, reduced.inside)
    run = between or model.run_language_model
    hidden = run(
        model.merge(reduced.prompt, reduced.features),
        reduced.positions,
        model.attention_state(reduced.prompt),
        **model.language_keywords(reduced.prompt, reduced.features),
    )
    if between is not None:
        reduced.note(between.report)
    return model.head(hidden)[0]


def generate_reduced(
    model: VisionLanguageModel, reduced: ReducedPrompt, options: SamplingOptions | None = None
) -> Iterator[GeneratedToken]:
    """Reference decoding from a reduced prompt; greedy where no options are given."""
    if reduced.inside is not None:
        return _generate_between_layers(model, reduced, reduced.inside, options or SamplingOptions())
    return generate(model, reduced.prompt, options or SamplingOptions(), reduced.inputs)


def _generate_between_layers(
    model: VisionLanguageModel, reduced: ReducedPrompt, inside: Inside, options: SamplingOptions
) -> Iterator[GeneratedToken]:
    run = LanguageRun(model, inside)
    for token in generate(model, reduced.prompt, options, replace(reduced.inputs, run=run)):
        reduced.note(run.report)
        yield token
