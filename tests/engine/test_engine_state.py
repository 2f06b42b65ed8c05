"""Blocks, tables and what a state store promises: reference counts, copy-on-write, rollback, poison."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.engine.cache import BlockPool, KeyValueBlocks, LayerShape
from foveate.engine.head import OutputHead
from foveate.engine.positions import PositionTrack, pack_positions
from foveate.engine.state import PagedKeyValueStore, StateOperation, UnsupportedStateError

SHAPE = LayerShape(heads=1, key_width=2, value_width=3)


def make_store(blocks: int = 8, block_size: int = 4) -> PagedKeyValueStore:
    memory = KeyValueBlocks([SHAPE, SHAPE], blocks, block_size, poison=True)
    return PagedKeyValueStore(BlockPool(blocks), memory)


def write(store: PagedKeyValueStore, key: int, values: list[float]) -> None:
    """Appends tokens whose keys and values are all `value`."""
    start = store.length(key)
    store.append(key, len(values))
    slots = store.slots(key, start, start + len(values))
    column = torch.tensor(values)[:, None, None]
    for layer in range(2):
        store.memory.write(layer, slots, column.expand(-1, 1, 2), column.expand(-1, 1, 3))


def read(store: PagedKeyValueStore, key: int) -> list[float]:
    slots = store.slots(key, 0, store.length(key))
    keys, values = store.memory.gather(1, slots)
    assert torch.equal(keys[:, 0, 0], values[:, 0, 2])
    return keys[:, 0, 0].tolist()


def test_a_block_is_counted_remembered_and_taken_in_order_of_use() -> None:
    pool = BlockPool(3)
    evicted: list[int] = []
    discarded: list[int] = []
    pool.on_evict, pool.on_discard = evicted.append, discarded.append
    first, second = pool.allocate(), pool.allocate()
    pool.remember(first)
    pool.remember(second)
    pool.retain(first)
    pool.release(first)
    assert (pool.in_use, pool.idle, pool.available) == (2, 0, 1)
    pool.release(first)
    pool.release(second)
    assert (pool.in_use, pool.idle, pool.available) == (0, 2, 3)
    pool.retain(first)  # asked for again: now the most recently used
    pool.release(first)
    third = pool.allocate()
    assert third not in (first, second) and not evicted
    assert pool.allocate() == second
    assert evicted == discarded == [second]
    assert pool.allocate() == first
    with pytest.raises(AssertionError, match="no block left"):
        pool.allocate()
    pool.check_integrity([[first, second], [third]])
    with pytest.raises(AssertionError, match="references"):
        pool.check_integrity([[first, second]])
    pool.release(third)
    with pytest.raises(AssertionError, match="once too often"):
        pool.release(third)


def test_a_clone_shares_until_one_of_them_writes() -> None:
    store = make_store()
    store.open(1)
    write(store, 1, [1, 2, 3, 4, 5, 6])
    store.clone(1, 2)
    assert store.pool.in_use == 2 and store.blocks(1) == store.blocks(2)
    write(store, 2, [70])
    assert store.pool.in_use == 3 and store.blocks(1)[0] == store.blocks(2)[0]
    write(store, 1, [80, 90])
    assert read(store, 1) == [1, 2, 3, 4, 5, 6, 80, 90]
    assert read(store, 2) == [1, 2, 3, 4, 5, 6, 70]
    store.check_integrity()
    store.close(1)
    assert read(store, 2) == [1, 2, 3, 4, 5, 6, 70]
    store.close(2)
    assert store.pool.in_use == 0
    store.check_integrity()


def test_reserved_blocks_cannot_pay_for_the_copy_of_a_shared_one() -> None:
    store = make_store(blocks=4)
    store.open(1)
    write(store, 1, [1, 2])
    store.reserve(1, 12)  # three blocks, of which one is in use
    store.clone(1, 2)
    store.open(3)
    write(store, 3, [9])  # the last free block
    assert not store.can_hold(1, 3) and not store.can_hold(2, 3)
    store.close(3)
    assert store.can_hold(1, 3)
    write(store, 1, [3])
    assert read(store, 1) == [1, 2, 3] and read(store, 2) == [1, 2]


def test_rollback_keeps_what_is_committed() -> None:
    store = make_store()
    store.open(1)
    write(store, 1, [1, 2, 3, 4, 5])
    store.commit(1, 3)
    write(store, 1, [6, 7, 8, 9])
    store.rollback(1, 4)
    assert read(store, 1) == [1, 2, 3, 4] and store.pool.in_use == 1
    with pytest.raises(AssertionError):
        store.rollback(1, 2)
    assert store.bytes(1) == store.memory.block_bytes == 4 * 2 * 5 * 4


def test_freed_blocks_are_poisoned() -> None:
    store = make_store()
    store.open(1)
    write(store, 1, [1, 2, 3])
    slots = store.slots(1, 0, 3).clone()
    store.close(1)
    for tensor in store.memory.gather(0, slots):
        assert bool(tensor.isnan().all())


def test_what_a_kind_cannot_do_is_refused_by_name() -> None:
    store = make_store()
    store.require(StateOperation.ROLLBACK, StateOperation.CLONE, purpose="Tree speculation")
    with pytest.raises(
        UnsupportedStateError, match=r"Streaming needs state that can evict: paged-kv can append"
    ):
        store.require(StateOperation.EVICT, purpose="Streaming")
    with pytest.raises(UnsupportedStateError):
        store.evict(1, [0])


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_sequence_of_operations_against_plain_lists(data: st.DataObject) -> None:
    store, model, committed = make_store(blocks=6, block_size=2), {}, {}
    for step in range(data.draw(st.integers(1, 25))):
        key = data.draw(st.integers(0, 3))
        actions = ["append", "rollback", "clone", "close", "commit", "reserve", "select", "select"]
        action = data.draw(st.sampled_from(actions))
        if key not in model:
            store.open(key)
            model[key], committed[key] = [], 0
        elif action in ("append", "reserve"):
            count = data.draw(st.integers(1, 3))
            if not store.can_hold(key, len(model[key]) + count):
                continue
            if action == "reserve":
                store.reserve(key, len(model[key]) + count)
            else:
                new = [float(100 * step + index) for index in range(count)]
                write(store, key, new)
                model[key] = model[key] + new
        elif action == "commit":
            committed[key] = data.draw(st.integers(committed[key], len(model[key])))
            store.commit(key, committed[key])
        elif action == "rollback":
            length = data.draw(st.integers(committed[key], len(model[key])))
            store.rollback(key, length)
            model[key] = model[key][:length]
        elif action == "select":
            if any(store.pool.references(block) > 1 for block in store.blocks(key)):
                continue  # the engine splits answers off where no draft is tried
            open_places = range(committed[key], len(model[key]))
            kept = [place for place in open_places if data.draw(st.booleans())]
            store.select(key, kept)
            model[key] = model[key][: committed[key]] + [model[key][place] for place in kept]
            committed[key] = len(model[key])
        elif action == "clone":
            target = next((one for one in range(4) if one not in model), None)
            if target is not None:
                store.clone(key, target)
                model[target], committed[target] = list(model[key]), committed[key]
        else:
            store.close(key)
            del model[key], committed[key]
        store.check_integrity()
        for other, expected in model.items():
            assert read(store, other) == expected
    for key in model:
        store.close(key)
    assert store.pool.available == 6


@pytest.mark.parametrize("budget", [1, 2, 5, 100])
def test_the_head_projects_the_rows_asked_for_and_no_more(budget: int) -> None:
    weight, projected = torch.randn(11, 6), []

    class Model:
        def head(self, hidden: torch.Tensor) -> torch.Tensor:
            projected.append(hidden.shape[0])
            return hidden @ weight.T

    hidden, rows = torch.randn(1, 9, 6), [7, 0, 3, 3, 8]
    pieces = list(OutputHead(Model(), budget).project(hidden, rows))  # type: ignore[arg-type]
    assert [first for first, _ in pieces] == list(range(0, 5, budget))
    assert torch.allclose(torch.cat([piece for _, piece in pieces]), (hidden[0] @ weight.T)[rows], atol=1e-5)
    assert sum(projected) == 5 and max(projected) <= budget


def test_positions_go_on_after_the_prompt() -> None:
    line = PositionTrack(table=torch.tensor([[0, 1, 2]]), following=3)
    assert line.slice(0, 2).tolist() == [[0, 1]]
    assert line.slice(2, 5).tolist() == [[2, 3, 4]]
    assert line.slice(5, 7).tolist() == [[5, 6]]
    # An image of 2 x 2 tokens after one of text: text goes on at its largest position plus one.
    cube = PositionTrack(table=torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 2, 2], [0, 1, 2, 1, 2]]), following=3)
    assert cube.slice(4, 6).tolist() == [[1, 3], [2, 3], [2, 3]]
    packed = pack_positions([cube.slice(0, 1), cube.slice(6, 7)], "cpu")
    assert packed.shape == (3, 1, 2) and packed[:, 0].tolist() == [[0, 4]] * 3
    assert pack_positions([line.slice(2, 3), line.slice(9, 10)], "cpu").tolist() == [[2, 9]]
