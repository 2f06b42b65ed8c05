"""Draws a run's log: losses, and accepted length by kind of prompt and by place in the draft, against steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.errors import MissingExtraError
from foveate.train.nano.plot import read_log


def plot_draft_training(log: Path, target: Path) -> Path:
    """Write a PNG: losses, tokens a pass, and the share of guesses that were right at each place.

    A first share that stays near 0 while the loss falls means features, positions or embeddings are mis-wired.

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
    checks = [row for row in rows if "validation" in row]
    figure, (losses, lengths, places) = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for key, label in (("token_loss", "cross-entropy, nats"), ("state_loss", "smooth L1 of states")):
        points = [(row["step"], row[key]) for row in rows if row.get(key)]
        if points:
            losses.plot(*zip(*points, strict=True), label=label, linewidth=1)
    losses.set(xlabel="step", yscale="log", title="Loss of first guesses")
    losses.legend()
    _lines(lengths, checks, {"all": lambda v: v["accepted"]} | _by_kind(checks))
    lengths.set(xlabel="step", ylabel="tokens a pass", title="Accepted length of a chain, held-out prompts")
    lengths.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    depth = len(checks[0]["validation"]["by_place"]) if checks else 0
    _lines(
        places,
        checks,
        {f"guess {place + 1}": lambda v, place=place: 100 * v["by_place"][place] for place in range(depth)},
    )
    places.set(xlabel="step", ylabel="%", ylim=(0, 101), title="Right guesses, of those that were reached")
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return target


def _by_kind(checks: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = sorted({kind for row in checks for kind in row["validation"]["by_kind"]})
    return {kind: lambda v, kind=kind: v["by_kind"].get(kind) for kind in kinds}


def _lines(axes: Any, checks: list[dict[str, Any]], lines: dict[str, Any]) -> None:
    for label, read in lines.items():
        points = [(row["step"], read(row["validation"])) for row in checks]
        points = [(step, value) for step, value in points if value is not None]
        if points:
            axes.plot(
                *zip(*points, strict=True), label=label, marker=".", linewidth=2 if label == "all" else 1
            )
    axes.legend(fontsize=8)
