"""/metrics in Prometheus' text form, under names like vLLM's.

Owns the names and what they count. Figures of the engine are read when they are asked for; those of a request are noted
once, when it has left, so that counting costs a token nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from foveate.serve.flights import Flight
    from foveate.serve.front import EngineFront
    from foveate.serve.safety.guard import OutputGuard

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
# Histogram, what it measures, how it is read from a flight with its statistics.
STAGES: tuple[tuple[str, str], ...] = (
    ("time_to_first_token_seconds", "Arrival to first token, fetching pictures included."),
    ("time_per_output_token_seconds", "Mean time between tokens of a request, after the first."),
    ("e2e_request_latency_seconds", "Arrival to last token."),
    ("request_queue_time_seconds", "Waiting for a worker, then for a place among the running."),
    ("request_preprocess_time_seconds", "Opening pictures, processing pixels, filling the template."),
    ("request_encode_time_seconds", "Encoder stages of steps in which a picture of the request was encoded."),
    ("request_prefill_time_seconds", "Admission to first token, encoding excluded."),
    ("request_decode_time_seconds", "First token to last."),
)
SIZES: tuple[tuple[str, str], ...] = (
    ("request_prompt_tokens", "Tokens of the prompt, kept visual ones included."),
    ("request_generation_tokens", "Tokens of the answers."),
    ("request_image_tokens", "Visual tokens before any was dropped, of requests with pictures."),
    ("request_image_tokens_kept", "Visual tokens that the language model saw, of requests with pictures."),
)
Refusals = Callable[[], Iterable[tuple[str, str, int]]]


class Metrics:
    """The figures of one server; several servers in one process do not mix.

    Args:
        refusals: (where, reason, count) of what was turned away, by others than the front.
        guard: the watch on answers, if there is one.
        streams: the open ones.
    """

    def __init__(
        self,
        front: EngineFront,
        refusals: Refusals = tuple,
        guard: OutputGuard | None = None,
        streams: Sized = (),
    ) -> None:
        self._front, self._refusals, self._guard, self._streams = front, refusals, guard, streams
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._stages = {name: self._histogram(name, text, SECONDS) for name, text in STAGES}
        self._sizes = {name: self._histogram(name, text, TOKENS) for name, text in SIZES}
        self._ended = Counter(
            "foveate:request_success", "Requests that have left, by how they ended.", ["finished_reason"],
            registry=self.registry,
        )  # fmt: skip
        self._tokens = {
            name: Counter(f"foveate:{name}", text, registry=self.registry)
            for name, text in (
                ("prompt_tokens", "Tokens of prompts, kept visual ones included."),
                ("generation_tokens", "Tokens of answers."),
                ("image_tokens", "Visual tokens before any was dropped."),
                ("image_tokens_kept", "Visual tokens that the language model saw."),
            )
        }
        front.watch(self.note)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"foveate:{name}", text, buckets=buckets, registry=self.registry)

    def note(self, flight: Flight) -> None:
        """A request has left."""
        statistics = flight.known_statistics
        if statistics is None:
            return  # refused before the engine saw it; the refusals count it
        self._ended.labels(flight.outcome).inc()
        after_first = statistics.generated_tokens - 1
        decode = statistics.decode_seconds
        seconds = (
            flight.first,
            None if decode is None or after_first < 1 else decode / after_first,
            flight.ended,
            None
            if statistics.queue_seconds is None
            else statistics.preprocess_wait_seconds + statistics.queue_seconds,
            statistics.preprocess_seconds,
            statistics.encode_seconds if statistics.images else None,
            statistics.prefill_seconds,
            decode,
        )
        for (name, _), value in zip(STAGES, seconds, strict=True):
            if value is not None:
                self._stages[name].observe(max(0.0, value))
        counts = (
            statistics.prompt_tokens,
            statistics.generated_tokens,
            statistics.image_tokens,
            statistics.image_tokens_kept,
        )
        for index, ((name, _), counter, count) in enumerate(
            zip(SIZES, self._tokens.values(), counts, strict=True)
        ):
            counter.inc(count)
            if index < 2 or statistics.images:
                self._sizes[name].observe(count)

    def collect(self) -> Iterator[Metric]:
        """What is read now: the engine, the queue, refusals."""
        engine = self._front.engine_statistics()
        waiting = max(0, self._front.in_flight - engine.running)
        free = engine.blocks - engine.blocks_in_use - engine.blocks_idle
        gauges = (
            ("num_requests_running", "Answers in the running batch.", engine.running),
            ("num_requests_waiting", "Requests that have arrived and do not run.", waiting),
            (
                "kv_cache_usage_perc",
                "Share of the key-value blocks in use.",
                engine.blocks_in_use / max(1, engine.blocks),
            ),
            ("encoder_cache_bytes", "Bytes that the encoder cache holds.", engine.encoder_bytes),
            ("num_streams", "Streams that are open.", len(self._streams)),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"foveate:{name}", text, value)
        blocks = GaugeMetricFamily("foveate:kv_blocks", "Key-value blocks by state.", labels=["state"])
        for state, count in (("used", engine.blocks_in_use), ("cached", engine.blocks_idle), ("free", free)):
            blocks.add_metric([state], count)
        yield blocks
        counters = (
            ("prefix_cache_queries", "Prompt tokens looked up.", engine.prefix_asked_tokens),
            ("prefix_cache_hits", "Prompt tokens found.", engine.prefix_hit_tokens),
            ("encoder_cache_queries", "Pictures looked up.", engine.encoder_hits + engine.encoder_misses),
            ("encoder_cache_hits", "Pictures found.", engine.encoder_hits),
            ("num_preemptions", "Answers computed anew for want of blocks.", engine.preemptions),
            (
                "spec_decode_num_drafts",
                "Drafts that were run behind an answer's newest token.",
                engine.decode_passes - engine.plain_passes,
            ),
            ("spec_decode_num_draft_tokens", "Tokens of these drafts.", engine.draft_tokens),
            ("spec_decode_num_accepted_tokens", "Of these, tokens that were right.", engine.accepted_tokens),
            (
                "spec_decode_num_unpaid_passes",
                "Passes without a draft that would not pay.",
                engine.unpaid_passes,
            ),
            ("engine_steps", "Steps of the engine.", engine.steps),
            ("engine_failed_steps", "Steps that raised an error.", engine.failed_steps),
            (
                "engine_restarts",
                "Times that the engine was started anew after a crash.",
                self._front.restarts,
            ),
        )
        for name, text, count in counters:
            yield CounterMetricFamily(f"foveate:{name}", text, count)
        if self._guard is not None:
            ended = CounterMetricFamily(
                "foveate:answers_cut", "Answers ended or capped by the watch.", labels=["reason"]
            )
            for reason, count in sorted(self._guard.findings.items()):
                ended.add_metric([reason], count)
            ended.add_metric(["picture"], self._guard.pictures.verdicts["cap"])
            yield ended
        refused = CounterMetricFamily(
            "foveate:requests_refused", "Requests turned away.", labels=["where", "reason"]
        )
        for reason, count in sorted(self._front.refusals.counts.items()):
            refused.add_metric(["queue", reason], count)
        for where, reason, count in self._refusals():
            refused.add_metric([where, reason], count)
        yield refused

    def text(self) -> bytes:
        """What a scrape gets."""
        return generate_latest(self.registry)
