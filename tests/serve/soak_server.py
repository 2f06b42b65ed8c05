"""The server of a soak: a process, its own account of itself, and what the system says about it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

BUSY = ("foveate:num_requests_running", "foveate:num_requests_waiting", 'foveate:kv_blocks{state="used"}')


@dataclass(kw_only=True)
class SoakServer:
    """A running `foveate serve`."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def scene(self, seed: int) -> dict[str, Any]:
        """A picture of the world as a data: URI, with a question."""
        reply = httpx.get(f"{self.url}/foveate/scene", params={"seed": seed, "difficulty": 1 + seed % 3})
        return dict(reply.raise_for_status().json())

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by name and labels."""
        text = httpx.get(f"{self.url}/metrics").raise_for_status().text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def rest(self, seconds: float = 60) -> dict[str, float]:
        """The metrics once nothing runs, waits or holds a block.

        Raises:
            AssertionError: something does, to the end: it has leaked.
        """
        end = time.monotonic() + seconds
        while True:
            now = self.metrics()
            held = {name: now[name] for name in BUSY if now[name]}
            if not held:
                return now
            assert time.monotonic() < end, f"leaked: {held}"
            time.sleep(0.1)

    def usage(self) -> dict[str, int]:
        """Resident bytes, open file descriptors and threads of the process."""
        process = psutil.Process(self.process.pid)
        with process.oneshot():
            return {
                "memory": process.memory_info().rss,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
            }

    def processor_seconds(self) -> float:
        """Processor time that the process has taken."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def listed(self) -> list[dict[str, Any]]:
        """What `foveate ps` says of the servers that use this one's folder."""
        done = subprocess.run(
            [sys.executable, "-m", "foveate.cli", "ps", "--json"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "XDG_CACHE_HOME": str(self.log.parent)},
        )
        return list(json.loads(done.stdout)["servers"])

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def soak_server(folder: Path, *flags: str) -> Iterator[SoakServer]:
    """The embedded model behind a server whose queue 64 clients can fill."""
    log = folder / "server.log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "foveate.cli", "serve", "--port", "0", "--dtype", "float32", *flags],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(folder)},
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, f"no address: {line!r} {log.read_text(encoding='utf-8')}"
        yield SoakServer(process=process, url=found[0], log=log)
    finally:
        process.kill()
        process.communicate()
