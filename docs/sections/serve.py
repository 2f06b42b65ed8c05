"""The server: its endpoints, metrics and speed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace

from fastapi.routing import APIRoute

from foveate.engine.statistics import EngineStatistics
from foveate.serve.app import OPEN_ROUTERS, ROUTERS
from foveate.serve.front import Refusals
from foveate.serve.metrics import Metrics
from foveate.serve.safety.guard import OutputGuard
from sections.markdown import read, spread, table

_NAMES = {
    "engine": "the bare engine",
    "transformers": "`transformers serve`",
    "vllm": "vLLM's server on the CPU",
}


def endpoints() -> str:
    """Path, what it does, whether it asks for a key."""
    rows = []
    for router in (*ROUTERS, *OPEN_ROUTERS):
        for route in router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                methods = ", ".join(sorted(route.methods))
                says = " ".join(inspect.getdoc(route.endpoint).split())
                rows.append((f"`{methods} {route.path}`", says, "" if router in ROUTERS else "no key"))
    return table(("endpoint", "what it does", ""), rows)


def metrics() -> str:
    """Every name that a scrape shows, with its kind."""
    idle = SimpleNamespace(
        watch=lambda observer: None,
        engine_statistics=EngineStatistics,
        in_flight=0,
        restarts=0,
        refusals=Refusals(),
    )
    families = Metrics(idle, guard=OutputGuard()).registry.collect()
    rows = [
        (
            f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
            family.type,
            family.documentation.rstrip("."),
        )
        for family in families
    ]
    return table(("metric", "kind", "what it is"), sorted(rows))


def speed() -> str:
    """The server beside the bare engine and other servers, and the targets, met or not."""
    rows = []
    for model, by_dtype in read("results/benchmarks/serve.json")["rows"].items():
        for dtype, parts in by_dtype.items():
            shown = f"{model}, {dtype}"
            ratios = parts.get("throughput", {}).get("ratios", {})
            for name, target in (("engine", "0.9"), ("transformers", "4"), ("vllm", "")):
                if name in ratios:
                    what = f"throughput over {_NAMES[name]}, 16 at once"
                    rows.append((shown, what, spread(ratios[name], 2), target))
            if "first_token" in parts:
                later = spread(parts["first_token"]["difference_milliseconds"], 1)
                rows.append((shown, "first token later than the engine's, ms, 1 alone", later, "at most 5"))
    body = table(("model", "what", "median (spread)", "target"), rows)
    return (
        f"{body}\n\n`python benchmarks/serve.py --json`, on two cores; the load generator runs on them too."
    )


SECTIONS: dict[str, Callable[[], str]] = {"endpoints": endpoints, "metrics": metrics, "serve-speed": speed}
