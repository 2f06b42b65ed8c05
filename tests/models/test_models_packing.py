"""Packed linear layers: as near to the exact products as plain ones, in every family, none left behind."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from foveate.models import load
from foveate.models.parts.packing import PackedLinear, pack_linears, packing_pays

pytestmark = pytest.mark.skipif(
    not packing_pays(torch.bfloat16, torch.device("cpu")), reason="no bfloat16 in this processor's oneDNN"
)


@pytest.mark.parametrize("rows", [1, 2, 7, 32, 33, 200])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 32), (49, 576)])
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_as_exact_as_plain_ones(rows: int, shape: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(rows)
    linear = nn.Linear(shape[1], shape[0], bias=bias).bfloat16()
    packed = PackedLinear(linear)
    exact = nn.Linear(shape[1], shape[0], bias=bias).double()
    exact.load_state_dict(linear.state_dict())
    for x in (torch.randn(1, rows, shape[1]).bfloat16(), torch.randn(shape[1], rows).bfloat16().T):
        with torch.inference_mode():
            truth = exact(x.double())
            plain_error, error = ((one(x) - truth).abs().max() for one in (linear, packed))
        assert error <= 1.01 * plain_error + 1e-9


@pytest.mark.parametrize("name", [*tiny.FAMILIES, *tiny.TEXT_FAMILIES])
def test_every_family_is_as_exact_packed(name: str, tmp_path: Path) -> None:
    model = load(tiny.build_tiny(name, tmp_path), dtype="bfloat16", device="cpu")
    pictures = [tiny.picture(*tiny.FAMILIES[name].sizes[0], 1)] if name in tiny.FAMILIES else []
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": "what is it"}]
    prompt = model.prepare(
        [{"role": "user", "content": content if pictures else "what is it"}], images=pictures
    )
    parameters, before = model.describe()["parameters"], model.logits(prompt)
    exact = load(tmp_path, dtype="float32", device="cpu").logits(prompt)
    plain = sum(type(module) is nn.Linear for module in model.hf_model.modules())
    assert pack_linears(model.hf_model) == plain > 10
    assert not any(type(module) is nn.Linear for module in model.hf_model.modules())
    error, plain_error = ((logits - exact).abs().mean() for logits in (model.logits(prompt), before))
    assert error <= 1.2 * plain_error  # rounding falls elsewhere, not farther
    assert model.describe()["parameters"] == parameters
    assert pack_linears(model.hf_model) == 0


def test_activations_join_the_layer_before_them() -> None:
    """transformers' blocks of both kinds, with every activation; one that oneDNN lacks stays where it is."""
    from transformers.activations import ACT2FN

    for kind, before, after in (("fc1", "activation_fn", "fc2"), ("gate_proj", "act_fn", "down_proj")):
        for name in ("gelu", "gelu_pytorch_tanh", "silu", "quick_gelu"):
            torch.manual_seed(1)
            block = nn.Module()
            block.add_module(kind, nn.Linear(48, 96).bfloat16())
            block.add_module(before, ACT2FN[name])
            block.add_module(after, nn.Linear(96, 48).bfloat16())

            def run(
                block: nn.Module, x: torch.Tensor, parts: tuple[str, ...] = (kind, before, after)
            ) -> torch.Tensor:
                for part in parts:
                    x = block.get_submodule(part)(x)
                return x

            x = torch.randn(9, 48).bfloat16()
            with torch.inference_mode():
                exact = run(copy.deepcopy(block).double(), x.double())
                plain = run(block, x)
                assert pack_linears(block) == 2
                error, plain_error = ((y - exact).abs().mean() for y in (run(block, x), plain))
            assert error <= 1.05 * plain_error
            assert isinstance(block.get_submodule(before), nn.Identity) == (name != "quick_gelu")


def test_float32_is_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    assert pack_linears(module) == 0 and type(module[0]) is nn.Linear
    assert not packing_pays(torch.float32, torch.device("cpu"))
    assert not packing_pays(torch.bfloat16, torch.device("cuda"))
