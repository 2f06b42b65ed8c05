"""The pure parts of the engine's benchmark: the same requests for every arm, and honest statistics."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from engine_parts import figures, serving, single_stream, throughput, workload  # noqa: E402
from engine_parts.ledger import Ledger  # noqa: E402


def words(text: str) -> int:
    return len(text.split())


def test_requests_are_the_same_for_one_seed_and_others_for_another():
    one, again, other = (workload.make_items(32, seed, words) for seed in (1, 1, 2))
    assert one == again
    assert not {item.picture for item in one} & {item.picture for item in other}
    assert [item.output_tokens for item in one] != [item.output_tokens for item in other]


def test_lengths_keep_to_their_ranges_and_fill_them():
    items = [item for seed in range(1, 6) for item in workload.make_items(32, seed, words)]
    prompts, outputs = [words(item.question) for item in items], [item.output_tokens for item in items]
    assert 20 <= min(prompts) < 40 and 180 < max(prompts) <= 200
    assert 16 <= min(outputs) < 30 and 115 < max(outputs) <= 128


def test_pictures_of_two_seeds_differ():
    assert workload.picture(1).tobytes() == workload.picture(1).tobytes() != workload.picture(2).tobytes()


def test_arrivals_grow_at_the_rate_asked_for():
    items = workload.with_poisson_arrivals(workload.make_items(400, 1, words), 2.0, seed=0)
    times = [item.arrival for item in items]
    assert times[0] == 0 and times == sorted(times)
    assert times[-1] / 399 == pytest.approx(0.5, rel=0.15)


def test_the_request_file_holds_what_a_peer_needs(tmp_path):
    items = workload.make_items(2, 1, words)
    rows = json.loads(workload.save(items, ["first", "second"], tmp_path).read_text())
    assert [row["prompt"] for row in rows] == ["first", "second"]
    assert [row["output_tokens"] for row in rows] == [item.output_tokens for item in items]
    assert all(Path(row["image"]).is_file() for row in rows)


def test_ratios_are_taken_within_repetitions():
    # The machine was twice as slow in the second: the medians' ratio would be 4, too, but with no spread.
    result = figures.ratios([8.0, 4.0, 9.0], [2.0, 1.0, 3.0])
    assert result == {"median": 4.0, "minimum": 3.0, "maximum": 4.0, "repetitions": 3}
    with pytest.raises(ValueError, match="shorter"):
        figures.ratios([1.0, 2.0], [1.0])


def test_percentiles_are_values_that_were_measured():
    values = [float(value) for value in range(1, 21)]
    assert figures.latencies(values) == {"p50": 10.0, "p95": 19.0}
    assert figures.percentile([7.0], 0.95) == 7.0


def test_agreement_counts_whole_answers_and_the_part_before_the_first_difference():
    ours, theirs = [[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], [5, 9, 7, 8]]
    assert figures.agreement(ours, theirs) == {"requests": 2, "identical": 0.5, "before_difference": 0.625}
    shorter = figures.agreement([[1, 2]], [[1]])
    assert shorter == {"requests": 1, "identical": 0.0, "before_difference": 0.5}


def test_one_server_makes_later_requests_wait():
    first, end = figures.queue_behind_one_server([0.0, 1.0, 10.0], [0.5, 0.5, 0.5], [3.0, 2.0, 1.0])
    assert first == [0.5, 2.5, 0.5]
    assert end == [3.0, 4.0, 1.0]


def test_a_part_of_the_requests_has_lengths_like_all():
    items = workload.make_items(32, 3, words)
    mean = sum(item.output_tokens for item in items) / 32
    chosen = [throughput.some(items, 4, offset) for offset in range(1, 9)]
    assert all(len(places) == 4 for places in chosen)
    assert len({place for places in chosen for place in places}) == 32
    for places in chosen:
        assert abs(sum(items[place].output_tokens for place in places) / 4 - mean) < 25


def test_throughput_keeps_the_fastest_batch_size_and_turns_the_order(tmp_path):
    workloads = [workload.make_items(8, seed, words) for seed in (1, 2)]
    asked: list[tuple[str, int]] = []

    def arm(name, seconds):
        def serve(items):
            asked.append((name, len(items)))
            answers = [[0] * item.output_tokens for item in items]
            return {"seconds": seconds * len(items), "token_ids": answers}

        return serve

    def static(items, size):
        asked.append((f"static {size}", len(items)))
        answers = [[0] * item.output_tokens for item in items]
        return {"seconds": 2.0 if size == 4 else 3.0, "token_ids": answers}

    ledger = Ledger(tmp_path / "ledger.json", {})
    arms = {"foveate": arm("foveate", 0.125), "sequential": arm("sequential", 1.0)}
    measured = throughput.measure(ledger, workloads, arms, static, sequential_requests=2)
    assert asked == [
        ("foveate", 8),
        ("sequential", 8),
        ("static 4", 8),
        ("static 8", 8),
        ("sequential", 2),
        ("static 4", 8),
        ("foveate", 8),
    ]
    result = throughput.summarise(measured, workloads)
    assert result["static_size"] == 4
    assert result["ratios"]["static"]["median"] == pytest.approx(2.0)
    assert result["agreement"]["sequential"] == {"requests": 10, "identical": 1.0, "before_difference": 1.0}


def test_a_run_that_was_broken_off_goes_on_with_the_same_settings_only(tmp_path):
    path, calls = tmp_path / "ledger.json", []

    def measure():
        calls.append(1)
        return len(calls)

    assert Ledger(path, {"threads": 1}).measure("a", measure) == 1
    assert Ledger(path, {"threads": 1}).measure("a", measure) == 1
    assert Ledger(path, {"threads": 1}).under("llava").measure("a", measure) == 2
    assert Ledger(path, {"threads": 2}).measure("a", measure) == 3


def test_int8_is_compared_the_other_way_round(tmp_path):
    item = workload.Item(question="", picture=0, output_tokens=11)
    seconds = {"foveate": 2.0, "static cache": 4.0, single_stream.INT8: 1.0}
    arms = {
        name: (lambda _, value=value: {"seconds": value, "token_ids": [1]}) for name, value in seconds.items()
    }
    result = single_stream.decode(Ledger(tmp_path / "ledger.json", {}), [item], arms)
    assert result["tokens_per_second"]["foveate"]["median"] == 5.0
    assert result["ratios"]["static cache"]["median"] == 2.0
    assert result["int8_over_full_precision"]["median"] == 2.0


def test_latency_of_the_engine_and_of_the_queue_come_from_the_same_arrivals(tmp_path):
    items = workload.make_items(4, 1, words)
    seen: list[list[workload.Item]] = []

    def serve(arriving):
        seen.append(list(arriving))
        return {"first_token": [0.25] * 4, "whole": [0.5] * 4}

    alone = {"first_token": [1.0] * 4, "whole": [1000.0] * 4}
    ledger = Ledger(tmp_path / "ledger.json", {})
    result = serving.measure(ledger, items, 1.0, serve, alone, repetitions=2)
    assert not {item.picture for item in seen[0]} & {item.picture for item in [*items, *seen[1]]}
    assert result["foveate"]["first_token"] == {"p50": 0.25, "p95": 0.25}
    waits = [1 + 1000 * place - item.arrival for part in seen for place, item in enumerate(part)]
    assert result["sequential"]["first_token"]["p95"] == pytest.approx(max(waits), abs=1e-3)


def test_a_peer_that_is_not_there_is_refused_by_name():
    command = [sys.executable, str(BENCHMARKS / "engine.py"), "--quick", "--peer", "vllm=/nowhere/python"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "names no peer" in done.stderr and "install.sh" in done.stderr


@pytest.fixture
def sections(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS.parent / "docs"))
    return importlib.import_module("sections.engine")


def test_the_table_says_what_was_measured_and_what_was_not(tmp_path, sections):
    ratio = {"median": 6.0, "minimum": 5.5, "maximum": 7.25, "repetitions": 5}
    about = {"measured": {"processor": "Abacus", "threads": 2}}
    parts = {"throughput": {"ratios": {"static": ratio}, "agreement": {}, **about}}
    parts["openvino"] = {"not_measured": "not installed: how to", **about}
    result = tmp_path / "engine.json"
    result.write_text(json.dumps({"rows": {"smolvlm": {"float32": parts}}}))
    table = sections.engine_speed(str(result))
    assert "| throughput over its best static batches | 6.00 (5.50 to 7.25) | 1.8 |" in table
    assert "| throughput over vLLM on CPU | not measured | 1.0 |" in table
    assert "OpenVINO GenAI (LLaVA's shape) | not installed |" in table
    assert "2 threads of Abacus" in table


def test_without_a_result_the_docs_say_so(tmp_path, sections):
    assert sections.engine_speed(str(tmp_path / "none.json")).startswith("Not measured yet")
