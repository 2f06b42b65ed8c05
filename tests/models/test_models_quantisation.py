"""Quantised layers against their own dequantised weights, and quantised models against their own answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import foveate
from foveate.errors import ModelError
from foveate.models import load
from foveate.models.parts import int8_kernel
from foveate.models.quantisation import BLOCK, GROUP, Int4Linear, Int8Linear, weight_bytes

LAYERS = {"int8": Int8Linear, "int4": Int4Linear}
NANO = Path(foveate.__file__).parent / "assets" / "fovea-nano"


@pytest.mark.parametrize("scheme", LAYERS)
@pytest.mark.parametrize("shape", [(1, GROUP), (BLOCK - 1, 3 * GROUP), (130, 160), (2 * BLOCK, 96)])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 16, 17, 256, 257])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_kernel_multiplies_by_the_dequantised_weight(
    scheme: str, shape: tuple[int, int], rows: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(rows)
    linear = nn.Linear(shape[1], shape[0], bias=rows % 2 == 0).to(dtype)
    layer = LAYERS[scheme](linear)
    for x in (torch.randn(1, rows, shape[1]).to(dtype), torch.randn(shape[1], rows).to(dtype).T):
        bias = None if linear.bias is None else linear.bias.double()
        exact = F.linear(x.bfloat16().double(), layer.dequantised().double(), bias)
        got = layer(x)
        assert got.shape == exact.shape and got.dtype == dtype
        # Two roundings to bfloat16, of weights on the way to a plain product and of the product itself.
        assert (got.double() - exact).abs().max() <= 0.02 * exact.abs().max()
        assert (got.double() - exact).abs().mean() <= 0.004 * exact.abs().mean() + 1e-6


@pytest.mark.skipif(not int8_kernel.available(), reason="there is no C compiler here")
@given(
    rows=st.integers(1, 9), outside=st.integers(1, 70), inside=st.integers(1, 200), threads=st.integers(1, 2)
)
def test_the_compiled_kernel_is_a_float32_product(rows: int, outside: int, inside: int, threads: int) -> None:
    generator = torch.Generator().manual_seed(rows + 100 * outside)
    x = torch.randn(rows, inside, generator=generator)
    codes = torch.randint(-127, 128, (outside, inside), generator=generator, dtype=torch.int8)
    scale = torch.rand(outside, generator=generator) + 0.1
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = int8_kernel.int8_product(x, codes, scale)
    finally:
        torch.set_num_threads(before)
    exact = F.linear(x.double(), codes.double()) * scale.double()
    assert got.dtype == torch.float32
    # Rounding of as many sums as there are inputs, each at most as large as the sum of all sizes.
    bound = 1.2e-7 * inside * F.linear(x.abs().double(), codes.abs().double()) * scale.double()
    assert ((got.double() - exact).abs() <= bound + 1e-12).all()


@pytest.mark.skipif(not int8_kernel.available(), reason="there is no C compiler here")
def test_loading_a_kernel_does_not_change_the_process_s_arithmetic() -> None:
    """gcc's -ffast-math would: subnormal numbers became zero, in torch, numpy and everywhere else."""
    product = torch.tensor([5e-324], dtype=torch.float64).mul(1.0)
    assert product.view(torch.int64).item() == 1  # its bits: such a process finds zero equal to 5e-324


def test_without_a_compiler_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(96, 70), torch.randn(1, 96)
    ours = Int8Linear(linear)(x)
    monkeypatch.setattr(int8_kernel, "_kernel", lambda: None)
    torchs = Int8Linear(linear)(x)
    assert (ours - torchs).abs().max() <= 0.02 * ours.abs().max()


@pytest.mark.parametrize("scheme", LAYERS)
def test_the_dequantised_weight_is_within_half_a_step(scheme: str) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4 * GROUP, 100)
    linear.weight.data[7] = 0  # a row of nothing
    linear.weight.data[9, :GROUP] = 0.25  # a group without spread
    weight, back = linear.weight.detach(), LAYERS[scheme](linear).dequantised()
    if scheme == "int8":
        step = weight.abs().amax(1, keepdim=True) / 127
        # Half a step, and up to a quarter of one where rounding the scale down cut the largest weight.
        assert ((back - weight).abs() <= 0.76 * step + 1e-9).all()
        assert (back - weight).abs().mean() <= 0.3 * step.mean()
    else:
        grouped = weight.view(100, -1, GROUP)
        step = ((grouped.amax(2) - grouped.amin(2)) / 15)[:, :, None]
        # Scale and zero have 8 bits of mantissa themselves.
        allowed = 0.6 * step + 0.005 * grouped.abs().amax(2, keepdim=True) + 1e-6
        assert ((back.view_as(grouped) - grouped).abs() <= allowed).all()


def test_int4_codes_come_back_in_their_places() -> None:
    """Weights that are representable exactly: whole numbers -8..7 with scale 1 in every group."""
    linear = nn.Linear(2 * GROUP, 3 * BLOCK + 5, bias=False)
    generator = torch.Generator().manual_seed(3)
    whole = torch.randint(-8, 8, linear.weight.shape, generator=generator).float()
    whole.view(-1, GROUP)[:, 0], whole.view(-1, GROUP)[:, 1] = -8, 7
    linear.weight.data = whole
    assert torch.equal(Int4Linear(linear).dequantised(), whole)


@pytest.mark.parametrize("scheme", LAYERS)
def test_a_family_s_language_model_is_quantised_and_nothing_else(scheme: str, tmp_path: Path) -> None:
    folder = tiny.build_tiny("llava", tmp_path)
    plain, model = (load(folder, device="cpu", dtype="float32", quantise=q) for q in (None, scheme))
    inside = [m for m in model.language_model.modules() if isinstance(m, nn.Linear | Int8Linear | Int4Linear)]
    assert inside and not any(isinstance(module, nn.Linear) for module in inside)
    assert any(isinstance(module, nn.Linear) for module in model.hf_model.model.vision_tower.modules())
    assert model.quantisation is not None and sum(model.quantisation.layers.values()) == len(inside) + 1
    assert model.quantisation.bytes_before == weight_bytes(plain.hf_model)
    assert model.quantisation.bytes_after == weight_bytes(model.hf_model) < 0.9 * weight_bytes(plain.hf_model)
    assert scheme in model.describe()["quantisation"]
    assert model.describe()["parameters"] == plain.describe()["parameters"]


@pytest.mark.parametrize(("scheme", "share"), [("int8", 0.02), ("int4", 0.25)])
def test_logits_stay_near(scheme: str, share: float) -> None:
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "how many?"}]}]
    models = [load(NANO, device="cpu", dtype="float32", quantise=q) for q in (None, scheme)]
    logits = [model.logits(model.prepare(messages, images=[tiny.picture(90, 90, 1)])) for model in models]
    assert (logits[1] - logits[0]).norm() <= share * logits[0].norm()


@pytest.mark.parametrize("scheme", LAYERS)
def test_the_engine_answers_as_plain_decoding_does(scheme: str) -> None:
    from foveate.engine import Engine, EngineConfig, SamplingParameters

    model = load(NANO, device="cpu", dtype="float32", quantise=scheme)
    engine = Engine(model, EngineConfig(kv_blocks=200, max_sequences=4))
    assert f"layers in {scheme}" in engine.describe()
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "is there a star?"}]}
    ]
    for seed in range(3):
        picture = tiny.picture(80, 60, seed)
        [answer] = engine.generate(messages, SamplingParameters(max_tokens=8), images=[picture])
        plain = model.generate(model.prepare(messages, images=[picture]), max_new_tokens=8)
        assert answer.token_ids == [token.id for token in plain]


def test_an_unknown_scheme_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no quantisation 'int5'. Did you mean 'int[48]'"):
        load(tmp_path / "nothing-here", quantise="int5")
