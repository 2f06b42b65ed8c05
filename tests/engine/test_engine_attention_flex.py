"""FlexAttention over the paged cache: tiles and block lists, what is compiled when, and the refusals.

That its numbers equal the reference's, uncompiled, is test_engine_attention.py. What needs a GPU is skipped without
one.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode

from foveate.engine.attention import PagedBatch, Segment, choose_backend, flex
from foveate.engine.attention.batch import Call
from foveate.engine.attention.flex import FlexBackend, probe
from foveate.engine.attention.flex_kernel import PagedFlex, compile_kernel
from foveate.engine.attention.reference import ReferenceBackend
from foveate.engine.attention.tiles import begun_tails, cut_into_tiles, in_sight, padded
from foveate.engine.cache import BlockPool, KeyValueBlocks, LayerShape
from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import SamplingParameters
from foveate.engine.state import PagedKeyValueStore
from foveate.errors import FoveateError
from foveate.models.attention import AttentionState

SHAPE = LayerShape(heads=2, key_width=16, value_width=16)


def filled(blocks: int = 60, size: int = 4) -> tuple[KeyValueBlocks, PagedKeyValueStore]:
    memory = KeyValueBlocks([SHAPE], blocks, size)
    generator = torch.Generator().manual_seed(1)
    for tensor in (*memory.keys, *memory.values):
        tensor.normal_(generator=generator)
    return memory, PagedKeyValueStore(BlockPool(blocks), memory)


def segment(store: PagedKeyValueStore, key: int, count: int, offset: int, **rules: Any) -> Segment:
    stop = store.length(key)
    return Segment(
        offset=offset,
        start=stop - count,
        stop=stop,
        slots=store.slots(key, 0, stop).clone(),
        rules=AttentionState(**rules),
    )


def outputs(memory: KeyValueBlocks, segments: list[Segment], *backends: Any) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    count = sum(one.count for one in segments)
    query, key, value = (torch.randn(1, heads, count, 16, generator=generator) for heads in (4, 2, 2))
    return [
        PagedBatch(memory, segments, backend).attend(0, query, key, value, scale=0.25) for backend in backends
    ]


def test_blocks_shared_by_sequences_are_read_by_each_at_its_own_place() -> None:
    """A cached prefix under another beginning's length, a clone, and the copy one of them wrote into."""
    memory, store = filled()
    store.open(0)
    store.append(0, 14)
    store.commit(0, 14)
    store.clone(0, 1)
    store.append(1, 1)  # copies the block they share the end of
    store.append(0, 1)
    store.open(2, store.blocks(0)[:2])
    store.append(2, 7)
    assert len({store.blocks(key)[0] for key in range(3)}) == 1 and store.blocks(0)[3] != store.blocks(1)[3]
    segments = [segment(store, 0, 1, 0), segment(store, 1, 1, 1), segment(store, 2, 7, 2)]
    backend = FlexBackend()
    got, want = outputs(memory, segments, backend, ReferenceBackend())
    assert backend.failure is None
    assert torch.allclose(got, want, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_what_a_tile_may_see_lies_in_the_blocks_listed_for_it(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 40), "tokens")
    start = data.draw(st.integers(0, total - 1), "start")
    size, height = data.draw(st.integers(1, 5), "block size"), data.draw(st.integers(1, 9), "height")
    window = data.draw(st.sampled_from([None, 1, 4, 11]), "window")
    groups = None
    if data.draw(st.booleans(), "has groups"):
        groups = torch.tensor(data.draw(st.lists(st.integers(-1, 2), min_size=1, max_size=total), "groups"))
    rules = AttentionState(groups=groups, window_cuts_groups=data.draw(st.booleans(), "cut"))
    one = Segment(offset=0, start=start, stop=total, slots=torch.arange(total), rules=rules)
    allowed = rules.mask(total - start, total, window, torch.device("cpu"))
    if allowed is None:
        allowed = torch.ones(1, total, dtype=torch.bool)
    for first in range(start, total, height):
        last = min(first + height, total)
        low, high = in_sight(one, first, last, size, window)
        seen = allowed[first - start : last - start].any(dim=0).nonzero()
        assert low * size <= int(seen.min()) and int(seen.max()) < high * size
        assert high <= -(-total // size)


def test_tiles_hold_one_sequence_each_and_list_no_block_but_its_own() -> None:
    memory, store = filled()
    for key, total in enumerate((9, 30, 5)):
        store.open(key)
        store.append(key, total)
    segments = [segment(store, 0, 1, 0), segment(store, 1, 11, 1), segment(store, 2, 5, 12)]
    tiles = cut_into_tiles(segments, memory, height=4, window=8)
    real = tiles.counts.flatten() > 0
    assert tiles.sequences[real].tolist() == [0, 1, 1, 1, 2, 2]
    assert tiles.positions[1].tolist() == [19, 20, 21, 22] and tiles.positions[3].tolist() == [27, 28, 29, -1]
    assert sorted(tiles.rows.tolist()) == list(range(17))
    assert torch.equal(tiles.tokens.flatten()[tiles.filled], tiles.rows)
    for tile in real.nonzero()[:, 0].tolist():
        listed = tiles.blocks[tile, 0, 0, : int(tiles.counts[tile])].tolist()
        key = int(tiles.sequences[tile])
        assert [store.blocks(key)[int(tiles.logical[key, block])] for block in listed] == listed
        first = int(tiles.positions[tile, 0])
        assert int(tiles.logical[key, listed[0]]) == max(0, first - 7) // 4  # nothing before the window
    assert [padded(count) for count in (1, 16, 17, 64, 65)] == [16, 16, 32, 64, 128]


def test_values_behind_a_block_that_begins_now_are_the_only_ones_to_clean() -> None:
    memory, store = filled()
    for key, total in enumerate((9, 10, 12, 7)):
        store.open(key)
        store.append(key, total)
    begun, goes_on, full, prompt = (segment(store, key, 1, key) for key in range(4))
    prompt.start = 2
    expected = []
    for key, last in ((0, 9), (3, 7)):
        block = store.blocks(key)[-1]
        expected += [block * 4 + place for place in range(last % 4, 4)]
    tails = begun_tails([begun, goes_on, full, prompt], memory.block_size)
    assert tails is not None and tails.tolist() == expected
    assert begun_tails([goes_on, full], memory.block_size) is None


@pytest.mark.parametrize(("sharing", "most"), [(2, 4), (3, 2)])
def test_a_decode_loop_is_compiled_a_few_times_only(sharing: int, most: int) -> None:
    """Lengths grow and sequences come; dynamo's graphs are counted, and run without a code generator.

    torch's decoding kernel wants the number of tiles fixed (16, 32, 64); else any number is one kernel. One more
    each for sizes that were equal in the first batch.
    """
    memory = KeyValueBlocks([SHAPE], 400, 4)
    module = PagedFlex(
        block_size=4, scale=0.25, window=None, softcap=None, sinks=False, options={"BACKEND": "AUTO"}
    )
    counter = CompileCounterWithBackend("eager")
    kernel = compile_kernel(module, fixed_tiles=sharing == 2, backend=counter)
    with torch.inference_mode():
        for count, total in ((1, 3), (2, 9), (5, 90), (16, 70), (17, 40), (20, 50), (40, 8)):
            segments = [
                Segment(
                    offset=index,
                    start=total - 1,
                    stop=total,
                    slots=torch.arange(total) + 40 * index,  # overlapping: what is read is not the point
                    rules=AttentionState(),
                )
                for index in range(count)
            ]
            tiles = cut_into_tiles(segments, memory, height=1, window=None)
            query = torch.zeros(tiles.tokens.shape[0], 2 * sharing, 1, 16)
            keys, values = (part[0].zero_().transpose(0, 1)[None] for part in (memory.keys, memory.values))
            output, lse = kernel(
                query,
                keys,
                values,
                tiles.positions,
                tiles.sequences,
                tiles.counts,
                tiles.blocks,
                tiles.logical,
                tiles.groups,
                tiles.cuts,
            )
            assert output.shape == query.shape and lse is None
    assert 1 <= counter.frame_count <= most


def test_kernels_that_fail_leave_the_work_to_the_reference_and_say_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**settings: Any) -> Any:
        raise RuntimeError("no room in shared memory\nand a long trace")

    monkeypatch.setattr(flex, "paged_flex", broken)
    memory, store = filled()
    store.open(0)
    store.append(0, 6)
    backend, one = FlexBackend(), segment(store, 0, 1, 0)
    with caplog.at_level(logging.WARNING, logger=flex.__name__):
        first, again, want = outputs(memory, [one], backend, backend, ReferenceBackend())
    assert torch.equal(first, want) and torch.equal(again, want)
    (record,) = caplog.records
    assert "reference takes over: RuntimeError: no room in shared memory" in record.getMessage()
    assert "trace" not in record.getMessage()


def test_lack_of_memory_is_no_fault_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**settings: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    memory, store = filled()
    store.open(0)
    store.append(0, 6)
    backend, one = FlexBackend(), segment(store, 0, 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(flex, "paged_flex", full)
        with pytest.raises(torch.OutOfMemoryError):
            outputs(memory, [one], backend)
    got, want = outputs(memory, [one], backend, ReferenceBackend())
    assert backend.failure is None and torch.allclose(got, want, atol=1e-5)


def test_queries_of_another_dtype_than_the_cache_go_to_the_reference() -> None:
    memory = KeyValueBlocks([SHAPE], 4, 4, dtype=torch.bfloat16)
    store = PagedKeyValueStore(BlockPool(4), memory)
    store.open(0)
    store.append(0, 3)
    got, want = outputs(memory, [segment(store, 0, 3, 0)], FlexBackend(), ReferenceBackend())
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"device": "meta"}, "the kernels are for CUDA, the cache is on meta"),
        ({"dtype": torch.float64}, "float64"),
        ({"size": 24}, "a block has 24 tokens, the kernels want a power of two from 16"),
        ({"size": 8}, "a block has 8 tokens"),
        ({"width": 8}, "heads are 8 wide, the kernels want 16 or more"),
    ],
)
def test_refusals_say_what_does_not_fit(fields: dict[str, Any], reason: str) -> None:
    settings_ = {"device": "cuda", "dtype": torch.float32, "size": 16, "width": 64, **fields}
    shape = LayerShape(heads=2, key_width=settings_["width"], value_width=64)
    with FakeTensorMode():  # tensors that only say where they would be
        memory = KeyValueBlocks(
            [shape], 4, settings_["size"], dtype=settings_["dtype"], device=settings_["device"]
        )
    refusal = FlexBackend.refusal(memory)
    assert refusal is not None and reason in refusal
    with pytest.raises(FoveateError, match="'flex' cannot be used here"):
        choose_backend(memory, "flex")


def test_the_probe_finds_kernels_that_are_wrong_or_do_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    case = ((SHAPE, LayerShape(heads=1, key_width=24, value_width=40)), 16)
    assert probe.__wrapped__(*case, torch.float32, torch.device("cpu")) is None
    assert probe.__wrapped__(*case, torch.bfloat16, torch.device("cpu")) is None
    attend = FlexBackend._attend

    def off(self: FlexBackend, batch: PagedBatch, call: Call) -> torch.Tensor:
        output = attend(self, batch, call)
        output[:, :, -1, 0] += 0.1
        return output

    def lost(self: FlexBackend, batch: PagedBatch, call: Call) -> torch.Tensor:
        return attend(self, batch, call) * float("nan")

    def broken(self: FlexBackend, batch: PagedBatch, call: Call) -> torch.Tensor:
        raise RuntimeError("no such instruction")

    for wrong, reason in (
        (off, "off by"),
        (lost, "off by nan"),
        (broken, "do not compile here (RuntimeError: no"),
    ):
        monkeypatch.setattr(FlexBackend, "_attend", wrong)
        said = probe.__wrapped__(*case, torch.float32, torch.device("cpu"))
        assert said is not None and reason in said


def test_on_a_cpu_it_runs_only_when_asked_for() -> None:
    memory, _ = filled(size=3)
    assert choose_backend(memory)[0].name != "flex"
    backend, reason = choose_backend(memory, "flex")
    assert backend.name == "flex" and reason == "flex: asked for"
    assert FlexBackend.only_on_request(memory) == "on a CPU it runs uncompiled"


def test_an_engine_on_it_answers_as_ever(nano: Any) -> None:
    """A picture and a text, chunks and decoding, through every layer of a real model."""
    picture, words = (
        nano.ask("what colour is it?", nano.pictures(1, seed=4)),
        nano.ask("what is a circle?", []),
    )
    answers = []
    for name in ("reference", "flex"):
        config = EngineConfig(attention=name, kv_blocks=60, max_step_tokens=64, max_sequences=4, poison=True)
        engine = Engine(nano.model, config)
        ids = [engine.add_request(prompt, SamplingParameters(max_tokens=6)) for prompt, _ in (picture, words)]
        tokens: dict[str, list[int]] = {one: [] for one in ids}
        while engine.has_work:
            for output in engine.step():
                tokens[output.request_id] += output.token_ids
        answers.append([tokens[one] for one in ids])
    assert answers[0] == answers[1] and all(answers[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sharing", [1, 2, 3])
@pytest.mark.parametrize(
    ("window", "softcap", "sinks"), [(None, None, False), (20, None, True), (None, 5.0, False)]
)
def test_on_a_gpu_the_compiled_kernels_equal_the_reference(
    dtype: torch.dtype, sharing: int, window: int | None, softcap: float | None, sinks: bool
) -> None:
    """Steps that grow, as in an engine; unwritten memory is NaN."""
    shape = LayerShape(heads=2, key_width=64, value_width=64)
    memory = KeyValueBlocks([shape], 64, 16, dtype=dtype, device="cuda", poison=True)
    backend, reason = choose_backend(memory)
    assert isinstance(backend, FlexBackend), reason
    store, reference, heads = PagedKeyValueStore(BlockPool(64), memory), ReferenceBackend(), 2 * sharing
    generator = torch.Generator().manual_seed(3)
    counts = [37, 5, 70]
    for key in range(3):
        store.open(key)
    for _ in range(20):
        segments = []
        for key, count in enumerate(counts):
            store.append(key, count)
            one = segment(store, key, count, sum(counts[:key]), groups=torch.tensor([-1, 0, 0, 0, -1]))
            one.slots = one.slots.cuda()
            segments.append(one)
        query, key_, value = (
            torch.randn(1, wide, sum(counts), 64, generator=generator).to("cuda", dtype)
            for wide in (heads, 2, 2)
        )
        got, want = (
            PagedBatch(memory, segments, each).attend(
                0,
                query,
                key_,
                value,
                scale=0.125,
                window=window,
                softcap=softcap,
                sinks=torch.linspace(-1, 1, heads, device="cuda") if sinks else None,
            )
            for each in (backend, reference)
        )
        assert torch.allclose(got.float(), want.float(), atol=2e-3 if dtype == torch.float32 else 3e-2)
        counts = [1, 1, 1]
    assert backend.failure is None
