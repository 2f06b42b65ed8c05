"""The paged backends against one sequence's reference attention: awkward shapes, poisoned free blocks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.engine.attention import BACKENDS, PagedBatch, Segment, choose_backend
from foveate.engine.cache import BlockPool, KeyValueBlocks, LayerShape
from foveate.engine.state import PagedKeyValueStore
from foveate.errors import FoveateError
from foveate.models.attention import AttentionState, KeyValueCache

WIDTH = 8


def draw_groups(data: st.DataObject, length: int) -> torch.Tensor | None:
    """One bidirectional span somewhere in a prompt, or none."""
    if not data.draw(st.booleans(), "has a group"):
        return None
    first = data.draw(st.integers(0, length - 1), "group from")
    last = data.draw(st.integers(first + 1, length), "group to")
    groups = torch.full((length,), -1)
    groups[first:last] = 0
    return groups


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_backend_equals_the_reference_of_one_sequence(data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9999), "seed"))
    heads, kv_heads = data.draw(st.sampled_from([(4, 2), (3, 1), (2, 2)]), "heads")
    size = data.draw(st.sampled_from([1, 3, 4]), "block size")
    window = data.draw(st.sampled_from([None, None, 1, 3, 7]), "window")
    softcap = data.draw(st.sampled_from([None, 0.7]), "softcap")
    sinks = data.draw(st.sampled_from([None, torch.linspace(-1, 1, heads)]), "sinks")
    cut = data.draw(st.booleans(), "window cuts groups")
    memory = KeyValueBlocks(
        [LayerShape(heads=kv_heads, key_width=WIDTH, value_width=WIDTH)], 90, size, poison=True
    )
    store = PagedKeyValueStore(BlockPool(90), memory)
    store.pool.allocate()  # nobody writes block 0, so its NaN shows in whoever takes slot 0 for padding
    segments, expected, packed, offset = [], [], [], 0
    for key in range(data.draw(st.integers(1, 5), "sequences")):
        total = data.draw(st.integers(1, 15), "tokens")
        count = data.draw(st.one_of(st.just(1), st.integers(1, total)), "new tokens")
        start = total - count
        groups = draw_groups(data, total)
        if groups is not None and start and count < total:  # a chunk begins outside every group
            groups[: start + 1] = torch.where(groups[start] >= 0, -1, groups[: start + 1])
        q = torch.randn(1, heads, count, WIDTH, generator=generator)
        k, v = (torch.randn(1, kv_heads, total, WIDTH, generator=generator) for _ in range(2))
        alone = AttentionState(KeyValueCache(), groups, window_cuts_groups=cut)
        if start:
            alone.update(0, k[:, :, :start], v[:, :, :start])
        new_k, new_v = k[:, :, start:], v[:, :, start:]
        expected.append(
            alone.attend(0, q, new_k, new_v, scale=0.3, window=window, softcap=softcap, sinks=sinks)
        )
        store.open(key)
        store.append(key, total)
        slots = store.slots(key, 0, total)
        memory.write(0, slots[:start], k[0, :, :start].transpose(0, 1), v[0, :, :start].transpose(0, 1))
        rules = AttentionState(None, groups, window_cuts_groups=cut)
        segments.append(Segment(offset=offset, start=start, stop=total, slots=slots, rules=rules))
        packed.append((q, new_k, new_v))
        offset += count
    q, k, v = (torch.cat(parts, dim=2) for parts in zip(*packed, strict=True))
    want = torch.cat(expected, dim=2)
    for backend in BACKENDS.values():
        batch = PagedBatch(memory, segments, backend())
        got = batch.attend(0, q, k, v, scale=0.3, window=window, softcap=softcap, sinks=sinks)
        assert got.shape == want.shape
        assert torch.allclose(got, want, atol=1e-5), backend.name


def test_free_blocks_are_really_poisoned_and_never_read() -> None:
    """Everything but the sequences' own slots is NaN; lengths differ, so the batched path pads."""
    memory = KeyValueBlocks([LayerShape(heads=1, key_width=WIDTH, value_width=WIDTH)], 12, 4, poison=True)
    store = PagedKeyValueStore(BlockPool(12), memory)
    store.pool.allocate()  # as above
    segments = []
    for key, total in enumerate((5, 6, 7)):
        store.open(key)
        store.append(key, total)
        slots = store.slots(key, 0, total)
        memory.write(0, slots, torch.randn(total, 1, WIDTH), torch.randn(total, 1, WIDTH))
        segments.append(Segment(offset=key, start=total - 1, stop=total, slots=slots, rules=AttentionState()))
    assert int(memory.keys[0].isnan().any(dim=-1).sum()) == 12 * 4 - 18
    q, k, v = (torch.randn(1, 1, 3, WIDTH) for _ in range(3))
    for backend in BACKENDS.values():
        output = PagedBatch(memory, segments, backend()).attend(0, q, k, v, scale=1.0)
        assert bool(output.isfinite().all())


def test_the_choice_of_backend_names_its_reason() -> None:
    backend, reason = choose_backend(torch.device("cpu"))
    assert backend.name == "cpu-batched" and "CPU" in reason
    backend, reason = choose_backend(torch.device("cuda"))
    assert backend.name == "reference" and "no paged kernel is built for cuda" in reason
    assert choose_backend(torch.device("cpu"), "reference")[0].name == "reference"
    with pytest.raises(FoveateError, match=r"no attention backend 'referense'.*'reference'"):
        choose_backend(torch.device("cpu"), "referense")
