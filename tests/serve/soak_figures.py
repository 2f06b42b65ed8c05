"""What a soak writes down: what a server's process used meanwhile, and the file that keeps the figures."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from soak_server import SoakServer

from foveate import __version__

Usage = tuple[float, dict[str, int]]  # seconds since the beginning, then bytes, descriptors and threads


@asynccontextmanager
async def watched(server: SoakServer, seconds: float) -> AsyncIterator[list[Usage]]:
    """Notes what the process uses, some 300 times in so many seconds."""
    used: list[Usage] = []

    async def watch() -> None:
        began = time.monotonic()
        while True:
            used.append((time.monotonic() - began, server.usage()))
            await asyncio.sleep(max(0.2, seconds / 300))

    watching = asyncio.create_task(watch())
    try:
        yield used
    finally:
        watching.cancel()


def part(values: Sequence[tuple[float, Any]], seconds: float, start: float, end: float) -> list[Any]:
    """Values noted between two shares of the time."""
    return [value for when, value in values if start * seconds <= when < end * seconds]


def memory_of(used: Sequence[Usage], before: int, seconds: float) -> dict[str, float]:
    """Resident MiB before, in the middle, at the end, and at most."""
    return {
        "before": mebibytes(before),
        "middle": mebibytes(statistics.median(one["memory"] for one in part(used, seconds, 0.4, 0.6))),
        "end": mebibytes(statistics.median(one["memory"] for one in part(used, seconds, 0.8, 1.0))),
        "most": mebibytes(max(one["memory"] for _, one in used)),
    }


def mebibytes(size: float) -> float:
    return round(size / 2**20, 1)


def write(figures: dict[str, Any], target: Path, command: str) -> None:
    """The figures with the command that measures them and what they were measured on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    about = {
        "command": command,
        "foveate": __version__,
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({**about, **figures}, indent=1) + "\n", encoding="utf-8")
