"""`foveate ls`: models known here, and the families that can be loaded.

Owns the two tables. Reads folders through `inventory`; imports no torch and opens no connection.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from foveate.cli.arguments import PACKAGED_MODELS
from foveate.cli.failures import as_dict
from foveate.cli.inventory import cache_folder, cached_models, embedded_folder, embedded_model
from foveate.cli.terminal import count, mebibytes, note, table
from foveate.models.registry import supported_families


def command(
    families: Annotated[
        bool, typer.Option("--families", help="The model families that can be loaded.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List the models known here: the embedded one and those in the Hugging Face cache."""
    if families:
        _families(as_json)
    else:
        _models(as_json)


def _families(as_json: bool) -> None:
    infos = supported_families()
    if as_json:
        print(as_dict({"families": [asdict(info) for info in infos]}))
        return
    rows = [
        (info.name, ", ".join(info.model_types), info.salience, info.positions, info.licence, info.paper)
        for info in infos
    ]
    print(table(("family", "model_type", "salience", "positions", "code licence", "paper"), rows))


def _models(as_json: bool) -> None:
    embedded = [model for name in PACKAGED_MODELS if (model := embedded_model(name))]
    cached = cached_models()
    known = [*embedded, *(model for model in cached if model.family)]
    others = [model for model in cached if not model.family]
    if as_json:
        document = {
            "models": [model.as_object() for model in known],
            "unsupported": [model.as_object() for model in others],
            "cache": str(cache_folder()),
        }
        print(as_dict(document))
        return
    rows = [
        (model.ref, model.family or "", model.origin, mebibytes(model.bytes), model.digest[:12])
        for model in known
    ]
    if rows:
        print(table(("model", "family", "from", "size", "digest"), rows))
    if not embedded:
        note(f"fovea-nano is not in this installation: no weights in {embedded_folder()}")
    if others:
        types = ", ".join(sorted({model.model_type for model in others}))
        note(f"{count(len(others), 'model')} more in the cache cannot be loaded: {types}")
    note(f"Hugging Face cache: {cache_folder()}")
