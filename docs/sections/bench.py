"""What the committed run of `foveate bench` found about each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from foveate.evaluate.bench import tables
from sections.markdown import ROOT, percent, read, table

RESULT = "results/bench/fovea-nano"
PICTURE = "images/pareto.png"
ALTERNATIVE = (
    "right answers of fovea-nano against visual tokens kept, each method at four budgets, with intervals"
)


def _measured() -> bool:
    return (ROOT / RESULT / "summary.json").is_file()


def _shown(summary: Mapping[str, Any], name: str) -> str:
    """Right answers of a cell, with a star where they are more than random tokens give."""
    record = next((record for record in summary["cells"] if record["cell"] == name), None)
    if record is None:
        return "refused" if name in summary["refused"] else "not finished"
    row = tables.compared(summary, name, "random")
    star = " \\*" if row is not None and row["difference"] > 0 and row["holm"] <= 0.05 else ""
    return percent(record["turns"]["1"]["accuracy"]) + star


def bench_nano() -> str:
    """A row a method, a column a budget; then the plot and the way to the whole report."""
    if not _measured():
        return "Not measured yet: `foveate bench --suite full` writes the figures."
    summary, run = read(f"{RESULT}/summary.json"), read(f"{RESULT}/run.json")
    budgets, methods = run["grid"]["budgets"], run["grid"]["methods"]
    rows = [
        (f"`{method}`", *(_shown(summary, f"{method}@{budget}") for budget in budgets)) for method in methods
    ]
    ends = []
    for name in ("full", "no image"):
        (turn,) = (record["turns"]["1"] for record in summary["cells"] if record["cell"] == name)
        ends.append(f"{name} {percent(turn['accuracy'])} ({tables.between(turn['interval'])})")
    return "\n\n".join(
        (
            table(("right answers", *budgets), rows),
            f"{summary['items']} questions; {', '.join(ends)}, 95 % intervals in brackets. A star: more "
            "than random tokens at the same budget (exact McNemar, Holm-corrected over all cells).",
            f"![{ALTERNATIVE}]({PICTURE})",
            f"The whole report is one file, [report.html](../{RESULT}/report.html): by kind of question, second turns, "
            f"times, memory, requests at once, and overlays where methods disagree. `{run['command']}`, commit "
            f"{', '.join(run['commits'])}, {run['clock']} on {run['machine']['processor']}.",
        )
    )


def bench_plot() -> str:
    """For the README: the plot alone."""
    if not _measured():
        return ""
    return f"![{ALTERNATIVE}](docs/{PICTURE})"


SECTIONS: dict[str, Callable[[], str]] = {"bench-nano": bench_nano, "bench-plot": bench_plot}
