"""The paged backends against one sequence's reference attention: awkward shapes, poisoned free blocks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.engine.attention import BACKENDS, Backend, PagedBatch, Segment, choose_backend, native
from foveate.engine.cache import BlockPool, KeyValueBlocks, LayerShape
from foveate.engine.state import PagedKeyValueStore
from foveate.errors import FoveateError
from foveate.models.attention import AttentionState, KeyValueCache
from foveate.models.parts import compiler as kernel_compiler

WIDTH = 8


def backends(memory: KeyValueBlocks) -> list[Backend]:
    """Those that this machine can run; the compiled one too wherever there is a compiler."""
    found = [backend() for backend in BACKENDS.values() if backend.refusal(memory) is None]
    assert {"reference", "cpu-batched", "flex"} <= {backend.name for backend in found}
    assert ("cpu-native" in {backend.name for backend in found}) == (shutil.which("cc") is not None)
    return found


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
    width, width_v = data.draw(st.sampled_from([(8, 8), (64, 64), (7, 12), (128, 128)]), "widths")
    window = data.draw(st.sampled_from([None, None, 1, 3, 7]), "window")
    softcap = data.draw(st.sampled_from([None, 0.7]), "softcap")
    sinks = data.draw(st.sampled_from([None, torch.linspace(-1, 1, heads)]), "sinks")
    cut = data.draw(st.booleans(), "window cuts groups")
    memory = KeyValueBlocks(
        [LayerShape(heads=kv_heads, key_width=width, value_width=width_v)], 90, size, poison=True
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
        q = torch.randn(1, heads, count, width, generator=generator)
        k, v = (torch.randn(1, kv_heads, total, wide, generator=generator) for wide in (width, width_v))
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
    for backend in backends(memory):
        batch = PagedBatch(memory, segments, backend)
        got = batch.attend(0, q, k, v, scale=0.3, window=window, softcap=softcap, sinks=sinks)
        assert got.shape == want.shape
        assert torch.allclose(got, want, atol=1e-5), backend.name
        assert getattr(backend, "failure", None) is None  # else flex would have shown the reference's numbers


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
    for backend in backends(memory):
        output = PagedBatch(memory, segments, backend).attend(0, q, k, v, scale=1.0)
        assert bool(output.isfinite().all())


def cache(dtype: torch.dtype = torch.float32, width: int = 64, device: str = "cpu") -> KeyValueBlocks:
    shape = LayerShape(heads=3, key_width=width, value_width=width)
    return KeyValueBlocks([shape], 40, 16, dtype=dtype, device=device, poison=device == "cpu")


def test_the_kernel_in_bfloat16_is_as_near_to_the_truth_as_torch() -> None:
    """Long sequences of very different lengths, 3 query heads to a key head, against float64."""
    generator = torch.Generator().manual_seed(5)
    memory, lengths = cache(torch.bfloat16), (1, 33, 500)
    store = PagedKeyValueStore(BlockPool(40), memory)
    segments, truth = [], []
    q = torch.randn(1, 9, 3, 64, generator=generator).bfloat16()
    k, v = (torch.randn(1, 3, 3, 64, generator=generator).bfloat16() for _ in range(2))
    for row, length in enumerate(lengths):
        store.open(row)
        store.append(row, length)
        slots = store.slots(row, 0, length)
        keys, values = (torch.randn(length, 3, 64, generator=generator).bfloat16() for _ in range(2))
        keys[-1], values[-1] = k[0, :, row], v[0, :, row]
        memory.write(0, slots, keys, values)
        segments.append(
            Segment(offset=row, start=length - 1, stop=length, slots=slots, rules=AttentionState())
        )
        shared = (part.double().repeat_interleave(3, dim=1).transpose(0, 1) for part in (keys, values))
        wide_keys, wide_values = shared
        weights = (q[0, :, row, None].double() @ wide_keys.transpose(1, 2) * 0.2).softmax(dim=-1)
        truth.append((weights @ wide_values)[:, 0])
    want = torch.stack(truth, dim=1)[None]
    errors = {
        backend.name: (PagedBatch(memory, segments, backend).attend(0, q, k, v, scale=0.2) - want).abs().max()
        for backend in backends(memory)
    }
    assert all(error <= 1.05 * errors["reference"] + 1e-9 for error in errors.values()), errors


def test_large_logits_and_a_masked_past_stay_finite() -> None:
    """Scores of some thousands: the running maximum must keep every exponent at or below 0."""
    memory = cache()
    store = PagedKeyValueStore(BlockPool(40), memory)
    store.open(0)
    store.append(0, 100)
    slots = store.slots(0, 0, 100)
    keys = torch.linspace(-3, 3, 100)[:, None, None].expand(100, 3, 64).contiguous()
    memory.write(0, slots, keys, keys)
    segment = Segment(offset=0, start=99, stop=100, slots=slots, rules=AttentionState())
    query, new = torch.full((1, 9, 1, 64), 50.0), keys[None, -1:].transpose(1, 2)
    for backend in backends(memory):
        for sign in (1, -1):
            output = PagedBatch(memory, [segment], backend).attend(0, sign * query, new, new, scale=1.0)
            assert torch.allclose(output, torch.full_like(output, 3.0 * sign), atol=1e-5), backend.name


def test_the_choice_of_backend_names_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, reason = choose_backend(cache())
    assert backend.name == "cpu-native" and "reads the paged cache in place" in reason
    backend, reason = choose_backend(cache(torch.float16))
    assert backend.name == "cpu-batched" and "not cpu-native: the kernel knows float32 and bfloat16" in reason
    backend, reason = choose_backend(cache(width=320))
    assert backend.name == "cpu-batched" and "320 wide" in reason
    backend, reason = choose_backend(cache(device="meta"))
    assert backend.name == "reference" and "not cpu-batched: the cache is on meta" in reason
    assert choose_backend(cache(), "reference")[0].name == "reference"
    with pytest.raises(FoveateError, match=r"no attention backend 'referense'.*'reference'"):
        choose_backend(cache(), "referense")
    with pytest.raises(FoveateError, match=r"'cpu-native' cannot be used here.*float16"):
        choose_backend(cache(torch.float16), "cpu-native")


@pytest.fixture
def _no_kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As if nothing had been compiled yet; what is compiled goes to a folder of the test's own."""
    monkeypatch.setenv("FOVEATE_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_kernels", {})
    kernel_compiler.compile_kernel.cache_clear()
    yield
    kernel_compiler.compile_kernel.cache_clear()


@pytest.mark.usefixtures("_no_kernels")
def test_without_a_working_compiler_torch_does_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-compiler"
    broken.write_text("#!/bin/sh\necho 'out of cheese' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    backend, reason = choose_backend(cache())
    assert backend.name == "cpu-batched" and "out of cheese" in reason
    monkeypatch.setenv("CC", "no-such-compiler")
    kernel_compiler.compile_kernel.cache_clear()
    assert "no-such-compiler could not build the kernel" in choose_backend(cache())[1]
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    kernel_compiler.compile_kernel.cache_clear()
    assert "there is no C compiler here" in choose_backend(cache())[1]


@pytest.mark.usefixtures("_no_kernels")
def test_a_kernel_is_built_once(tmp_path: Path) -> None:
    assert choose_backend(cache())[0].name == "cpu-native"
    (built,) = tmp_path.glob("*.so")
    made = built.stat().st_mtime_ns
    native._kernels.clear()
    kernel_compiler.compile_kernel.cache_clear()
    assert choose_backend(cache())[0].name == "cpu-native"
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("*.so")] == [made]
