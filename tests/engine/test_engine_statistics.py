"""Where time went: per request and for the engine, by a clock that ticks once a reading."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
from fake_vision_model import FakeModel, fake_image, fake_prompt

from foveate.engine.config import EngineConfig
from foveate.engine.engine import Engine
from foveate.engine.request import SamplingParameters
from foveate.engine.statistics import EngineStatistics, Event, RequestStatistics


def greedy(count: int) -> SamplingParameters:
    return SamplingParameters(max_tokens=count, ignore_end=True)


def test_times_and_counters_add_up() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    events: list[Event] = []
    config = EngineConfig(kv_blocks=20, block_size=4, encoder_cache_bytes=400)
    engine = Engine(FakeModel(), config, on_event=events.append, clock=clock)
    prompt = fake_prompt([1, 2, 3, fake_image(1, 6), 4])
    engine.add_request(prompt, greedy(4), request_id="x", preprocess_seconds=5.0, preprocess_wait_seconds=2.0)
    engine.run_to_completion()
    one = engine.request_statistics("x")
    assert one is not None and one.ended is not None
    parts = (one.queue_seconds, one.encode_seconds, one.prefill_seconds, one.decode_seconds)
    assert all(part is not None and part > 0 for part in parts)
    assert sum(part or 0 for part in parts) == one.ended - one.arrival
    assert one.time_to_first_token == 7.0 + (one.first_token or 0) - one.arrival
    assert (one.encoded_images, one.generated_tokens, one.cached_tokens) == (1, 4, 0)
    totals = engine.statistics()
    assert (totals.steps, totals.tokens, totals.finished) == (4, 10 + 3, 1)
    assert (totals.blocks_in_use, totals.running, totals.waiting) == (0, 0, 0)
    assert [event.kind for event in events].count("step") == 4
    assert events[-2].kind == "finished" and events[-2].data["statistics"] is one


def test_batches_steps_and_caches_are_counted() -> None:
    events: list[Event] = []
    config = EngineConfig(kv_blocks=40, block_size=4, encoder_cache_bytes=400)
    engine = Engine(FakeModel(), config, on_event=events.append)
    picture = fake_prompt([1, 2, 3, fake_image(1, 6), 4])
    engine.add_request(picture, greedy(3), request_id="first")
    engine.run_to_completion()
    engine.add_request(picture, greedy(3), request_id="again")  # finds two full blocks, 8 of 10 tokens
    engine.add_request(fake_prompt([9, fake_image(1, 6)]), greedy(3), request_id="other")  # knows the picture
    engine.step()
    assert engine.statistics().blocks_in_use > 0 and engine.statistics().running == 2
    engine.run_to_completion()
    again, other = engine.request_statistics("again"), engine.request_statistics("other")
    assert again and other
    assert (again.cached_tokens, again.encoded_images) == (8, 0)
    assert (other.cached_tokens, other.encoded_images, other.encode_seconds > 0) == (0, 0, False)
    totals = engine.statistics()
    assert (totals.prefix_asked_tokens, totals.prefix_hit_tokens) == (10 + 10 + 7, 8)
    assert totals.encoded_images == totals.encoder_misses == 1 and totals.encoder_hits >= 1
    assert (totals.steps, totals.sequences, totals.largest_batch) == (6, 3 + 2 * 3, 2)
    steps = [event.data for event in events if event.kind == "step"]
    stages = [step["encode_seconds"] + step["forward_seconds"] + step["sample_seconds"] for step in steps]
    assert totals.step_seconds == pytest.approx(sum(stages)) and totals.longest_step_seconds == max(stages)
    assert totals.most_blocks_in_use == max(step["blocks_in_use"] for step in steps)
    assert (totals.blocks, totals.blocks_in_use) == (40, 0) and totals.blocks_idle > 0
    assert totals.encoder_bytes == 24


@pytest.mark.parametrize("record", [RequestStatistics, EngineStatistics])
def test_every_figure_is_explained(record: type) -> None:
    """docs/engine.md makes its tables from these docstrings."""
    text = inspect.cleandoc(record.__doc__ or "").split("Attributes:")[1]
    named = set(re.findall(r"\w+", " ".join(re.findall(r"^    (\w[\w, ]*):", text, re.MULTILINE))))
    figures = {field.name for field in dataclasses.fields(record)}
    figures |= {name for name, value in vars(record).items() if isinstance(value, property)}
    assert figures == named
