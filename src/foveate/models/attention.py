"""Our attention below `transformers` model code, and the seam where a paged cache will go.

Owns two functions registered with transformers' AttentionInterface: `foveate` for language models (plain
reference over one sequence's keys and values) and `foveate_tower` for vision towers (sdpa, listened to by a
salience tap). Knows no families. One object, an `Attends`, travels as the keyword argument
`attention_state` from the language model's forward to every layer and does the attending: `AttentionState`
for one sequence here, the engine's paged batch for many.
"""

from __future__ import annotations

import contextvars
from typing import Any, Protocol

import torch
import torch.nn.functional as F

LANGUAGE_ATTENTION = "foveate"
TOWER_ATTENTION = "foveate_tower"


class Attends(Protocol):
    """What the keyword argument `attention_state` must be able to do."""

    def attend(
        self,
        layer_idx: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Keeps the new keys and values [1, G, T, d] of a layer and attends from query [1, H, T, d].

        Returns:
            [1, H, T, d].
        """
        ...


class KeyValueStore(Protocol):
    """Where keys and values of one sequence live between steps."""

    def update(
        self, layer_idx: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends [1, G, n, d] to a layer and returns all of it, [1, G, total, d]."""
        ...


class KeyValueCache:
    """Append-only keys and values per layer, in tensors that double when full."""

    def __init__(self) -> None:
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._lengths: dict[int, int] = {}

    def length(self, layer_idx: int = 0) -> int:
        """Tokens held by a layer."""
        return self._lengths.get(layer_idx, 0)

    def update(
        self, layer_idx: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends [1, G, n, d] to a layer and returns all of it, [1, G, total, d]."""
        start = self.length(layer_idx)
        stop = start + key.shape[2]
        if layer_idx not in self._buffers:
            self._buffers[layer_idx] = (key.contiguous(), value.contiguous())
        elif stop > self._buffers[layer_idx][0].shape[2]:
            grown = tuple(self._grow(buffer, start, 2 * stop) for buffer in self._buffers[layer_idx])
            self._buffers[layer_idx] = (grown[0], grown[1])
        keys, values = self._buffers[layer_idx]
        if start:
            keys[:, :, start:stop] = key
            values[:, :, start:stop] = value
        self._lengths[layer_idx] = stop
        return keys[:, :, :stop], values[:, :, :stop]

    def truncate(self, length: int) -> None:
        """Forgets the tokens from `length` on, in all layers."""
        for layer_idx, held in self._lengths.items():
            self._lengths[layer_idx] = min(held, length)

    def select(self, layer_idx: int, rows: torch.Tensor) -> None:
        """Forgets all tokens of a layer but those at rows [m], ascending."""
        keys, values = self._buffers[layer_idx]
        self._buffers[layer_idx] = (keys.index_select(2, rows), values.index_select(2, rows))
        self._lengths[layer_idx] = len(rows)

    @staticmethod
    def _grow(buffer: torch.Tensor, used: int, capacity: int) -> torch.Tensor:
        bigger = buffer.new_empty(*buffer.shape[:2], capacity, buffer.shape[3])
        bigger[:, :, :used] = buffer[:, :, :used]
        return bigger


class _NoStore:
    """A forward over a whole prompt needs no memory of earlier steps."""

    def update(
        self, layer_idx: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key, value


class AttentionState:
    """What one sequence's attention needs beside q, k, v: the store, and who may see whom.

    Args:
        store: keeps keys and values between calls; None for a single forward over the whole prompt.
        groups: [T] integers for the prompt. Tokens of one group >= 0 see each other both ways (Gemma3: one
            group per image; PaliGemma: one for the whole prefix); -1 is causal. Tokens past the end of
            `groups` are -1.
        window_cuts_groups: in sliding-window layers, whether tokens of its group that lie before a query's
            window are out of its sight (Gemma3) or in it (PaliGemma 2).
    """

    def __init__(
        self,
        store: KeyValueStore | None = None,
        groups: torch.Tensor | None = None,
        *,
        window_cuts_groups: bool = False,
    ) -> None:
        self.store: KeyValueStore = store if store is not None else _NoStore()
        self.groups = groups
        self.window_cuts_groups = window_cuts_groups
        # Layers of one step share their mask; the key is everything a mask depends on.
        self._masks: dict[tuple[int, int, int | None], torch.Tensor | None] = {}

    def update(
        self, layer_idx: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends to the store; see `KeyValueStore.update`."""
        return self.store.update(layer_idx, key, value)

    def attend(
        self,
        layer_idx: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        sinks: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One sequence over its own store; see `Attends`."""
        key, value = self.update(layer_idx, key, value)
        mask = self.mask(query.shape[2], key.shape[2], window, query.device)
        return dense_attention(query, key, value, mask, scale=scale, softcap=softcap, sinks=sinks)

    def mask(self, queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor | None:
        """[queries, keys] booleans, True where a query may look; None where it may look everywhere.

        Queries are the last `queries` of `keys` tokens. `window` w lets a query see itself and the w - 1
        tokens before it.
        """
        signature = (queries, keys, window)
        if signature not in self._masks:
            if len(self._masks) > 8:  # decoding makes a new length each step; old ones never return
                self._masks.clear()
            self._masks[signature] = self._build_mask(queries, keys, window, device)
        return self._masks[signature]

    def _build_mask(
        self, queries: int, keys: int, window: int | None, device: torch.device
    ) -> torch.Tensor | None:
        if queries == 1 and (window is None or keys <= window):
            return None  # a last token sees all, and its group lies behind it
        query_index = torch.arange(keys - queries, keys, device=device)[:, None]
        key_index = torch.arange(keys, device=device)[None]
        allowed = key_index <= query_index
        inside = key_index > query_index - window if window is not None else None
        if inside is not None and not self.window_cuts_groups:
            allowed &= inside
        if self.groups is not None:
            groups = F.pad(self.groups.to(device), (0, max(0, keys - self.groups.shape[0])), value=-1)[:keys]
            query_groups = groups[keys - queries :, None]
            allowed |= (query_groups == groups[None]) & (query_groups >= 0)
        if inside is not None and self.window_cuts_groups:
            allowed &= inside
        return allowed


def language_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    attention_state: Attends | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer: names the arguments and lets the state attend.

    Args:
        query: [1, H, n, d]; key, value: [1, G, n, d] with G dividing H (grouped-query attention, arXiv
            2305.13245).
        sliding_window: tokens a query sees, itself included; None for all.
        softcap: logits become softcap * tanh(logits / softcap) (Gemma 2, arXiv 2408.00118).
        s_aux: [H] attention sinks, a logit per head that takes weight and gives nothing (gpt-oss).

    Returns:
        [1, n, H, d], and None in place of the attention map, which is never kept.
    """
    assert attention_state is not None, (
        "This model's attention is Foveate's: run it through VisionLanguageModel.logits or .generate, "
        "or load the checkpoint with plain transformers."
    )
    assert query.shape[0] == 1, f"one sequence or one packed batch a call, got a batch of {query.shape[0]}"
    output = attention_state.attend(
        int(module.layer_idx),  # type: ignore[arg-type]
        query,
        key,
        value,
        scale=scaling if scaling is not None else query.shape[-1] ** -0.5,
        window=sliding_window,
        softcap=softcap,
        sinks=s_aux,
    )
    return output.transpose(1, 2).contiguous(), None


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scale: float,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention of [B, H, n, d] over [B, G, m, d], G dividing H, where mask [.., n, m] is True (None: all)."""
    if softcap is None and sinks is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )
    return _explicit_attention(query, key, value, mask, scale, softcap, sinks)


def _explicit_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """The same with what sdpa has no argument for; [1, H, n, d]."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    logits = (query @ key.transpose(2, 3)).float() * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    if sinks is not None:
        column = sinks.float().reshape(1, -1, 1, 1).expand(*logits.shape[:3], 1)
        weights = torch.cat([logits, column], dim=-1).softmax(dim=-1)[..., :-1]
    else:
        weights = logits.softmax(dim=-1)
    return weights.to(value.dtype) @ value


class TowerListener(Protocol):
    """Is shown the queries and keys of every tower layer of the calls made inside `listening`."""

    def hear(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        scaling: float,
        mask: torch.Tensor | None,
    ) -> None:
        """query, key: [B, H, n, d] after rotation, as attention multiplies them."""
        ...


# A context variable, not a field on the model: two threads may encode with one model at once.
_listener: contextvars.ContextVar[TowerListener | None] = contextvars.ContextVar(
    "tower_listener", default=None
)


class listening:  # noqa: N801  (a context manager reads as a verb)
    """`with listening(tap): tower(...)` shows the tap every attention layer of the tower."""

    def __init__(self, listener: TowerListener | None) -> None:
        self._target = listener

    def __enter__(self) -> None:
        self._token = _listener.set(self._target)

    def __exit__(self, *_: object) -> None:
        _listener.reset(self._token)


def tower_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    **keywords: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """transformers' own sdpa attention, after a listener, if there is one, has seen q and k."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    listener = _listener.get()
    if listener is not None:
        scaling = keywords.get("scaling")
        scale = float(scaling) if scaling is not None else query.shape[-1] ** -0.5
        listener.hear(module, query, key, scale, attention_mask)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **keywords)


def _no_mask(*_: Any, **__: Any) -> None:
    """transformers builds no mask for us: `AttentionState` knows who sees whom."""
    return


def register() -> None:
    """Makes both names known to transformers; calling again changes nothing."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(LANGUAGE_ATTENTION, language_attention)
    AttentionMaskInterface.register(LANGUAGE_ATTENTION, _no_mask)
    AttentionInterface.register(TOWER_ATTENTION, tower_attention)
    AttentionMaskInterface.register(TOWER_ATTENTION, sdpa_mask)
