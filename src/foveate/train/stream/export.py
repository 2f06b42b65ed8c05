"""What comes out of a run: an ordinary checkpoint, and the difference to the one it began with.

Owns both folders' contents. The settings that the model was trained for lie beside the weights, where `foveate stream`
finds them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from foveate.decode.streaming.settings import StreamDefaults, StreamSettings
from foveate.models import overlay

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

_WEIGHTS = (".safetensors", ".safetensors.index.json")
_OF_THE_BASE = {"evaluation.json", "recipe.json", "README.md", overlay.CARD}


def write_model(
    model: VisionLanguageModel, stream: StreamSettings, recipe: Mapping[str, Any], folder: Path
) -> Path:
    """A folder that `transformers` and `foveate` both load; weights in float16, everything else the base's."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in model.folder.iterdir():
        if file.is_file() and not file.name.endswith(_WEIGHTS) and file.name not in _OF_THE_BASE:
            shutil.copyfile(file, folder / file.name)
    tied = set(getattr(model.hf_model, "_tied_weights_keys", None) or ())
    weights = {
        name: value.detach().cpu().to(torch.float16).contiguous()
        for name, value in model.hf_model.state_dict().items()
        if name not in tied
    }
    save_file(weights, folder / overlay.WEIGHTS, metadata={"format": "pt"})
    _write_cards(stream, recipe, folder)
    return folder


def write_overlay(
    model: VisionLanguageModel,
    trained: Mapping[str, torch.Tensor],
    stream: StreamSettings,
    recipe: Mapping[str, Any],
    folder: Path,
) -> Path:
    """The trained tensors alone, under the names that the whole model has for them."""
    names = {id(value): name for name, value in model.hf_model.named_parameters()}
    tensors = {names[id(value)]: value for value in trained.values()}
    overlay.write(folder, base=model.ref, base_folder=model.folder, tensors=tensors)
    _write_cards(stream, recipe, folder)
    return folder


def _write_cards(stream: StreamSettings, recipe: Mapping[str, Any], folder: Path) -> None:
    StreamDefaults(settings=stream, prompt="").write(folder)
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
