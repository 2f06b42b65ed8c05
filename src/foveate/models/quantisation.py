"""Weight-only quantisation on load: int8 by output channel, int4 by groups of inputs.

Owns the two schemes, their layers, and which layers of a model become them: the linear layers of the language model
and its output head, which decoding reads whole for every token. Towers and projectors run over many rows and gain
nothing; embeddings and norms stay too. Knows no checkpoint files and no engine.

Products are summed in float32 whatever the model's dtype. torch's kernels take activations as bfloat16, so that
they are rounded on the way. Which kernel runs depends on the number of rows (benchmarks/quantisation.py):

- int8: our own compiled kernel up to 4 rows, where there is a C compiler; `_weight_int8pack_mm` up to 16 rows, for
  its time grows with the rows; above, the codes are widened to bfloat16, which is exact, for a plain product;
- int4: `_weight_int4pack_mm_for_cpu` up to 256 rows; above, the codes are unpacked and widened, which takes long.

Devices other than a CPU always widen.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from foveate.errors import ModelError, nearest
from foveate.models.parts import int8_kernel

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

INT8_COMPILED_ROWS = 4
INT8_FEW_ROWS = 16
INT4_FEW_ROWS = 256
GROUP = 32  # inputs that share a scale in int4, the smallest torch's kernel knows: accuracy before size
BLOCK = 64  # output rows the int4 kernel stores together
LEVELS = 15  # int4 codes are 0 to 15


class Int8Linear(nn.Module):
    """x W^T + b with W = codes * scale, one scale an output row, symmetric.

    Attributes:
        codes: [out, in] int8; scale: [out] float32, of values that bfloat16 holds, for torch's kernel takes that.
    """

    codes: torch.Tensor
    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        # Rounded to what is stored before the codes are chosen, so that codes make up for the rounding.
        scale = (weight.abs().amax(dim=1).clamp(min=1e-10) / 127).bfloat16().float()
        codes = (weight / scale[:, None]).round().clamp(-127, 127)
        self.register_buffer("codes", codes.to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out], in the dtype of x."""
        rows = x.reshape(-1, x.shape[-1])
        count = rows.shape[0] if x.device.type == "cpu" else INT8_FEW_ROWS + 1
        if count <= INT8_COMPILED_ROWS and int8_kernel.available():
            product = self.compiled(rows)
        elif count <= INT8_FEW_ROWS:
            product = self.narrow(rows)
        else:
            product = self.widened(rows)
        return _finish(product, self.bias, x)

    def compiled(self, rows: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out] float32: weights are read as they lie, by our kernel. On a CPU only."""
        return int8_kernel.int8_product(rows, self.codes, self.scale)

    def narrow(self, rows: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out] bfloat16: weights are read as they lie, by torch's. On a CPU only."""
        short = rows.to(torch.bfloat16).contiguous()
        return torch.ops.aten._weight_int8pack_mm(short, self.codes, self.scale.bfloat16())

    def widened(self, rows: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out] bfloat16: weights become bfloat16 first."""
        return F.linear(rows.to(torch.bfloat16), self.codes.to(torch.bfloat16)) * self.scale.bfloat16()

    def dequantised(self) -> torch.Tensor:
        """[out, in] float32: the weight this layer multiplies by."""
        return self.codes.float() * self.scale[:, None]


class Int4Linear(nn.Module):
    """x W^T + b with W = (code - 8) * scale + zero, scale and zero for each output row and group of inputs.

    Attributes:
        packed: [out', in / 2] uint8, two codes a byte in the order of torch's CPU kernel; out' is out rounded up to
            whole blocks.
        scale_and_zero: [in / GROUP, out', 2] bfloat16.
    """

    packed: torch.Tensor
    scale_and_zero: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        device = linear.weight.device
        weight = linear.weight.detach().float().cpu()
        self.out_features, self.in_features = weight.shape
        assert self.in_features % GROUP == 0, f"{self.in_features} inputs are no whole groups of {GROUP}"
        weight = F.pad(weight, (0, 0, 0, -self.out_features % BLOCK))
        grouped = weight.view(weight.shape[0], -1, GROUP)
        low, high = grouped.amin(dim=2), grouped.amax(dim=2)
        # Rounded to what is stored before the codes are chosen, so that codes make up for the rounding.
        scale = ((high - low) / LEVELS).clamp(min=1e-10).bfloat16()
        zero = (low + 8 * scale.float()).bfloat16()
        codes = (
            ((grouped - zero.float()[:, :, None]) / scale.float()[:, :, None] + 8).round().clamp(0, LEVELS)
        )
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.view(weight.shape).int(), 1)
        self.register_buffer("packed", packed.to(device))
        pairs = torch.stack([scale, zero], dim=2).transpose(0, 1).contiguous()
        self.register_buffer("scale_and_zero", pairs.to(device))
        self.bias = linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] to [..., out], in the dtype of x."""
        rows = x.reshape(-1, x.shape[-1]).to(torch.bfloat16)
        few = x.device.type == "cpu" and rows.shape[0] <= INT4_FEW_ROWS
        return _finish(self.narrow(rows) if few else self.widened(rows), self.bias, x)

    def narrow(self, rows: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out], both bfloat16: weights are read as they lie. On a CPU only."""
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows.contiguous(), self.packed, GROUP, self.scale_and_zero
        )
        return product[:, : self.out_features]

    def widened(self, rows: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out], both bfloat16: weights become bfloat16 first."""
        return F.linear(rows, self.dequantised().to(torch.bfloat16))

    def dequantised(self) -> torch.Tensor:
        """[out, in] float32: the weight this layer multiplies by."""
        nibbles = torch.stack([self.packed & 15, self.packed >> 4], dim=-1)
        order = _unpacking_order(self.in_features).to(self.packed.device)
        codes = nibbles.view(-1, BLOCK * self.in_features).index_select(1, order)
        grouped = codes.view(self.packed.shape[0], -1, GROUP).float()
        scale, zero = self.scale_and_zero.float().transpose(0, 1).unbind(2)
        weight = (grouped - 8) * scale[:, :, None] + zero[:, :, None]
        return weight.view(-1, self.in_features)[: self.out_features]


def _finish(product: torch.Tensor, bias: torch.Tensor | None, x: torch.Tensor) -> torch.Tensor:
    product = product.to(x.dtype)
    if bias is not None:
        product = product + bias
    return product.view(*x.shape[:-1], -1)


@functools.cache
def _unpacking_order(in_features: int) -> torch.Tensor:
    """Where each code of a block of BLOCK rows lies among its packed nibbles, [BLOCK * in].

    The kernel's order depends on the processor, so it is found by packing numbers that name their own place, one
    hexadecimal digit at a time.
    """
    place = torch.arange(BLOCK * in_features)
    found = torch.zeros_like(place)
    for digit in range(0, len(place).bit_length(), 4):
        codes = ((place >> digit) & 15).view(BLOCK, in_features).int()
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1).flatten()
        found += torch.stack([packed & 15, packed >> 4], dim=1).flatten().long() << digit
    return torch.empty_like(found).index_copy_(0, found, place)


@dataclass(frozen=True, kw_only=True)
class Quantisation:
    """What was done to a model: layers by scheme, and bytes of all its weights before and after."""

    scheme: str
    layers: dict[str, int]
    bytes_before: int
    bytes_after: int

    def text(self) -> str:
        """For start messages."""
        layers = ", ".join(f"{count} layers in {name}" for name, count in self.layers.items() if count)
        size = f"{self.bytes_before / 1e6:,.1f} MB before, {self.bytes_after / 1e6:,.1f} MB after"
        return f"{layers}; weights took {size}"


SCHEMES = ("int8", "int4")


def check_scheme(scheme: str) -> None:
    """Refuses a name that is no scheme.

    Raises:
        ModelError: with the nearest name.
    """
    if scheme not in SCHEMES:
        raise ModelError(f"There is no quantisation {scheme!r}", fix=nearest(scheme, SCHEMES))


def quantise(model: VisionLanguageModel, scheme: str) -> Quantisation:
    """Replaces the linear layers of the language model and its head, in place.

    In int4, layers whose inputs are no whole groups of 32 become int8; the record counts them.

    Raises:
        ModelError: an unknown scheme.
    """
    check_scheme(scheme)
    before = weight_bytes(model.hf_model)
    if model.device.type == "cpu":
        int8_kernel.available()  # compiled now: the first answer does not wait for it
    layers = dict.fromkeys(SCHEMES, 0)
    _replace(model.language_model, scheme, layers)
    head = getattr(model.hf_model, "lm_head", None)
    if type(head) is nn.Linear:
        model.hf_model.lm_head = _quantised(head, scheme, layers)
    return Quantisation(
        scheme=scheme, layers=layers, bytes_before=before, bytes_after=weight_bytes(model.hf_model)
    )


def _replace(module: nn.Module, scheme: str, layers: dict[str, int]) -> None:
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, _quantised(child, scheme, layers))
        else:
            _replace(child, scheme, layers)


def _quantised(linear: nn.Linear, scheme: str, layers: dict[str, int]) -> nn.Module:
    fits = linear.in_features % GROUP == 0
    layer = Int4Linear(linear) if scheme == "int4" and fits else Int8Linear(linear)
    layers["int4" if isinstance(layer, Int4Linear) else "int8"] += 1
    return layer


def weight_bytes(module: nn.Module) -> int:
    """Memory of all parameters and buffers, shared ones once."""
    tensors = {tensor.data_ptr(): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensors.values())
