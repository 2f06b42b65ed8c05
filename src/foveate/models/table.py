"""The families table of docs/models.md, made from the registry and the committed parity figures.

`python docs/generate.py` puts it there; a test checks that it is in step.
Knows no torch: figures come from the file that the parity tests wrote, never from a run here.
"""

from __future__ import annotations

from typing import Any

from foveate.errors import ModelError
from foveate.models.registry import AS_VIDEO, FAMILIES

RESULTS = "results/parity.json"


def render(results: dict[str, Any]) -> str:
    """The table and the line that says where its figures come from.

    Args:
        results: results/parity.json as the parity tests wrote it.

    Raises:
        ModelError: a family of the registry has no figures.
    """
    lines = [
        "| family | `model_type` | paper | positions | salience | logits | several images "
        f"| videos | greedy ({results['greedy_tokens']} tokens) | salience row |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        figures = results["families"].get(family.name)
        if figures is None:
            raise ModelError(f"{RESULTS} has no figures for {family.name}", fix=f"Run: {results['command']}")
        read = family.videos == AS_VIDEO
        videos = f"{figures['video_difference']:.1e}" if read else family.videos
        types = ", ".join(f"`{name}`" for name in family.model_types)
        lines.append(
            f"| {family.name} | {types} | {family.paper} | {family.positions} | {family.salience} "
            f"| {figures['logit_difference']:.1e} | {figures['multi_image_difference']:.1e} "
            f"| {videos} | {'identical' if figures['greedy_mismatches'] == 0 else 'DIFFERENT'} "
            f"| {figures['salience_difference']:.1e} |"
        )
    source = (
        f"Largest absolute differences from plain transformers {results['transformers']} (torch "
        f"{results['torch']}, {results['dtype']}, CPU) on randomly initialised tiny checkpoints; the bound is "
        f"{results['tolerance']:.0e}. Measured by `{results['command']}`."
    )
    return "\n".join([*lines, "", source])
