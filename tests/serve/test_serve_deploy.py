"""What lies in deploy/ fits the server: its metrics by their names, its settings by their variables."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from live_server import LiveServer
from prometheus_client.parser import text_string_to_metric_families

from foveate.cli.serve import MODEL_FLAGS
from foveate.serve.process import LAST_SECONDS
from foveate.serve.settings import ServeSettings, environment_variable

DEPLOY = Path(__file__).parents[2] / "deploy"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
NAME = re.compile(r"\bfoveate:[a-z0-9_]+")
GROUPING = re.compile(r"\bby \(([^)]*)\)")


@pytest.fixture(scope="module")
def metrics(server: LiveServer, ask: Callable[..., Any]) -> dict[str, set[str]]:
    """Names that a query may use, with their labels; after one request that ended and one that was refused."""
    assert server.chat(ask(), max_tokens=2).status_code == 200
    server.front.refusals.count("queue_full")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        labels = {label for sample in family.samples for label in sample.labels}
        for suffix in SUFFIXES[family.type]:
            found[family.name + suffix] = labels
    return found


def dashboard_queries() -> list[str]:
    document = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in document["panels"] for target in panel.get("targets", [])]


def alert_queries() -> list[str]:
    document = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    return [rule["expr"] for group in document["groups"] for rule in group["rules"]]


def test_every_query_asks_for_metrics_and_labels_that_the_server_has(metrics: dict[str, set[str]]) -> None:
    queries = dashboard_queries() + alert_queries()
    assert len(queries) > 30
    asked = {name for query in queries for name in NAME.findall(query)}
    assert len(asked) > 25 and not asked - metrics.keys()
    for query in queries:
        names = NAME.findall(query)
        for grouping in GROUPING.findall(query):
            labels = {label.strip() for label in grouping.split(",")} - {
                "instance"
            }  # Prometheus adds that one
            assert all(labels <= metrics[name] for name in names), query


def test_the_dashboard_is_what_its_maker_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "grafana" / "make_dashboard.py")
    assert spec is not None and spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = maker
    spec.loader.exec_module(maker)
    assert maker.TARGET.read_text(encoding="utf-8") == maker.text()


def test_panels_have_their_own_places_and_numbers() -> None:
    document = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    numbers = [panel["id"] for panel in document["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24
        taken |= cells


def test_prometheus_scrapes_where_the_server_listens() -> None:
    document = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = document["scrape_configs"]
    settings = ServeSettings()
    assert job["static_configs"][0]["targets"] == [f"{settings.host}:{settings.port}"]
    assert all((DEPLOY / "prometheus" / name).is_file() for name in document["rule_files"])


@pytest.mark.parametrize("name", ["Dockerfile", "systemd/foveate.service"])
def test_the_variables_are_those_of_the_command(name: str) -> None:
    known = {
        environment_variable(field) for field in (*ServeSettings.__dataclass_fields__, *MODEL_FLAGS, "model")
    }
    used = set(re.findall(r"FOVEATE_[A-Z_]+", (DEPLOY / name).read_text(encoding="utf-8")))
    assert used and used <= known


def test_systemd_waits_for_the_drain() -> None:
    unit = (DEPLOY / "systemd" / "foveate.service").read_text(encoding="utf-8")
    found = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert found is not None and int(found[1]) > ServeSettings().drain_seconds + LAST_SECONDS


def test_the_image_is_built_from_files_that_are_there_and_let_in() -> None:
    root = DEPLOY.parent
    let_in = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"}
    for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            sources = line.split()[1:-1]
            assert sources and all((root / one).exists() and one.strip("./") in let_in for one in sources), (
                line
            )


def test_the_wheel_has_every_file_that_is_no_module() -> None:
    root = DEPLOY.parent
    package = root / "src" / "foveate"
    patterns = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packed = {path for pattern in patterns["package-data"]["foveate"] for path in package.glob(pattern)}
    files = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    data = {path for path in files if path.suffix != ".py"}
    assert len(data) > 20 and not data - packed
