"""Linear layers whose weights lie in the order the processor multiplies them fastest.

Owns the swap of `nn.Linear` for a packed twin, and of activations that can join it. oneDNN, which torch
multiplies bfloat16 with on a CPU, reorders a plain weight on every call; packed once, a decoding step of a
135 M parameter model takes about a quarter less (docs/log.md). Sums may be taken in another order, so that a
product can differ in its last bit. float32 keeps its plain weights: packed ones are slower for a single row.
Knows no engine and no quantisation.
"""

from __future__ import annotations

import torch
from torch import nn

# (linear layer, what is applied to its output) in transformers' feed-forward blocks, and the activations oneDNN
# can apply before it rounds and stores the product: one pass over it less, and a rounding less.
_FEED_FORWARD = (("fc1", "activation_fn"), ("gate_proj", "act_fn"))
_FUSABLE = {
    "GELUTanh": ("gelu", "tanh"),
    "GELUActivation": ("gelu", "none"),
    "SiLUActivation": ("swish", ""),
    "SiLU": ("swish", ""),
}
ROWS = 32  # the number of rows the packed order is chosen for; measured from 1 to 256, it hardly matters


class PackedLinear(nn.Module):
    """x W^T + b for inference; the weight exists in its packed order only.

    Args:
        linear: a bfloat16 layer on the CPU; it is not changed.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.bias = linear.bias
        self._activation = ("none", "")

    def fuse(self, activation: nn.Module) -> bool:
        """Applies an activation to every product from now on; False, and nothing done, if oneDNN has it not."""
        found = _FUSABLE.get(type(activation).__name__)
        if found is None:
            return False
        self._activation = found
        return True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features]."""
        name, algorithm = self._activation
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self.bias, name, [], algorithm)

    def extra_repr(self) -> str:
        """As `nn.Linear` prints itself."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


def packing_pays(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this machine multiplies packed weights of the dtype, and faster."""
    return (
        device.type == "cpu"
        and dtype == torch.bfloat16
        and torch.backends.mkldnn.is_available()
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def pack_linears(module: nn.Module) -> int:
    """Swaps every plain linear layer below `module` for its packed twin; how many were swapped.

    Layers of other types, subclasses included, are left alone. The originals are freed unless somebody else
    holds their weights (an output head tied to the embeddings).
    """
    packed = 0
    for name, child in module.named_children():
        if type(child) is nn.Linear and child.weight.dtype == torch.bfloat16:
            setattr(module, name, PackedLinear(child))
            packed += 1
        else:
            packed += pack_linears(child)
    _fuse_activation(module)
    return packed


def _fuse_activation(module: nn.Module) -> None:
    """Moves the activation of a feed-forward block into the packed layer before it."""
    for linear_name, activation_name in _FEED_FORWARD:
        linear = getattr(module, linear_name, None)
        activation = getattr(module, activation_name, None)
        if isinstance(linear, PackedLinear) and activation is not None and linear.fuse(activation):
            setattr(module, activation_name, nn.Identity())
