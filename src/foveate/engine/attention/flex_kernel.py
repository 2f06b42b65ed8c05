"""What `flex_attention` is told about a paged cache, and its compilation.

Owns the mask and score rules and the kernel options. Knows no batches: it is given index tensors as `tiles.py`
makes them. FlexAttention is Dong et al. 2024 (arXiv 2412.05496).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, FlexKernelOptions, flex_attention


class PagedFlex(torch.nn.Module):
    """`flex_attention` of query tiles over the keys and values of one layer's whole cache.

    A module because the compiler takes a module's numbers for constants and its arguments' sizes for variables,
    which is what both are here.

    Args:
        window, softcap, scale: as in `Call`; `sinks`: whether the log-sum-exp is wanted.
        options: of the kernels (`kernel_options` of `flex_attention`).
    """

    def __init__(
        self,
        *,
        block_size: int,
        scale: float,
        window: int | None,
        softcap: float | None,
        sinks: bool,
        options: FlexKernelOptions,
    ) -> None:
        super().__init__()
        self.block_size, self.scale, self.window = block_size, scale, window
        self.softcap, self.sinks, self.options = softcap, sinks, options

    def forward(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        positions: torch.Tensor,
        sequences: torch.Tensor,
        counts: torch.Tensor,
        blocks: torch.Tensor,
        logical: torch.Tensor,
        groups: torch.Tensor | None,
        cuts: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """query [N, H, h, d]; keys, values [1, G, slots, d]; the rest as in `Tiles`.

        Returns:
            [N, H, h, d], and the log-sum-exp [N, H, h] of the scores where it is wanted.
        """
        size, window, softcap = self.block_size, self.window, self.softcap

        def may_see(tile: Any, head: Any, row: Any, slot: Any) -> torch.Tensor:
            sequence, position = sequences[tile], positions[tile, row]
            block = logical[sequence, slot // size]
            other = block * size + slot % size
            allowed = other <= position
            near = other > position - window if window is not None else None
            if near is not None:
                allowed = allowed & near
            if groups is not None:
                group = groups[sequence, position.clamp(min=0)]
                same = (group >= 0) & (group == groups[sequence, other.clamp(min=0)])
                if near is not None:
                    same = same & (near | ~cuts[sequence])
                allowed = allowed | same
            return allowed & (block >= 0) & (position >= 0)

        def capped(score: Any, tile: Any, head: Any, row: Any, slot: Any) -> torch.Tensor:
            assert softcap is not None
            return softcap * torch.tanh(score / softcap)

        mask = BlockMask.from_kv_blocks(
            counts,
            blocks,
            BLOCK_SIZE=(128, size),
            mask_mod=may_see,
            seq_lengths=(query.shape[2], keys.shape[2]),
            compute_q_blocks=False,  # of use to a backward pass
        )
        output, more = flex_attention(
            query,
            keys,
            values,
            score_mod=capped if softcap is not None else None,
            block_mask=mask,
            scale=self.scale,
            enable_gqa=query.shape[1] != keys.shape[1],
            kernel_options=self.options,
            return_aux=AuxRequest(lse=self.sinks),
        )
        return output, more.lse


@functools.cache
def paged_flex(
    *, height: int, sharing: int, block_size: int, compiled: bool, **settings: Any
) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    """One kind of layer's kernel for tiles of a height, `sharing` query heads to a key head."""
    options: FlexKernelOptions = {"BLOCK_N": min(block_size, 64)}
    splits = height == 1 and sharing & (sharing - 1) == 0  # torch's decoding kernel knows powers of two alone
    if splits:
        options["BACKEND"] = "TRITON_DECODE"
    else:
        options |= {"BACKEND": "TRITON", "BLOCK_M": max(height, 16)}
    if not compiled:
        return _uncompiled(PagedFlex(block_size=block_size, options={}, **settings))
    return compile_kernel(PagedFlex(block_size=block_size, options=options, **settings), fixed_tiles=splits)


def _uncompiled(module: PagedFlex) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    def run(*tensors: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
            return module(*tensors)

    return run


def compile_kernel(
    module: PagedFlex, *, fixed_tiles: bool, backend: str | Callable[..., Any] = "inductor"
) -> Callable[..., tuple[torch.Tensor, torch.Tensor | None]]:
    """The module compiled for tensors of any size, but for heads, widths and slots (and tiles where fixed)."""
    compiled = torch.compile(  # type: ignore[call-overload]  # its overloads lack the last two
        module, dynamic=True, fullgraph=True, backend=backend, recompile_limit=32, isolate_recompiles=True
    )

    def run(
        query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *rest: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        torch._dynamo.mark_static(query, [0, 1, 2, 3] if fixed_tiles else [1, 2, 3])
        for tensor in (keys, values):
            torch._dynamo.mark_static(tensor)
        return compiled(query, keys, values, *rest)

    return run
