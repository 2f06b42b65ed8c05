"""A checkpoint kept as the difference to another: the same model, and refused over any other base."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from foveate.cli.arguments import PACKAGED_MODELS
from foveate.errors import ModelError
from foveate.models import load
from foveate.models.checkpoint_files import EMBEDDED, PACKAGED, resolve
from foveate.models.overlay import CARD, WEIGHTS, write

NAME = "model.language_model.layers.2.mlp.up_proj.weight"


@pytest.fixture
def changed(tmp_path):
    """An overlay over the embedded model, and the tensor that it changes."""
    tensor = torch.randn(512, 256, generator=torch.Generator().manual_seed(0)).half()
    folder = write(tmp_path / "over", base=EMBEDDED, base_folder=resolve(None)[0], tensors={NAME: tensor})
    return folder, tensor


def test_only_what_the_overlay_names_differs_from_its_base(changed):
    folder, tensor = changed
    base, over = (dict(load(ref, dtype="float32").hf_model.named_parameters()) for ref in (None, folder))
    assert torch.equal(over[NAME], tensor.float()) and not torch.equal(base[NAME], over[NAME])
    assert all(torch.equal(base[name], over[name]) for name in base if name != NAME)
    assert load(folder).folder == folder


def test_another_base_and_other_tensors_are_refused(changed):
    folder, tensor = changed
    card = folder / CARD
    told = json.loads(card.read_text())
    card.write_text(json.dumps({**told, "base_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="other weights of fovea-nano"):
        load(folder)
    card.write_text('{"base": "fovea-nano"}')
    with pytest.raises(ModelError, match="is no overlay"):
        load(folder)
    card.write_text(json.dumps(told))
    for wrong in ({"model.nothing.weight": tensor}, {NAME: tensor[:8].contiguous()}):
        save_file(wrong, folder / WEIGHTS)
        with pytest.raises(ModelError, match="does not fit"):
            load(folder)
    (folder / WEIGHTS).write_bytes(b"cut")
    with pytest.raises(ModelError, match="corrupt"):
        load(folder)


def test_what_lies_over_the_embedded_model_opens_by_its_name():
    assert PACKAGED == PACKAGED_MODELS
    model = load(PACKAGED[1])
    assert model.ref == PACKAGED[1] and model.folder.name == PACKAGED[1]
    weights = load_file(model.folder / WEIGHTS)
    parameters = dict(model.hf_model.named_parameters())
    assert all(torch.equal(parameters[key], value.to(model.dtype)) for key, value in weights.items())
