"""Items put to fovea-nano as `foveate eval` puts them, in one variant, all of an arm in one batch.

Owns the asking alone; knows no margin and no claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from foveate.evaluate.contract import Item, Parameters, Picture, Reply
from foveate.evaluate.perturb.variant import BASELINE, Variant

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

_AT_ONCE = 32


def ask_items(
    model: VisionLanguageModel,
    items: Sequence[Item],
    parameters: Parameters,
    *,
    variant: Variant = BASELINE,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Reply]:
    """Greedy replies in the items' order; the question is asked as it stands, in fovea-nano's own style.

    Args:
        variant: a change of pixels; other changes are made before, in items and parameters.
        progress: told how many answers there are.
    """
    return asyncio.run(_ask_items(model, items, parameters, variant, progress))


async def _ask_items(
    model: VisionLanguageModel,
    items: Sequence[Item],
    parameters: Parameters,
    variant: Variant,
    progress: Callable[[int], None],
) -> list[Reply]:
    from foveate.evaluate.endpoints.engine import EngineModel
    from foveate.evaluate.styles import get_style

    style = get_style("nano")
    asked = EngineModel(model, concurrency=_AT_ONCE)
    room = asyncio.Semaphore(_AT_ONCE)
    done = 0

    async def one(item: Item) -> Reply:
        nonlocal done
        async with room:  # pictures are opened when their turn comes, not all at once
            messages = [
                {**message, "content": [_changed(part, variant) for part in message["content"]]}
                for message in style.apply(item)
            ]
            reply = await asked.complete(messages, parameters)
        done += 1
        progress(done)
        return reply

    try:
        return list(await asyncio.gather(*map(one, items)))
    finally:
        await asked.close()


def _changed(part: dict[str, object], variant: Variant) -> dict[str, object]:
    picture = part.get("image")
    return {**part, "image": variant.changed(picture)} if isinstance(picture, Picture) else part
