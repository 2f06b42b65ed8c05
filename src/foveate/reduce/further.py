"""A second method, inside the language model, on a prompt that another has cut before it: VScan's two stages, say.

Owns their composition. Knows no method.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from foveate.errors import ReductionError
from foveate.reduce.budget import Budget
from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.planning import plan_inside
from foveate.reduce.prompt import ReducedPrompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.base import Reducer


def reduce_further(
    model: VisionLanguageModel,
    reduced: ReducedPrompt,
    reducer: Reducer,
    budget: Budget | str | int,
    *,
    question: str | None = None,
) -> ReducedPrompt:
    """What `reduce_prompt` made, with fewer tokens from some layers on.

    Args:
        reduced: by a method before the language model.
        budget: for each image, of the tokens it had before any were dropped, at most as many as are left.

    Raises:
        ReductionError: the second method does not act inside the language model or the first one did, the model
            cannot serve it, or the budget cannot be met.
    """
    if not isinstance(reducer, LanguageReducer):
        raise ReductionError(
            f"The method {reducer.name} cannot go second",
            why="it acts before the language model",
            fix="Give it to reduce_prompt, and a method of the stage 'language' to reduce_further.",
        )
    if reduced.inside is not None or len(reduced.keep_maps) != len(reduced.features):
        raise ReductionError(
            f"The method {reducer.name} cannot follow the one before",
            why="that one cuts inside the language model itself, or over the frames of a video",
            fix="Use a method for stills before the language model first.",
        )
    reducer.check(model)
    asked = reduced.prompt.text if question is None else question
    plans = [reducer.plan(item.grid, budget, question=asked) for item in reduced.features]
    kept = [
        # A smaller picture has a grid of its own, and all of its tokens.
        torch.arange(item.grid.tokens) if len(item.features) == item.grid.tokens else keep.kept
        for item, keep in zip(reduced.features, reduced.keep_maps, strict=True)
    ]
    inside = plan_inside(
        model,
        reduced.prompt,
        reduced.features,
        kept,
        reducer,
        plans,
        m_rope=reduced.positions.ndim == 3,
        question=asked,
    )
    return replace(reduced, inside=inside, keep_maps=list(reduced.keep_maps))
