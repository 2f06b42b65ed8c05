"""Products of a few rows with int8 weights on a CPU, through a compiled kernel of our own.

Owns the call of `int8.c`. torch's kernel for this reads memory at half the speed of a plain float32 product; ours
asks for weights ahead of their turn (benchmarks/quantisation.py measures both). It also takes activations as
float32, without a rounding on the way in and one on the way out.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import torch

from foveate.models.parts.compiler import CompilerError, compile_kernel

_log = logging.getLogger(__name__)
_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS: list[Any] = [_POINTER] * 3 + [_INTEGER] * 3 + [_POINTER, ctypes.c_int]


@functools.cache
def _kernel() -> ctypes._NamedFuncPointer | None:
    """The compiled function; None, and a line in the log, where there is no compiler."""
    try:
        function = compile_kernel(Path(__file__).with_name("int8.c")).int8_product
    except CompilerError as error:
        _log.info("int8 products run on torch: %s", error)
        return None
    function.argtypes, function.restype = _ARGUMENTS, None
    return function


def available() -> bool:
    """Whether the kernel is there; the first call compiles it."""
    return _kernel() is not None


def int8_product(rows: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """rows (codes * scale)^T, summed in float32; all on the CPU, `available()` being true.

    Args:
        rows: [rows, in] float32 or bfloat16.
        codes: [out, in] int8, contiguous.
        scale: [out] float32, contiguous.

    Returns:
        [rows, out] float32.
    """
    kernel = _kernel()
    assert kernel is not None, "ask available() first"
    rows = rows.float().contiguous()
    count, inside, outside = rows.shape[0], rows.shape[1], codes.shape[0]
    product = torch.empty(count, outside)
    kernel(
        rows.data_ptr(),
        codes.data_ptr(),
        scale.data_ptr(),
        count,
        inside,
        outside,
        product.data_ptr(),
        torch.get_num_threads(),
    )
    return product
