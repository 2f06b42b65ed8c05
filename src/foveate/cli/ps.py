"""`foveate ps`: the servers of this user on this machine, and how busy they are.

Owns the table. Asks every server at once for its metrics; imports no torch and no web framework.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli.failures import as_dict
from foveate.cli.terminal import mebibytes, note, table
from foveate.serve.running import RunningServer, running_servers

PATIENCE = 2.0  # seconds for an answer


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """One server now. What cannot be told is None.

    Attributes:
        memory: resident bytes of its process.
        running, waiting: requests.
        uptime: seconds.
        state: "ready", why it takes no requests, or "does not answer".
    """

    model: str
    url: str
    pid: int
    memory: int | None
    running: int | None
    waiting: int | None
    uptime: float
    state: str


def command(as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False) -> None:
    """Show the servers that you run on this machine: their memory, requests and uptime."""
    servers = running_servers()
    with ThreadPoolExecutor(max_workers=max(1, len(servers))) as pool:
        states = list(pool.map(look, servers))
    if as_json:
        print(as_dict({"servers": [asdict(state) for state in states]}))
    elif not states:
        note("No server of yours runs here; start one: foveate serve")
    else:
        header = ("model", "address", "pid", "memory", "running", "waiting", "up", "state")
        print(table(header, [_row(state) for state in states]))


def look(server: RunningServer) -> ServerState:
    """Asks one server, and its machine, how it is."""
    status, text = _get(f"{server.url}/ready")
    _, metrics = _get(f"{server.url}/metrics") if status else (0, "")
    reason = re.search(r'"reason":\s*"([^"]*)"', text)
    return ServerState(
        model=server.model,
        url=server.url,
        pid=server.pid,
        memory=_resident_bytes(server.pid),
        running=_gauge(metrics, "foveate:num_requests_running"),
        waiting=_gauge(metrics, "foveate:num_requests_waiting"),
        uptime=round(max(0.0, time.time() - server.started), 1),
        state="does not answer" if not status else reason[1] if reason else "ready",
    )


def _get(url: str) -> tuple[int, str]:
    """Status and body; 0 where nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is behind no proxy
    try:
        with opener.open(url, timeout=PATIENCE) as reply:
            return reply.status, reply.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except OSError:
        return 0, ""


def _gauge(metrics: str, name: str) -> int | None:
    found = re.search(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)
    return None if found is None else int(float(found[1]))


def _resident_bytes(pid: int) -> int | None:
    """Memory of a process, where the system has /proc."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found[1]) * 1024


def _row(state: ServerState) -> tuple[str, ...]:
    numbers = ("-" if value is None else str(value) for value in (state.running, state.waiting))
    memory = "-" if state.memory is None else mebibytes(state.memory)
    return (state.model, state.url, str(state.pid), memory, *numbers, duration(state.uptime), state.state)


def duration(seconds: float) -> str:
    """A time span in its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = int(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"
