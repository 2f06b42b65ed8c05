"""Drafts on the engine's floor: tree attention path by path, and random arrivals, aborts and tiny pools with drafts."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from fake_vision_model import END, IMAGE, VOCABULARY, FakeModel, fake_image, fake_prompt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from scripted_drafts import RecordingDraft, SpoiledDraft
from test_engine_attention import backends
from test_engine_stateful import EngineMachine

from foveate.decode.drafts.base import DraftRequest
from foveate.decode.settings import SpeculationSettings
from foveate.decode.tree import DraftTree
from foveate.engine.attention import PagedBatch, Segment
from foveate.engine.cache import BlockPool, KeyValueBlocks, LayerShape
from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.positions import PositionTrack, draft_positions
from foveate.engine.request import SamplingParameters
from foveate.engine.state import PagedKeyValueStore
from foveate.models.attention import AttentionState, KeyValueCache

TREES = st.lists(st.integers(0, 99), min_size=1, max_size=7).map(
    lambda numbers: DraftTree(
        tuple(numbers), tuple(number % (node + 1) - 1 for node, number in enumerate(numbers))
    )
)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_node_sees_its_path_and_what_was_before(data: st.DataObject) -> None:
    """Every node of a tree equals the last token of a plain sequence that goes along its path; every backend."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9999), "seed"))
    heads, groups = data.draw(st.sampled_from([(4, 2), (2, 2)]), "heads")
    size = data.draw(st.sampled_from([1, 3, 4]), "block size")
    window = data.draw(st.sampled_from([None, 1, 2, 3, 6]), "window")
    softcap = data.draw(st.sampled_from([None, 0.7]), "softcap")
    memory = KeyValueBlocks([LayerShape(heads=groups, key_width=8, value_width=8)], 90, size, poison=True)
    store = PagedKeyValueStore(BlockPool(90), memory)
    store.pool.allocate()
    segments, packed, wanted, offset = [], [], [], 0
    for key in range(data.draw(st.integers(1, 3), "sequences")):
        before = data.draw(st.integers(0, 9), "tokens before")
        draft = data.draw(st.one_of(st.none(), TREES), "draft")
        count = 1 if draft is None else 1 + len(draft)
        q = torch.randn(1, heads, count, 8, generator=generator)
        k, v = (torch.randn(1, groups, before + count, 8, generator=generator) for _ in range(2))
        for node in range(-1, count - 1):
            path = [] if draft is None or node < 0 else draft.path(node)
            rows = [*range(before + 1), *(before + 1 + one for one in path)]
            alone = AttentionState(KeyValueCache())
            if len(rows) > 1:
                alone.update(0, k[:, :, rows[:-1]], v[:, :, rows[:-1]])
            last = rows[-1:]
            wanted.append(
                alone.attend(
                    0, q[:, :, node + 1 : node + 2], k[:, :, last], v[:, :, last], scale=0.3, window=window,
                    softcap=softcap,
                )
            )  # fmt: skip
        store.open(key)
        store.append(key, before + count)
        slots = store.slots(key, 0, before + count)
        memory.write(0, slots[:before], k[0, :, :before].transpose(0, 1), v[0, :, :before].transpose(0, 1))
        segments.append(
            Segment(
                offset=offset,
                start=before,
                stop=before + count,
                slots=slots,
                rules=AttentionState(None, None),
                tree=None if draft is None or draft.is_chain else draft.visible,
            )
        )
        packed.append((q, k[:, :, before:], v[:, :, before:]))
        offset += count
    q, k, v = (torch.cat(parts, dim=2) for parts in zip(*packed, strict=True))
    for backend in backends(memory):
        got = PagedBatch(memory, segments, backend).attend(
            0, q, k, v, scale=0.3, window=window, softcap=softcap
        )
        assert torch.allclose(got, torch.cat(wanted, dim=2), atol=1e-5), backend.name
        assert getattr(backend, "failure", None) is None


@pytest.mark.parametrize("rows", [1, 3])
def test_positions_of_a_draft_are_the_prefix_and_its_depth(rows: int) -> None:
    """Under M-RoPE all three axes go on from the largest position so far."""
    table = torch.tensor([[0, 1, 1, 5]]).repeat(rows, 1)
    track = PositionTrack(table=table, following=6)
    tree = DraftTree((1, 2, 3, 4), (-1, -1, 0, 2))
    assert draft_positions(track, 7, tree).tolist() == [[9, 9, 10, 11]] * rows
    assert draft_positions(track, 7, DraftTree.chain([1, 2, 3])).tolist() == [[9, 10, 11]] * rows


def fake_guess(request: DraftRequest, path: Sequence[int]) -> Sequence[int]:
    """The fake model's likeliest next tokens, by the plain Python that foretells its answers."""
    prompt = request.prompt
    numbers = [float(token) for token in request.read(0, request.length)]
    for item, (first, last) in zip(prompt.media, prompt.spans, strict=True):
        numbers[first:last] = item.tensors["pixel_values"][:, 0].tolist()
    numbers += [float(token) for token in path]
    total = sum(number * (place + 1) % VOCABULARY for place, number in enumerate(numbers))
    best = int((31 * round(total) + 7 * numbers[-1] + 11) % VOCABULARY)
    return [best, *((best + step) % VOCABULARY for step in range(1, 4))]


def test_the_guess_is_the_fake_models() -> None:
    model = FakeModel()
    prompt = fake_prompt([3, fake_image(1, 2), 2])
    answer = model.foretell(prompt, 6)
    tokens = [*prompt.token_ids, *answer]
    for place in range(1, len(answer)):
        length = len(prompt.token_ids) + place - 1
        request = DraftRequest(
            key=0, prompt=prompt, length=length, read=lambda a, b: tokens[a:b], depth=1, nodes=1
        )
        assert fake_guess(request, [])[0] == answer[place - 1]
    assert IMAGE != END


class SpeculativeMachine(EngineMachine):
    """The same requests, priorities, aborts, failures and tiny pools, with drafts of every shape; the answers are
    those foretold, or those of an engine without drafts, and nothing leaks."""

    engines: ClassVar[list[Engine]] = []

    def make_engine(self, config: EngineConfig) -> Engine:
        # From the example alone: the same one must go the same way again. Each look at the clock takes a second.
        number = config.block_size + 3 * (config.kv_blocks or 0) + 5 * config.max_step_tokens
        kind = RecordingDraft if number % 3 == 0 and not config.prefix_caching else SpoiledDraft
        draft: Any = kind(
            fake_guess,
            VOCABULARY,
            tree=number % 2 == 0,
            wrong=0.3,
            depth=1 + number % 4,
            nodes=1 + number % 7,
            seed=number,
        )
        speculation = SpeculationSettings(adaptive=number % 5 == 0)
        config = EngineConfig(**{**vars(config), "speculation": speculation})
        clock = partial(next, map(float, itertools.count()))
        engine = Engine(self.model, config, draft=draft, clock=clock)  # type: ignore[arg-type]
        self.engines.append(engine)
        return engine

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "engine"):
            assert self.engine._speculation is not None
            assert self.engine._speculation.failure is None, self.engine._speculation.failure
            assert all(answer.accepted is None for answer in self.engine.scheduler.running)


def test_random_arrivals_and_aborts_with_drafts() -> None:
    SpeculativeMachine.engines.clear()
    quick = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,  # what is counted below must not be a matter of luck; the long run draws new ones
    )
    run_state_machine_as_test(SpeculativeMachine, settings=quick)
    counts = [engine.statistics() for engine in SpeculativeMachine.engines]
    assert sum(one.accepted_tokens for one in counts) > 30, "nothing was accepted: nothing was tested"
    assert sum(one.draft_tokens - one.accepted_tokens for one in counts) > 100


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_long_with_drafts() -> None:
    """New examples until the time is over."""
    end = time.monotonic() + float(os.environ.get("FOVEATE_STRESS_SECONDS", "600"))
    long = settings(
        max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    rounds = 0
    while time.monotonic() < end:
        SpeculativeMachine.engines.clear()
        run_state_machine_as_test(SpeculativeMachine, settings=long)
        rounds += 1
    assert rounds > 0


def test_sampled_answers_of_the_fake_model_match() -> None:
    """A guess is right now and then; what is drawn is what is drawn without."""
    model, prompts = FakeModel(), [fake_prompt([1, 2, number]) for number in range(6)]
    runs = []
    speculation = SpeculationSettings(adaptive=False)
    for draft in (None, SpoiledDraft(fake_guess, VOCABULARY, tree=True, nodes=12, depth=4, wrong=0.1)):
        engine = Engine(
            model, EngineConfig(kv_blocks=80, encoder_cache_bytes=400, speculation=speculation), draft=draft
        )  # type: ignore[arg-type]
        names = [
            engine.add_request(prompt, SamplingParameters(max_tokens=30, temperature=0.4, seed=number, n=2))
            for number, prompt in enumerate(prompts)
        ]
        answers = engine.run_to_completion()
        runs.append([answers[name] for name in names])
    assert runs[0] == runs[1]
    assert engine.statistics().accepted_tokens > 30
