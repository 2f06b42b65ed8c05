"""One picture of a sweep: throughput and latencies over concurrency.

Drawn from a result alone, with matplotlib (the extra "plots").
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.errors import MissingExtraError


def require_plots() -> None:
    """Says before a measurement, not after it, that it could not be drawn; `MissingExtraError`."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plots", "the plot of a measurement")


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Output tokens a second, then p50 (line) to p95 (band) of time to first token and time per token."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    levels = sorted(result["levels"], key=lambda level: level["concurrency"])
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    rate, *latencies = figure.subplots(1, 3)
    at = [level["concurrency"] for level in levels]
    rate.plot(at, [level["output_rate"] for level in levels], "o-", color="#0072b2")
    rate.set_ylabel("output tokens a second")
    for axes, name, label in zip(
        latencies, ("ttft", "tpot"), ("time to first token", "time per token"), strict=True
    ):
        known = [level for level in levels if level[name]]
        where = [level["concurrency"] for level in known]
        middle, high = ([1000 * level[name][share] for level in known] for share in ("p50", "p95"))
        axes.plot(where, middle, "o-", color="#d55e00", label="p50")
        axes.fill_between(where, middle, high, color="#d55e00", alpha=0.25, label="to p95")
        axes.set_ylabel(f"{label}, ms")
        axes.legend()
    for axes in (rate, *latencies):
        axes.set_xscale("log", base=2)
        axes.set_xticks(at, [str(level) for level in at])
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xlabel("requests at once")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
