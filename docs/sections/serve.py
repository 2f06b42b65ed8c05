"""The server: its endpoints and metrics."""

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
from sections.markdown import table


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


SECTIONS: dict[str, Callable[[], str]] = {"endpoints": endpoints, "metrics": metrics}
