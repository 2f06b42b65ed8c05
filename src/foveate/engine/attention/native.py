"""Decoding on a CPU by a kernel of our own that reads keys and values where they lie.

Owns the call of `native.c`, which is compiled when first wanted. In torch operators the same means gathering every
sequence's cache into padded copies in every layer, which costs more than the attention itself
(benchmarks/attention.py). Prompts are attended as in `batched.py`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.engine.attention.batch import Call, PagedBatch
from foveate.engine.attention.batched import BatchedCpuBackend
from foveate.engine.cache import KeyValueBlocks
from foveate.models.parts.compiler import CompilerError, compile_kernel

MAX_WIDTH = 256  # as in native.c
MAX_SHARING = 16
_SOURCE = Path(__file__).with_name("native.c")
_DEFINES = {torch.float32: (), torch.bfloat16: ("BFLOAT16",)}
_POINTER, _INTEGER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS: list[Any] = (
    [_POINTER, _INTEGER, _INTEGER]
    + [_POINTER] * 5
    + [_INTEGER] * 5
    + [_FLOAT, _FLOAT, _POINTER, _POINTER, ctypes.c_int]
)


@dataclass(frozen=True, kw_only=True)
class _Decoding:
    """The decoding sequences of a batch: slots of all in one row, where each begins [B + 1], its row [B]."""

    slots: torch.Tensor
    bounds: torch.Tensor
    rows: torch.Tensor


class NativeCpuBackend(BatchedCpuBackend):
    """Decoding sequences through the compiled kernel, prompts through torch."""

    name = "cpu-native"
    purpose = "a compiled kernel reads the paged cache in place"
    where = "a CPU with a C compiler; float32, bfloat16; heads up to 256 wide"

    @classmethod
    def refusal(cls, memory: KeyValueBlocks) -> str | None:
        """It must be a CPU, a dtype and shapes the kernel knows, and a machine with a C compiler."""
        elsewhere = BatchedCpuBackend.refusal(memory)
        if elsewhere is not None:
            return elsewhere
        if memory.keys[0].dtype not in _DEFINES:
            return f"the kernel knows float32 and bfloat16, the cache is {memory.keys[0].dtype}"
        widest = max(tensor.shape[2] for tensor in (*memory.keys, *memory.values))
        if widest > MAX_WIDTH:
            return f"heads are {widest} wide, the kernel knows up to {MAX_WIDTH}"
        try:
            _kernel(memory.keys[0].dtype)
        except CompilerError as error:
            return str(error)
        return None

    def decode(self, batch: PagedBatch, call: Call, output: torch.Tensor) -> None:
        keys, values = batch.memory.keys[call.layer], batch.memory.values[call.layer]
        query = call.query[0].transpose(0, 1)  # [T, H, d]
        heads, key_heads = query.shape[1], keys.shape[1]
        if query.dtype != keys.dtype or heads > key_heads * MAX_SHARING:
            super().decode(batch, call, output)
            return
        decoding = self._decoding(batch, call.window)
        if decoding is None:
            return
        query = query if query.stride(2) == 1 else query.contiguous()
        sinks = None if call.sinks is None else call.sinks.float().contiguous()
        _kernel(keys.dtype)(
            query.data_ptr(),
            query.stride(0),
            query.stride(1),
            keys.data_ptr(),
            values.data_ptr(),
            decoding.slots.data_ptr(),
            decoding.bounds.data_ptr(),
            decoding.rows.data_ptr(),
            decoding.rows.shape[0],
            heads,
            key_heads,
            keys.shape[2],
            values.shape[2],
            call.scale,
            call.softcap or 0.0,
            None if sinks is None else sinks.data_ptr(),
            output.data_ptr(),
            torch.get_num_threads(),
        )

    def _decoding(self, batch: PagedBatch, window: int | None) -> _Decoding | None:
        """Shared by all layers of one window; None where nothing decodes."""
        key = ("decoding", window)
        if key not in batch.notes:
            batch.notes[key] = _collect(batch, window)
        found = batch.notes[key]
        assert found is None or isinstance(found, _Decoding)
        return found


def _collect(batch: PagedBatch, window: int | None) -> _Decoding | None:
    if not batch.decoding:
        return None
    seen = [one.slots if window is None else one.slots[-window:] for one in batch.decoding]
    lengths = torch.tensor([0] + [slots.shape[0] for slots in seen])
    return _Decoding(
        slots=torch.cat(seen),
        bounds=lengths.cumsum(0),
        rows=torch.tensor([one.offset for one in batch.decoding]),
    )


_kernels: dict[torch.dtype, ctypes._NamedFuncPointer] = {}


def _kernel(dtype: torch.dtype) -> ctypes._NamedFuncPointer:
    """The function for a dtype; compiled when first asked for.

    Raises:
        CompilerError: there is no compiler, or it failed.
    """
    if dtype not in _kernels:
        function = compile_kernel(_SOURCE, _DEFINES[dtype]).paged_decode
        function.argtypes, function.restype = _ARGUMENTS, None
        _kernels[dtype] = function
    return _kernels[dtype]
