"""Pictures made shorter for a draft head; the target's own reading of them is never touched.

Owns SpecVLM's elastic compressor (Huang et al. 2025, arXiv 2509.11815) and ViSpec's adaptor (Kang et al. 2025, arXiv
2509.15235). Knows neither where a picture lies nor what is made of it: tokens in, fewer tokens out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from foveate.decode.heads.config import CompressorConfig

HARD, SOFT = 20, 3  # SpecVLM's ratios: pruning and pooling stand 20x, convolution 3x
SELECTED = ("prune", "pool", "convolution", "resampler", "text")
WEIGHTED = ("prune", "pool", "convolution")
Grid = tuple[int, int] | None


def _kept_for_training(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Remembers indices. They are made outside inference mode whoever asks first: decoding must not leave tensors that
    training cannot use."""

    @functools.lru_cache(maxsize=256)
    @functools.wraps(make)
    def made(*arguments: object) -> torch.Tensor:
        with torch.inference_mode(False):
            return make(*arguments)

    return made


@_kept_for_training
def windows(count: int, grid: Grid, ratio: int) -> torch.Tensor:
    """[m, ratio] indices of the tokens of each window; at an edge that cuts a window its last tokens stand again.

    With a grid windows are rectangles of `ratio` tokens as near to a square as whole numbers allow, else runs.
    """
    height = max(side for side in range(1, math.isqrt(ratio) + 1) if ratio % side == 0) if grid else 1
    width = ratio // height
    rows, cols = grid or (1, count)
    tops = torch.arange(0, rows, height)[:, None] + torch.arange(height)[None]
    lefts = torch.arange(0, cols, width)[:, None] + torch.arange(width)[None]
    places = tops.clamp(max=rows - 1)[:, None, :, None] * cols + lefts.clamp(max=cols - 1)[None, :, None, :]
    return places.reshape(-1, ratio)


@_kept_for_training
def fixed_choice(count: int, kept: int) -> torch.Tensor:
    """[kept] ascending indices below `count`, drawn once and for all: a draft must guess alike for equal pictures."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    return order[:kept].sort().values


class Pruner(nn.Module):
    """Keeps some tokens as they are, in their order: at random, or those of the highest learned score.

    In training random tokens are drawn anew each time; afterwards the choice depends on the count alone. A score
    weighs the token it keeps, 1 at first, which is how it is learned.
    """

    def __init__(self, width: int, *, by_score: bool) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False) if by_score else None
        if self.score is not None:
            nn.init.zeros_(self.score.weight)

    def forward(self, tokens: torch.Tensor, kept: int) -> torch.Tensor:
        """[n, D] to [min(kept, n), D]."""
        count = tokens.shape[0]
        kept = min(kept, count)
        if self.score is not None:
            scores = self.score(tokens)[:, 0]
            places = scores.topk(kept).indices.sort().values
            return tokens[places] * (2 * scores[places].sigmoid())[:, None]
        if self.training:
            places = torch.randperm(count)[:kept].sort().values.to(tokens.device)
        else:
            places = fixed_choice(count, kept).to(tokens.device)
        return tokens[places]


class Pooler(nn.Module):
    """The mean of each window."""

    def forward(self, tokens: torch.Tensor, grid: Grid, ratio: int) -> torch.Tensor:
        """[n, D] to [about n / ratio, D]."""
        return tokens[windows(tokens.shape[0], grid, ratio).to(tokens.device)].mean(dim=1)


class Convolver(nn.Module):
    """A convolution whose stride is its window: one weight a place and channel, then a mix of channels. It begins as
    the mean of the window."""

    def __init__(self, width: int, ratio: int) -> None:
        super().__init__()
        self.ratio = ratio
        self.kernel = nn.Parameter(torch.full((ratio, width), 1.0 / ratio))
        self.mix = nn.Linear(width, width, bias=False)
        nn.init.eye_(self.mix.weight)

    def forward(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """[n, D] to [about n / ratio, D]."""
        gathered = tokens[windows(tokens.shape[0], grid, self.ratio).to(tokens.device)]
        return self.mix((gathered * self.kernel).sum(dim=1))


class Resampler(nn.Module):
    """Learned queries that attend to the picture once."""

    def __init__(self, width: int, heads: int, queries: int) -> None:
        super().__init__()
        self.heads = heads if width % heads == 0 else 1
        self.queries = nn.Parameter(torch.randn(queries, width) * width**-0.5)
        self.keys_values = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, D] to [queries, D]."""
        keys, values = self.keys_values(tokens).unflatten(-1, (2, self.heads, -1)).permute(1, 2, 0, 3)
        queries = self.queries.unflatten(-1, (self.heads, -1)).transpose(0, 1)
        seen = F.scaled_dot_product_attention(queries[None], keys[None], values[None])[0]
        return self.out(seen.transpose(0, 1).flatten(1))


class Gate(nn.Module):
    """Which operator suits the question: a linear layer on the mean of its states. It begins undecided."""

    def __init__(self, width: int, choices: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=eps)
        self.choose = nn.Linear(width, choices)
        nn.init.zeros_(self.choose.weight)
        nn.init.zeros_(self.choose.bias)

    def forward(self, question: torch.Tensor) -> torch.Tensor:
        """[D] to [choices] logits."""
        return self.choose(self.norm(question))


class Compressor(nn.Module):
    """One picture at a time, as its configuration says.

    Args:
        width: D, of the target's embeddings.
        heads: of the resampler's attention.
    """

    def __init__(self, config: CompressorConfig, *, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.config = config
        mode = config.mode
        self.pruner = Pruner(width, by_score=mode == "importance")
        self.pooler = Pooler()
        self.convolver = self.resampler = self.gate = None
        if mode in ("convolution", "weighted", "concat", "select"):
            self.convolver = Convolver(width, config.ratio if mode in ("convolution", "weighted") else SOFT)
        if mode in ("resampler", "vispec", "concat", "select"):
            self.resampler = Resampler(width, heads, config.queries)
        if mode in ("weighted", "select"):
            self.gate = Gate(width, len(SELECTED if mode == "select" else WEIGHTED), eps)

    @property
    def reads_question(self) -> bool:
        """Whether it can only begin when the prompt is complete."""
        return self.gate is not None

    def forward(
        self, tokens: torch.Tensor, grid: Grid, question: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            tokens: [n, D] of one picture.
            grid: rows and columns they are the raster of, if they are.
            question: [D] mean of the target's states of the text behind the picture.

        Returns:
            [m, D] what the head reads in their place, and [D] what later rows are told (vispec alone).
        """
        mode, ratio = self.config.mode, self.config.ratio
        if mode in ("prune", "importance"):
            return self.pruner(tokens, -(-tokens.shape[0] // ratio)), None
        if mode == "weighted":
            return self._weighted(tokens, grid, question), None
        if mode == "concat":
            return torch.cat([self._operate(name, tokens, grid) for name in SELECTED[:-1]]), None
        if mode == "select":
            return self._selected(tokens, grid, question), None
        if mode == "vispec":
            assert self.resampler is not None
            seen = self.resampler(tokens)
            return seen[:-1], seen[-1]
        return (
            self.pooler(tokens, grid, ratio) if mode == "pool" else self._operate(mode, tokens, grid)
        ), None

    def _operate(self, name: str, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """One of SpecVLM's operators at its ratio."""
        if name == "prune":
            return self.pruner(tokens, -(-tokens.shape[0] // HARD))
        if name == "pool":
            return self.pooler(tokens, grid, HARD)
        if name == "convolution":
            assert self.convolver is not None
            return self.convolver(tokens, grid)
        if name == "resampler":
            assert self.resampler is not None
            return self.resampler(tokens)
        return tokens[:0]

    def _weighted(self, tokens: torch.Tensor, grid: Grid, question: torch.Tensor) -> torch.Tensor:
        assert self.gate is not None and self.convolver is not None
        weights = self.gate(question).softmax(dim=-1)
        pooled = self.pooler(tokens, grid, self.config.ratio)
        pruned = self.pruner(tokens, pooled.shape[0])
        return weights[0] * pruned + weights[1] * pooled + weights[2] * self.convolver(tokens, grid)

    def _selected(self, tokens: torch.Tensor, grid: Grid, question: torch.Tensor) -> torch.Tensor:
        """The operator of the highest logit. In training it is drawn (Gumbel), and its tokens are multiplied by a
        weight of value 1 whose gradient is the softmax's (straight through); the text-only branch has no tokens, and so
        is learned by what the others gain or lose."""
        assert self.gate is not None
        logits = self.gate(question)
        if not self.training:
            return self._operate(SELECTED[int(logits.argmax())], tokens, grid)
        drawn = F.gumbel_softmax(logits, hard=True)
        choice = int(drawn.argmax())
        return self._operate(SELECTED[choice], tokens, grid) * drawn[choice]
