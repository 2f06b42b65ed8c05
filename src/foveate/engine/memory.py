"""How much memory each cache gets, and why.

Owns the arithmetic from what is free on the device to blocks and bytes, and its account in words. Knows no
requests: sizes follow from the budget, never from the largest image that might come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foveate.engine.cache import LayerShape
from foveate.engine.config import EngineConfig, EngineConfigError
from foveate.models.parts.free_memory import free_bytes

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

ENCODER_SHARE = 0.1  # of the budget: features are small beside the keys and values they become
ENCODER_LIMIT = 2**30
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Sizes of one engine's caches; `reasons` has a line for each."""

    layers: tuple[LayerShape, ...]
    block_bytes: int
    kv_blocks: int
    encoder_bytes: int
    reasons: tuple[str, ...]

    def text(self) -> str:
        """What is printed at start."""
        return "\n".join(self.reasons)


def layer_shapes(model: VisionLanguageModel) -> tuple[LayerShape, ...]:
    """Keys and values per layer, from the text configuration."""
    config = model.text_config
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    shape = LayerShape(heads=groups, key_width=width, value_width=width)
    return (shape,) * int(config.num_hidden_layers)


def plan_memory(model: VisionLanguageModel, config: EngineConfig) -> MemoryPlan:
    """Sizes for this model on this device.

    Raises:
        EngineConfigError: the budget does not hold a single block.
    """
    layers = layer_shapes(model)
    block_bytes = config.block_size * sum(shape.numbers for shape in layers) * model.dtype.itemsize
    if config.memory_bytes is not None:
        budget, why = config.memory_bytes, "asked for"
    else:
        free, source = free_bytes(model.device)
        budget = int(free * config.memory_fraction)
        why = f"{config.memory_fraction:.0%} of {free / MIB:,.0f} MiB {source}"
    reasons = [f"memory for caches: {budget / MIB:,.1f} MiB ({why})"]
    if not model.accepts_images:
        encoder, why = 0, "a text-only model"
    elif config.encoder_cache_bytes is not None:
        encoder, why = config.encoder_cache_bytes, "asked for"
    else:
        encoder = min(int(budget * ENCODER_SHARE), ENCODER_LIMIT)
        why = f"{ENCODER_SHARE:.0%} of the budget, at most {ENCODER_LIMIT / MIB:,.0f} MiB"
    reasons.append(f"encoder cache: {encoder / MIB:,.1f} MiB ({why})")
    blocks, why = _blocks(model, config, budget - encoder, block_bytes)
    reasons.append(
        f"key-value cache: {blocks} blocks of {config.block_size} tokens, "
        f"{blocks * block_bytes / MIB:,.1f} MiB ({why})"
    )
    return MemoryPlan(
        layers=layers,
        block_bytes=block_bytes,
        kv_blocks=blocks,
        encoder_bytes=encoder,
        reasons=tuple(reasons),
    )


def _blocks(model: VisionLanguageModel, config: EngineConfig, left: int, block_bytes: int) -> tuple[int, str]:
    if config.kv_blocks is not None:
        return config.kv_blocks, "asked for"
    affordable = left // block_bytes
    most = config.max_sequences * -(-model.context_length // config.block_size)
    if affordable < 1:
        raise EngineConfigError(
            f"A block of {config.block_size} tokens takes {block_bytes} bytes of keys and values",
            why=f"{max(left, 0)} bytes are left for them",
            fix="Raise memory_bytes or lower block_size.",
        )
    if affordable < most:
        return affordable, "what the rest of the budget holds"
    return (
        most,
        f"{config.max_sequences} answers at once, {model.context_length} tokens each at most, need no more",
    )
