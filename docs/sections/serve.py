"""The server: its endpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from fastapi.routing import APIRoute

from foveate.serve.app import OPEN_ROUTERS, ROUTERS
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


SECTIONS: dict[str, Callable[[], str]] = {"endpoints": endpoints}
