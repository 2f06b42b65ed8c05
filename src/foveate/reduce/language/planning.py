"""From a prompt and its budgets to what a run inside the language model starts from.

Owns where each image and the text behind it stand in the prompt, what of an image can be dropped, and the refusals
that need the model: depth, decoder, positions. Knows no layers' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from foveate.errors import ReductionError
from foveate.models.records import MediaFeatures, Prompt
from foveate.reduce.budget import Plan
from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.records import Inside, InsideImage
from foveate.reduce.layout import layout_of

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


def plan_inside(
    model: VisionLanguageModel,
    prompt: Prompt,
    features: Sequence[MediaFeatures],
    kept: Sequence[torch.Tensor],
    reducer: LanguageReducer,
    plans: Sequence[Plan],
    *,
    m_rope: bool,
    question: str = "",
) -> Inside:
    """Layers and counts for each image of a prompt.

    Args:
        prompt: with as many placeholders for each image as its features have rows.
        features: of the prompt's media, encoded with `salience=reducer.request()`.
        kept: [N'] for each image, ids in its grid of the tokens that are in the prompt.
        m_rope: whether the prompt's positions have three parts.

    Raises:
        ReductionError: the budget cannot be met at this depth, gaps cannot be closed under M-RoPE, or features came
            without what the method reads.
    """
    mode = reducer.position_mode(m_rope=m_rope)
    if mode == "repack" and m_rope:
        raise ReductionError(
            f"The method {reducer.name} is to close the gaps between visual tokens",
            why=f"the positions of {model.family} have three parts (M-RoPE), and no author says how they close up "
            "between layers",
            fix="Leave positions at their default.",
        )
    visual = model.visual_mask(prompt.token_ids).to(model.device)
    text = (~visual).nonzero()[:, 0]
    places = visual.nonzero()[:, 0].split([len(item.features) for item in features])
    layers = len(model.language_model.layers)
    images = []
    for item, own, stands, plan in zip(features, kept, places, plans, strict=True):
        if reducer.required.salience is not None and item.salience is None:
            raise ReductionError(
                "The features came without salience",
                why="the tower was not listened to, or another method has dropped some of them",
                fix="Encode with model.encode(media, salience=reducer.request()).",
            )
        behind = text[text > stands[-1]]
        images.append(
            InsideImage(
                grid=item.grid,
                ids=own.to(model.device),
                places=stands,
                droppable=torch.isin(own, layout_of(item.grid, own.device).content).to(model.device),
                text=behind if len(behind) else text,
                salience=item.salience,
                cuts=(),
                asked=plan.asked,
                reason=plan.reason,
                method=reducer.cache_key(plan, question=question),
            )
        )
    cut = tuple(_with_cuts(image, plan, reducer, layers) for image, plan in zip(images, plans, strict=True))
    return Inside(reducer=reducer, images=cut, mode=mode)


def _with_cuts(image: InsideImage, plan: Plan, reducer: LanguageReducer, layers: int) -> InsideImage:
    if plan.is_full:
        return image
    present, droppable = len(image.ids), int(image.droppable.sum())
    if plan.kept > droppable:
        raise ReductionError(
            f"The visual budget {plan.asked} is {plan.kept} tokens, more than are left of the image",
            why=f"the method before the language model kept {present} of {plan.total}",
            fix=f"Ask for at most {droppable}.",
        )
    cuts = reducer.cuts_for(present, droppable, plan.kept, layers)
    steps = ", ".join(f"{cut.kept} from layer {cut.layer} on" for cut in cuts)
    counted = "the mean over layers" if reducer.config.counting == "average" else "what is left at the end"
    reason = f"{plan.reason}, counted as {counted}: {steps} of {layers}"
    return replace(image, cuts=cuts, reason=reason)
