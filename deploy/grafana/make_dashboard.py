"""Makes dashboard.json, which Grafana imports: python deploy/grafana/make_dashboard.py

Owns which panels there are and what each asks Prometheus. A test compares the names with those of a live server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("dashboard.json")
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 24, 8  # of Grafana's grid
HERE = '{instance=~"$instance"}'
RANGE = "[$__rate_interval]"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A graph: its title, what a reader learns from it, its unit, and legend to query."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    stacked: bool = False


def rate(name: str, by: str = "") -> str:
    """Growth a second of a counter."""
    return f"sum{f' by ({by})' if by else ''} (rate(foveate:{name}_total{HERE}{RANGE}))"


def quantiles(name: str) -> dict[str, str]:
    """Median, 95th and 99th percentile of a histogram."""
    buckets = f"sum by (le) (rate(foveate:{name}_bucket{HERE}{RANGE}))"
    return {f"p{share}": f"histogram_quantile({share / 100:g}, {buckets})" for share in (50, 95, 99)}


def mean(name: str) -> str:
    """Mean of a histogram."""
    return f"sum(rate(foveate:{name}_sum{HERE}{RANGE})) / sum(rate(foveate:{name}_count{HERE}{RANGE}))"


def share(part: str, whole: str) -> str:
    """A counter's growth by another's."""
    return f"{rate(part)} / {rate(whole)}"


STAGES = {
    "queue": "request_queue_time_seconds",
    "preprocess": "request_preprocess_time_seconds",
    "encode": "request_encode_time_seconds",
    "prefill": "request_prefill_time_seconds",
    "decode": "request_decode_time_seconds",
}
ROWS: dict[str, tuple[Panel, ...]] = {
    "Requests": (
        Panel(
            title="Running and waiting",
            description="Waiting for long means that the server is full: see who is turned away.",
            unit="short",
            queries={
                "running": f"sum(foveate:num_requests_running{HERE})",
                "waiting": f"sum(foveate:num_requests_waiting{HERE})",
            },
        ),
        Panel(
            title="Ended, by reason",
            description="stop: the model ended; length: a limit did; abort: the reader left.",
            unit="reqps",
            queries={"{{finished_reason}}": rate("request_success", "finished_reason")},
            stacked=True,
        ),
        Panel(
            title="Turned away, by reason",
            description="By the queue, by a key's budget, by the rules for fetching pictures.",
            unit="reqps",
            queries={"{{where}}: {{reason}}": rate("requests_refused", "where, reason")},
            stacked=True,
        ),
    ),
    "Latency": (
        Panel(
            title="Time to first token",
            description="From arrival; fetching and preparing pictures included.",
            unit="s",
            queries=quantiles("time_to_first_token_seconds"),
        ),
        Panel(
            title="Time per output token",
            description="Mean of each request, after its first token.",
            unit="s",
            queries=quantiles("time_per_output_token_seconds"),
        ),
        Panel(
            title="Whole request",
            description="Arrival to last token.",
            unit="s",
            queries=quantiles("e2e_request_latency_seconds"),
        ),
    ),
    "Where time goes": (
        Panel(
            title="Mean seconds of each stage",
            description="Preparing pictures is often what a first token waits for, and other servers do not show it.",
            unit="s",
            queries={name: mean(metric) for name, metric in STAGES.items()},
            stacked=True,
        ),
        Panel(
            title="Tokens a second",
            description="Of prompts, kept visual ones included, and of answers.",
            unit="short",
            queries={"prompt": rate("prompt_tokens"), "answer": rate("generation_tokens")},
        ),
        Panel(
            title="Visual tokens kept",
            description="Share of the pictures' tokens that the language model saw.",
            unit="percentunit",
            queries={"kept": share("image_tokens_kept", "image_tokens")},
        ),
    ),
    "Memory": (
        Panel(
            title="Key-value blocks",
            description="cached: of prefixes that nobody uses now; given up when blocks run short.",
            unit="short",
            queries={"{{state}}": f"sum by (state) (foveate:kv_blocks{HERE})"},
            stacked=True,
        ),
        Panel(
            title="Found in caches",
            description="Prompt tokens in the prefix cache, pictures in the encoder cache.",
            unit="percentunit",
            queries={
                "prompt tokens": share("prefix_cache_hits", "prefix_cache_queries"),
                "pictures": share("encoder_cache_hits", "encoder_cache_queries"),
            },
        ),
        Panel(
            title="Trouble",
            description="Anything but zero deserves a look: answers computed anew for want of blocks, failed steps, "
            "restarts of the engine.",
            unit="short",
            queries={
                "preemptions": rate("num_preemptions"),
                "failed steps": rate("engine_failed_steps"),
                "restarts": rate("engine_restarts"),
            },
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The whole document."""
    panels: list[dict[str, Any]] = []
    for number, (title, row) in enumerate(ROWS.items()):
        top = number * (HEIGHT + 1)
        panels.append(
            {"type": "row", "id": len(panels) + 1, "title": title, "collapsed": False, "panels": [],
             "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}
        )  # fmt: skip
        width = WIDTH // len(row)
        for place, panel in enumerate(row):
            position = {"x": place * width, "y": top + 1, "w": width, "h": HEIGHT}
            panels.append(_graph(panel, len(panels) + 1, position))
    return {
        "title": "Foveate",
        "uid": "foveate",
        "tags": ["foveate"],
        "schemaVersion": 39,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "15s",
        "templating": {"list": [_source(), _instance()]},
        "panels": panels,
    }


def _graph(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    lines: dict[str, Any] = {"lineWidth": 1, "fillOpacity": 30 if panel.stacked else 5, "showPoints": "never"}
    if panel.stacked:
        lines["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": lines}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instance() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Server",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(foveate:num_requests_running, instance)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
