"""Attention of packed batches over the paged cache: one file a backend, chosen by device.

Owns the list of backends and the choice, with its reason in words. To add one: a file with a class that has
`name`, `purpose`, `where`, `refusal(memory)` and `attend(batch, call)`, and a line in BACKENDS; the comparison in
tests/engine/test_engine_attention.py then holds it to the reference.
"""

from __future__ import annotations

from foveate.engine.attention.batch import Backend, Call, PagedBatch, Segment
from foveate.engine.attention.batched import BatchedCpuBackend
from foveate.engine.attention.flex import FlexBackend
from foveate.engine.attention.native import NativeCpuBackend
from foveate.engine.attention.reference import ReferenceBackend
from foveate.engine.cache import KeyValueBlocks
from foveate.errors import FoveateError, nearest

__all__ = ["BACKENDS", "Backend", "Call", "PagedBatch", "Segment", "choose_backend"]

# In order of preference: the first that has nothing to say against a machine and a model is taken.
BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (NativeCpuBackend, BatchedCpuBackend, FlexBackend, ReferenceBackend)
}


def choose_backend(memory: KeyValueBlocks, wanted: str = "auto") -> tuple[Backend, str]:
    """The backend for a cache (its device, dtype and shapes), and the reason in words.

    Raises:
        FoveateError: a name that is no backend, or one that cannot serve this cache.
    """
    if wanted == "auto":
        refused: list[str] = []
        for name, backend in BACKENDS.items():
            refusal = backend.refusal(memory) or backend.only_on_request(memory)
            if refusal is None:
                return backend(), "; ".join([f"{name}: {backend.purpose}", *refused])
            refused.append(f"not {name}: {refusal}")
        raise AssertionError("the reference backend refuses nothing")
    if wanted not in BACKENDS:
        raise FoveateError(
            f"There is no attention backend {wanted!r}", fix=nearest(wanted, ["auto", *BACKENDS])
        )
    refusal = BACKENDS[wanted].refusal(memory)
    if refusal is not None:
        raise FoveateError(
            f"The attention backend {wanted!r} cannot be used here",
            why=refusal,
            fix="Leave the choice to auto.",
        )
    return BACKENDS[wanted](), f"{wanted}: asked for"
