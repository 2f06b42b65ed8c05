"""Random arrivals, aborts, failures and tiny pools: no leak, no starvation, every request ends, with the right
answer.

The short profile runs by default; `pytest -m stress` runs the long one (FOVEATE_STRESS_SECONDS, 600 by default).
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest
from fake_vision_model import FakeModel, fake_image, fake_prompt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import Completion, RequestError, SamplingParameters
from foveate.models.records import Prompt

# Few different tokens and images, so that prompts often begin alike.
PARTS = st.lists(
    st.one_of(
        st.integers(1, 3),
        st.tuples(st.integers(0, 2), st.sampled_from([2, 5])).map(lambda pair: fake_image(*pair)),
    ),
    min_size=1,
    max_size=12,
)
SEEDS = st.one_of(st.none(), st.integers(0, 5))
MOST_STEPS = 3000
TORN = fake_image(9, 2)  # no step that encodes it succeeds


class FragileModel(FakeModel):
    """Fails on one picture."""

    def encode(self, media: Any) -> Any:
        if any(one.digest == TORN.digest for one in media):
            raise RuntimeError("a torn picture")
        return super().encode(media)


class EngineMachine(RuleBasedStateMachine):
    """One engine, whatever callers do to it."""

    @initialize(
        block_size=st.integers(1, 4),
        blocks=st.integers(6, 20),
        encoder_tokens=st.sampled_from([5, 8, 30]),
        max_sequences=st.integers(1, 5),
        spare=st.integers(1, 9),
        prefix_caching=st.booleans(),
        bidirectional=st.booleans(),
        attention=st.sampled_from(["reference", "cpu-batched"]),
    )
    def begin(
        self,
        block_size: int,
        blocks: int,
        encoder_tokens: int,
        max_sequences: int,
        spare: int,
        prefix_caching: bool,
        bidirectional: bool,
        attention: str,
    ) -> None:
        self.model = FragileModel(bidirectional=bidirectional)
        config = EngineConfig(
            block_size=block_size,
            kv_blocks=blocks,
            encoder_cache_bytes=4 * encoder_tokens,
            max_sequences=max_sequences,
            max_step_tokens=max_sequences + spare,
            prefix_caching=prefix_caching,
            attention=attention,
            poison=True,
        )
        self.engine = self.make_engine(config)
        schedule = self.engine.scheduler.schedule

        def watched(only: frozenset[str] | None) -> Any:
            plan = schedule(only)
            assert plan.works or only is not None, "somebody waits and nobody runs"
            places = sum(one.slots for one in self.engine.scheduler.running)
            assert places <= self.engine.config.max_sequences, "more answers run than may"
            if plan.tokens > self.engine.config.max_step_tokens:
                prompts = [work for work in plan.works if work.phase == "prefill"]
                assert len(prompts) == 1, "a span larger than a step shares it with other prompts"
            running = {id(work.sequence) for work in plan.works}
            for sequence in self.engine.scheduler.running:
                left_out = sequence.is_decoding and id(sequence) not in running
                tried = only is None or sequence.request.id in only
                assert not (tried and left_out), "an answer was left out of a step"
            for work in plan.works:
                assert only is None or work.sequence.request.id in only, "another's step was shared"
            for work in plan.works:
                assert work.sequence.layout.cut(0, work.stop) == work.stop, "a span was cut"
            return plan

        self.engine.scheduler.schedule = watched  # type: ignore[method-assign]
        self.requests: dict[str, tuple[Prompt, SamplingParameters]] = {}
        self.answers: dict[str, dict[int, Completion]] = {}
        self.aborted: set[str] = set()

    def make_engine(self, config: EngineConfig) -> Engine:
        return Engine(self.model, config)  # type: ignore[arg-type]

    @rule(
        parts=PARTS,
        max_tokens=st.integers(1, 10),
        priority=st.integers(0, 2),
        tenant=st.sampled_from(["", "other"]),
        n=st.integers(1, 3),
        seed=SEEDS,
        speculate=st.booleans(),
    )
    def arrive(
        self,
        parts: list[Any],
        max_tokens: int,
        priority: int,
        tenant: str,
        n: int,
        seed: int | None,
        speculate: bool = True,
    ) -> None:
        prompt = fake_prompt(parts)
        parameters = SamplingParameters(max_tokens=max_tokens, speculate=speculate)
        if seed is not None:
            parameters = replace(parameters, temperature=1.5, seed=seed, n=n)
        try:
            name = self.engine.add_request(prompt, parameters, priority=priority, tenant=tenant)
        except RequestError:
            return  # too large for this tiny engine
        self.requests[name] = (prompt, parameters)

    @rule(
        parts=PARTS,
        place=st.integers(0, 12),
        priority=st.integers(0, 2),
        n=st.sampled_from([1, 3]),
        seed=SEEDS,
    )
    def arrive_torn(self, parts: list[Any], place: int, priority: int, n: int, seed: int | None) -> None:
        self.arrive([*parts[:place], TORN, *parts[place:]], 4, priority, "", n, seed)

    @rule()
    def step(self) -> None:
        self.collect()

    @rule(count=st.integers(2, 6))
    def several_steps(self, count: int) -> None:
        for _ in range(count):
            self.collect()

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        live = [name for name in self.requests if name in self.engine._answers]
        if live:
            name = data.draw(st.sampled_from(live))
            assert self.engine.abort(name)
            self.aborted.add(name)

    @invariant()
    def nothing_leaks(self) -> None:
        if hasattr(self, "engine"):
            self.engine.check_integrity()

    def collect(self) -> None:
        try:
            outputs = self.engine.step()
        except RuntimeError as error:
            assert str(error) == "a torn picture"
            return
        for output in outputs:
            answers = self.answers.setdefault(output.request_id, {})
            answers.setdefault(output.index, Completion(index=output.index)).add(output)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for _ in range(MOST_STEPS):
            if not self.engine.has_work:
                break
            self.collect()
        assert not self.engine.has_work, "somebody starves"
        self.engine.check_integrity()
        assert self.engine.store.pool.in_use == 0
        for name, (prompt, parameters) in self.requests.items():
            got = self.answers[name]
            if name in self.aborted:
                assert any(one.finish_reason == "abort" for one in got.values())
                continue
            if any(one.digest == TORN.digest for one in prompt.media):
                assert {one.finish_reason for one in got.values()} == {"error"}
                continue
            assert len(got) == parameters.n
            if parameters.temperature == 0:
                assert got[0].token_ids == self.model.foretell(prompt, parameters.max_tokens)
            else:
                alone = Engine(FakeModel(), EngineConfig(kv_blocks=60, encoder_cache_bytes=4000))  # type: ignore[arg-type]
                assert [got[index] for index in sorted(got)] == alone.generate(prompt, parameters)


def test_short() -> None:
    quick = settings(
        max_examples=60,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(EngineMachine, settings=quick)


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_long() -> None:
    """New examples until the time is over."""
    end = time.monotonic() + float(os.environ.get("FOVEATE_STRESS_SECONDS", "600"))
    long = settings(
        max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
    )
    rounds = 0
    while time.monotonic() < end:
        run_state_machine_as_test(EngineMachine, settings=long)
        rounds += 1
    assert rounds > 0
