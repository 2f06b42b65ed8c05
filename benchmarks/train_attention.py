"""Forward and backward time of the training attention against torch's fused kernel, in turn, on one thread.

Run: python benchmarks/train_attention.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import machine
from foveate.train.nano.attention import attend

ROUNDS = 15


def seconds(function: Callable[[], Tensor], gradient: Tensor) -> float:
    started = time.perf_counter()
    function().backward(gradient)
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name, batch, length, total in (("tower", 32, 145, 145), ("text over picture", 32, 142, 288)):
        query = torch.randn(batch, 4, length, 64, dtype=torch.bfloat16, requires_grad=True)
        key, value = (
            torch.randn(batch, 4, total, 64, dtype=torch.bfloat16, requires_grad=True) for _ in range(2)
        )
        bias = torch.zeros(batch, 1, length, total, dtype=torch.bfloat16)
        gradient = torch.randn_like(query)

        def ours(q: Tensor = query, k: Tensor = key, v: Tensor = value, b: Tensor = bias) -> Tensor:
            return attend(q, k, v, b)

        def fused(q: Tensor = query, k: Tensor = key, v: Tensor = value, b: Tensor = bias) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=b)

        pairs = [(seconds(ours, gradient), seconds(fused, gradient)) for _ in range(ROUNDS + 3)][3:]
        row = {
            "case": name,
            "milliseconds": round(1e3 * statistics.median(a for a, _ in pairs), 1),
            "fused_milliseconds": round(1e3 * statistics.median(b for _, b in pairs), 1),
            "fused_over_ours": round(statistics.median(b / a for a, b in pairs), 2),
        }
        print(row)
        rows.append(row)
    print(machine.write("train_attention", "python benchmarks/train_attention.py", rows))


if __name__ == "__main__":
    main()
