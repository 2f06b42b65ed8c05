"""What a finished head gives: tokens a pass of the target, counted by the engine itself on held-out prompts.

Owns the shapes of drafts and temperatures that are tried, and evaluation.json. Counts are of passes, not seconds, so no
guess is left out because it would not pay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from foveate.decode.heads.draft import HeadDraft
from foveate.decode.heads.model import DraftHead
from foveate.decode.settings import SpeculationSettings
from foveate.engine import Engine, EngineConfig, SamplingParameters
from foveate.train.draft.accepted import Accepted
from foveate.train.draft.prompts import DraftPrompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

# Depth and guesses: a chain, as a head drafts unless more is allowed, and a tree of EAGLE-2's kind for a small model.
SHAPES = {"chain of 5": (5, 5), "tree of 24, 6 deep": (6, 24)}
TEMPERATURES = (0.0, 1.0)
_AT_ONCE = 16


def evaluate_head(
    model: VisionLanguageModel, head: DraftHead, prompts: Sequence[DraftPrompt], *, reply_tokens: int = 96
) -> dict[str, Any]:
    """Accepted length by shape, temperature and kind of prompt.

    Args:
        head: as `load_head` gives it.
    """
    rows = []
    for shape, (depth, nodes) in SHAPES.items():
        for temperature in TEMPERATURES:
            by_kind = _count(model, head, prompts, depth, nodes, temperature, reply_tokens)
            everything = sum(by_kind.values(), Accepted())
            for kind, found in [*sorted(by_kind.items()), ("all", everything)]:
                rows.append(
                    {
                        "draft": shape,
                        "temperature": temperature,
                        "kind": kind,
                        "prompts": len(prompts)
                        if kind == "all"
                        else sum(one.kind == kind for one in prompts),
                        "tokens": found.tokens,
                        "passes": found.passes,
                        "accepted_length": round(found.length, 3),
                    }
                )
    return {"dtype": str(model.dtype).removeprefix("torch."), "rows": rows}


def _count(
    model: VisionLanguageModel,
    head: DraftHead,
    prompts: Sequence[DraftPrompt],
    depth: int,
    nodes: int,
    temperature: float,
    reply_tokens: int,
) -> dict[str, Accepted]:
    speculation = SpeculationSettings(adaptive=False, depth=depth, nodes=nodes)
    config = EngineConfig(
        max_sequences=_AT_ONCE,
        max_step_tokens=2048,
        prefix_caching=False,
        pack_weights=False,
        memory_bytes=2**30 if model.device.type == "cpu" else None,
        speculation=speculation,
    )
    draft = HeadDraft(head, model, least_node=0.0, least_layer=0.0)
    engine = Engine(model, config, draft=draft)
    counts: dict[str, Accepted] = {}
    for first in range(0, len(prompts), _AT_ONCE):
        chunk = prompts[first : first + _AT_ONCE]
        names = [
            engine.add_request(
                one.messages,
                SamplingParameters(max_tokens=reply_tokens, temperature=temperature, seed=one.seed),
                images=one.images,
            )
            for one in chunk
        ]
        answers = engine.run_to_completion()
        for one, name in zip(chunk, names, strict=True):
            statistics = engine.request_statistics(name)
            assert statistics is not None, "it ended a moment ago"
            given = Accepted(tokens=len(answers[name][0].token_ids) - 1, passes=statistics.decode_passes)
            counts[one.kind] = counts.get(one.kind, Accepted()) + given
    return counts
