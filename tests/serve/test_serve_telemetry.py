"""Traces: a span for every request and stage, with the times the engine noted and none of the content."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from live_server import LiveServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from foveate.engine import RequestStatistics
from foveate.errors import FoveateError
from foveate.serve.telemetry import ENDPOINTS, RequestTracer, stages, tracer_from_environment

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(server: LiveServer) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = RequestTracer(provider, "eye")
    server.front.watch(tracer.note)
    yield exporter
    provider.shutdown()  # its tracer stays with the front, and makes spans that nobody gets


def finished(server: LiveServer, exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    server.eventually(lambda: any(span.name == "request" for span in exporter.get_finished_spans()))
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_request_with_a_picture_has_all_stages(
    server: LiveServer, ask: Callable[..., Any], spans: InMemorySpanExporter
) -> None:
    question = ask("What lies left of the red one, I wonder?")
    reply = server.http.post(
        "/v1/chat/completions",
        json={"messages": question, "max_tokens": 3, "ignore_eos": True, "visual_budget": 31},
        headers={"traceparent": CALLER},
    )
    usage = reply.json()["usage"]
    found = finished(server, spans)
    assert set(found) - {"encode"} == {"request", "preprocess", "queue", "prefill", "decode"}
    request = found["request"]
    assert request.kind is SpanKind.SERVER and request.status.status_code is not StatusCode.ERROR
    assert request.parent is not None and f"{request.parent.span_id:016x}" == CALLER.split("-")[2]
    assert f"{request.context.trace_id:032x}" == CALLER.split("-")[1]
    attributes = dict(request.attributes or {})
    assert attributes["gen_ai.request.model"] == "eye"
    assert attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert attributes["gen_ai.usage.input_tokens"] == usage["prompt_tokens"]
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert attributes["foveate.image_tokens_kept"] == usage["image_tokens_kept"] == 31
    assert "wonder" not in str([span.to_json() for span in found.values()])
    for name in set(found) - {"request"}:
        child = found[name]
        assert child.parent is not None and child.parent.span_id == request.context.span_id
        assert request.start_time <= child.start_time <= child.end_time <= request.end_time
    assert found["preprocess"].end_time == pytest.approx(found["queue"].start_time, abs=2)
    assert found["prefill"].end_time == pytest.approx(found["decode"].start_time, abs=2)


def test_a_request_whose_reader_leaves_ends_in_the_middle_of_a_stage(
    server: LiveServer, spans: InMemorySpanExporter
) -> None:
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "ignore_eos": True,
        "max_tokens": 500,
        "stream": True,
    }
    with server.slowed(0.02), server.http.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())
    found = finished(server, spans)
    assert dict(found["request"].attributes or {})["gen_ai.response.finish_reasons"] == ("abort",)
    assert "decode" in found and found["decode"].end_time <= found["request"].end_time


def test_a_refused_request_has_a_span_without_stages(server: LiveServer, spans: InMemorySpanExporter) -> None:
    assert server.chat([{"role": "user", "content": "so " * 5000}]).status_code == 400
    assert set(finished(server, spans)) == {"request"}


def test_stages_that_have_not_begun_are_left_out() -> None:
    known = RequestStatistics(request_id="r", prompt_tokens=1, images=1, arrival=10.0, preprocess_seconds=2.0)
    assert list(stages(known, 11.0)) == [("preprocess", 8.0, 10.0), ("queue", 10.0, 11.0)]
    known.admitted, known.encode_seconds, known.encoded_images = 10.5, 0.25, 1
    assert list(stages(known, 11.0))[1:] == [
        ("queue", 10.0, 10.5),
        ("encode", 10.5, 10.75),
        ("prefill", 10.75, 11.0),
    ]
    known.first_token, known.ended = 12.0, 13.0
    assert list(stages(known, 20.0))[-2:] == [("prefill", 10.75, 12.0), ("decode", 12.0, 13.0)]


@dataclass
class Collector:
    """Takes what is exported."""

    url: str = ""
    received: list[ExportTraceServiceRequest] = field(default_factory=list)


@pytest.fixture
def collector() -> Iterator[Collector]:
    took = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            took.received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        took.url = f"http://127.0.0.1:{http.server_port}"
        yield took
        http.shutdown()


def test_the_variables_of_opentelemetry_turn_it_on_and_spans_arrive(
    server: LiveServer, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], collector.url)
    tracer = tracer_from_environment("eye")
    assert tracer is not None
    server.front.watch(tracer.note)
    assert server.chat([{"role": "user", "content": "Hello"}], max_tokens=2).status_code == 200
    server.eventually(server.nothing_held)
    tracer.close()
    (resource,) = [one for message in collector.received for one in message.resource_spans]
    told = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert told["service.name"] == "foveate"
    names = {span.name for scope in resource.scope_spans for span in scope.spans}
    assert {"request", "prefill"} <= names


def test_it_is_off_without_an_endpoint_and_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert tracer_from_environment("eye") is None
    code = (
        "import sys, foveate.serve.telemetry as told\n"
        "print(told.tracer_from_environment('eye'), 'opentelemetry.sdk' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "None False\n"


def test_another_protocol_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(FoveateError, match="grpc"):
        tracer_from_environment("eye")
