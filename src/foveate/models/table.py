"""The families table of docs/models.md, made from the registry and the committed parity figures.

`python -m foveate.models.table` rewrites the part between the markers; a test checks that it is in step.
Knows no torch: figures come from the file that the parity tests wrote, never from a run here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from foveate.errors import ModelError
from foveate.models.registry import FAMILIES

DOCUMENT = Path("docs/models.md")
RESULTS = Path("results/parity.json")
BEGIN, END = "<!-- families:begin -->", "<!-- families:end -->"


def render(results: dict[str, Any]) -> str:
    """The table and the line that says where its figures come from.

    Args:
        results: results/parity.json as the parity tests wrote it.

    Raises:
        ModelError: a family of the registry has no figures.
    """
    lines = [
        "| family | `model_type` | paper | positions | salience | logits | several images "
        f"| greedy ({results['greedy_tokens']} tokens) | salience row |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        figures = results["families"].get(family.name)
        if figures is None:
            raise ModelError(f"{RESULTS} has no figures for {family.name}", fix=f"Run: {results['command']}")
        types = ", ".join(f"`{name}`" for name in family.model_types)
        lines.append(
            f"| {family.name} | {types} | {family.paper} | {family.positions} | {family.salience} "
            f"| {figures['logit_difference']:.1e} | {figures['multi_image_difference']:.1e} "
            f"| {'identical' if figures['greedy_mismatches'] == 0 else 'DIFFERENT'} "
            f"| {figures['salience_difference']:.1e} |"
        )
    source = (
        f"Largest absolute differences from plain transformers {results['transformers']} (torch "
        f"{results['torch']}, {results['dtype']}, CPU) on randomly initialised tiny checkpoints; the bound is "
        f"{results['tolerance']:.0e}. Measured by `{results['command']}`."
    )
    return "\n".join([*lines, "", source])


def replace_between(text: str, table: str) -> str:
    """The document with the part between the markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ModelError(f"The document lacks {BEGIN} or {END}", fix="Put both markers where the table goes.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> int:
    """Rewrites the document in the current folder."""
    table = render(json.loads(RESULTS.read_text(encoding="utf-8")))
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
