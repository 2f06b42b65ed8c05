"""OpenTelemetry traces: one span for a request that has left, and one for each stage it went through.

Owns the spans' names, times and attributes, made of what the engine has noted anyhow, so that tracing costs a token
nothing. Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set; prompts, answers and pictures are in no span. Attributes follow
OpenTelemetry's conventions for generative AI where they have a name; the rest begins with `foveate.`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from foveate import __version__
from foveate.errors import FoveateError, MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from foveate.engine import RequestStatistics
    from foveate.serve.flights import Flight

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
FLUSH_MILLISECONDS = 3000  # for the last spans, when the server stops
Stage = tuple[str, float, float]  # name, beginning and end on time.perf_counter


class RequestTracer:
    """Makes spans of flights; give `note` to `EngineFront.watch`.

    Args:
        provider: with its exporters.
        model_name: what clients call the model.
    """

    def __init__(self, provider: TracerProvider, model_name: str) -> None:
        self._provider, self._model_name = provider, model_name
        self._tracer = provider.get_tracer("foveate", __version__)

    def note(self, flight: Flight) -> None:
        """A request has left."""
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, set_span_in_context

        ended = time.perf_counter()
        to_unix = time.time_ns() - int(ended * 1e9)
        statistics = flight.known_statistics
        span = self._tracer.start_span(
            "request",
            context=extract(flight.trace_headers),  # a caller's own span is the parent
            kind=SpanKind.SERVER,
            start_time=to_unix + int(flight.began * 1e9),
        )
        self._describe(span, flight, statistics)
        for name, begin, end in () if statistics is None else stages(statistics, ended):
            stage = self._tracer.start_span(
                name, context=set_span_in_context(span), start_time=to_unix + int(begin * 1e9)
            )
            stage.end(to_unix + int(end * 1e9))
        span.end(to_unix + int(ended * 1e9))

    def _describe(self, span: Span, flight: Flight, statistics: RequestStatistics | None) -> None:
        from opentelemetry.trace import StatusCode

        span.set_attribute("gen_ai.request.model", self._model_name)
        span.set_attribute("gen_ai.response.finish_reasons", (flight.outcome,))
        if flight.outcome == "error":
            span.set_status(StatusCode.ERROR)
        if statistics is None:  # refused before the engine saw it, or left while its pictures were fetched
            return
        counts = {
            "gen_ai.usage.input_tokens": statistics.prompt_tokens,
            "gen_ai.usage.output_tokens": statistics.generated_tokens,
            "foveate.images": statistics.images,
            "foveate.image_tokens": statistics.image_tokens,
            "foveate.image_tokens_kept": statistics.image_tokens_kept,
            "foveate.cached_tokens": statistics.cached_tokens,
            "foveate.encoded_images": statistics.encoded_images,
            "foveate.preemptions": statistics.preemptions,
            "foveate.decode_passes": statistics.decode_passes,
            "foveate.draft_tokens": statistics.draft_tokens,
            "foveate.accepted_tokens": statistics.accepted_tokens,
            "foveate.preprocess_wait_seconds": statistics.preprocess_wait_seconds,
        }
        for name, value in counts.items():
            span.set_attribute(name, value)

    def close(self) -> None:
        """Sends what is left, and gives up soon where nobody takes it."""
        self._provider.force_flush(FLUSH_MILLISECONDS)
        self._provider.shutdown()


def stages(statistics: RequestStatistics, now: float) -> Iterator[Stage]:
    """The stages that a request has begun; one that it left in the middle ends now.

    Encoder stages of several steps are shown as one at the beginning of prefill, as long as all of them.
    """
    yield "preprocess", statistics.arrival - statistics.preprocess_seconds, statistics.arrival
    admitted, first = statistics.admitted, statistics.first_token
    yield "queue", statistics.arrival, now if admitted is None else admitted
    if admitted is None:
        return
    encoded = admitted + statistics.encode_seconds
    if statistics.encoded_images:
        yield "encode", admitted, encoded
    yield "prefill", encoded, now if first is None else first
    if first is not None:
        yield "decode", first, now if statistics.ended is None else statistics.ended


def tracer_from_environment(model_name: str) -> RequestTracer | None:
    """What OpenTelemetry's own variables ask for; None where none names an endpoint.

    Raises:
        MissingExtraError: they name one, and OpenTelemetry's packages are not installed.
        FoveateError: they ask for a protocol other than http/protobuf.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    protocol = next((value for name in PROTOCOLS if (value := os.environ.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        raise FoveateError(
            f"Traces cannot be sent by {protocol}",
            why="the server speaks http/protobuf, on port 4318 of most collectors",
            fix=f"Correct {' or '.join(PROTOCOLS)} and the endpoint.",
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        package = "opentelemetry-exporter-otlp-proto-http"
        raise MissingExtraError(package, "telemetry", "sending traces") from error
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "foveate"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return RequestTracer(provider, model_name)
