"""Draws a run's log: losses and validation accuracy against steps."""

from __future__ import annotations

import json
from pathlib import Path

from foveate.errors import MissingExtraError


def read_log(log: Path) -> list[dict]:
    """Rows of log.jsonl; where a resumed run repeats steps, the later row wins."""
    rows: dict[tuple[int, bool], dict] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["step"], "validation" in row] = row
    return [rows[key] for key in sorted(rows)]


def plot_training(log: Path, target: Path) -> Path:
    """Write a PNG with the losses on the left and the accuracy of each family and patch label on the right.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise MissingExtraError("matplotlib", "train", "Plotting a run") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = read_log(log)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), constrained_layout=True)
    for key in ("dense_loss", "answer_loss"):
        points = [(r["step"], r[key]) for r in rows if key in r]
        if points:
            left.plot(*zip(*points, strict=True), label=key.replace("_", " "), linewidth=1)
    left.set(xlabel="step", ylabel="loss", yscale="log", title="Training loss")
    left.legend()
    checks = [r for r in rows if "validation" in r]
    names = sorted({name for r in checks for name in r["validation"]})
    for place, name in enumerate(names):
        points = [(r["step"], 100 * r["validation"][name]) for r in checks if name in r["validation"]]
        style = ":" if name.startswith("patch") else "-"
        right.plot(*zip(*points, strict=True), style, label=name, color=pyplot.get_cmap("tab20")(place % 20))
    right.set(
        xlabel="step", ylabel="%", ylim=(0, 101), title="Validation: answers (lines), patch labels (dots)"
    )
    right.legend(fontsize=7, ncols=2)
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return target
