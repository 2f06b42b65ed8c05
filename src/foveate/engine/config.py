"""Settings of one engine, checked when they are made.

Owns ranges only; sizes that depend on the machine (blocks, encoder cache) are planned by `memory.py` where
they are left open.
"""

from __future__ import annotations

from dataclasses import dataclass

from foveate.decode.settings import SpeculationSettings
from foveate.errors import FoveateError


class EngineConfigError(FoveateError):
    """Engine settings that cannot work."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How large an engine is and how it works.

    Attributes:
        block_size: tokens per block of the paged cache.
        kv_blocks: blocks of the paged cache; None plans them from the memory budget.
        memory_bytes: budget for caches; None takes `memory_fraction` of what is free now.
        encoder_cache_bytes: None plans it from the budget.
        max_sequences: answers that run at once.
        max_step_tokens: tokens of one step. Every running answer gets its token first, prompts get the rest;
            a bidirectional span larger than that runs whole in a step of its own.
        prefix_caching: keep full blocks after their sequence ended, for prompts that begin alike.
        attention: "auto" or the name of a backend.
        pack_weights: put the model's linear weights into the order this machine multiplies fastest, for good,
            where that pays (see `models.parts.packing`); the model can then be served, not trained.
        head_rows: rows the output head projects at a time.
        tap_layers: language layers whose hidden states are kept for readers.
        speculation: guess tokens ahead and run them in one pass; None decodes token by token. Answers are the same.
        seed: from which seeds of requests without one are drawn.
        poison: fill free blocks with NaN (tests): what is read there shows at once.

    Raises:
        EngineConfigError: a value outside its range, naming both.
    """

    block_size: int = 16
    kv_blocks: int | None = None
    memory_bytes: int | None = None
    memory_fraction: float = 0.5
    encoder_cache_bytes: int | None = None
    max_sequences: int = 32
    max_step_tokens: int = 512
    prefix_caching: bool = True
    attention: str = "auto"
    pack_weights: bool = True
    head_rows: int = 64
    tap_layers: tuple[int, ...] = ()
    speculation: SpeculationSettings | None = None
    seed: int = 0
    poison: bool = False

    def __post_init__(self) -> None:
        for name in ("block_size", "kv_blocks", "memory_bytes", "max_sequences", "head_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EngineConfigError(f"{name} is {value}", why="it must be 1 or more")
        if self.encoder_cache_bytes is not None and self.encoder_cache_bytes < 0:
            raise EngineConfigError(
                f"encoder_cache_bytes is {self.encoder_cache_bytes}", why="it must be 0 or more"
            )
        if not 0 < self.memory_fraction <= 1:
            raise EngineConfigError(
                f"memory_fraction is {self.memory_fraction}", why="it must be above 0 and at most 1"
            )
        if self.max_step_tokens <= self.max_sequences:
            raise EngineConfigError(
                f"max_step_tokens is {self.max_step_tokens}",
                why=f"it must exceed max_sequences ({self.max_sequences}), or prompts would starve",
                fix="Raise max_step_tokens or lower max_sequences.",
            )
