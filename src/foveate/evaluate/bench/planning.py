"""From measured runs to a visual budget: what each choice costs and loses, and which one to take.

Runs of two model sizes or more give the scaling law (`foveate.evaluate.scaling`); one run gives the cheapest measured
cell that loses no more than a margin, or the best one within a compute budget. Knows no model.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foveate.errors import nearest
from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.grid import FULL, BenchError
from foveate.evaluate.bench.summary import summarise
from foveate.evaluate.bench.tables import compared, method_records
from foveate.evaluate.scaling import fit_scaling_law, recommend

FEWEST_POINTS = 5  # for the law's four unknowns


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One measured cell as a candidate.

    Attributes:
        billions: parameters of the language model.
        kept, text: visual and other tokens of a prompt, means over the questions.
        compute: billions of operations a question, 2 * billions * (kept + text): prefill alone, attention left out.
        difference, low, high: accuracy minus that of the same model's full tokens, with its interval; 0 for those.
    """

    model: str
    cell: str
    billions: float
    kept: float
    text: float
    compute: float
    accuracy: float
    difference: float
    low: float
    high: float


def choices(folders: Sequence[RunFolder], method: str | None = None) -> tuple[str, list[Choice]]:
    """(the method, its cells in every run and full tokens, cheapest first).

    Args:
        method: None takes the one with the best mean accuracy over all runs and budgets.

    Raises:
        BenchError: no run has measured the method, or a run is not finished.
    """
    summaries = [summarise(folder) for folder in folders]
    accuracies: dict[str, list[float]] = {}
    for summary in summaries:
        for record in method_records(summary):
            accuracies.setdefault(record["method"], []).append(record["turns"]["1"]["accuracy"])
    if method is not None and method not in accuracies:
        raise BenchError(f"No run has measured the method {method!r}", fix=nearest(method, accuracies))
    if not accuracies:
        raise BenchError("The runs have measured no method", fix="Finish one: foveate bench --resume.")
    chosen = method or max(accuracies, key=lambda name: statistics.fmean(accuracies[name]))
    found = [
        _choice(folder, summary, record)
        for folder, summary in zip(folders, summaries, strict=True)
        for record in summary["cells"]
        if record["method"] in (chosen, FULL)
    ]
    return chosen, sorted(found, key=lambda one: one.compute)


def _choice(folder: RunFolder, summary: dict[str, Any], record: dict[str, Any]) -> Choice:
    billions = folder.run["model"]["language_parameters"] / 1e9
    row = compared(summary, record["cell"], FULL)
    low, high = row["interval"] if row else (0.0, 0.0)
    return Choice(
        model=summary["model"],
        cell=record["cell"],
        billions=billions,
        kept=record["kept"],
        text=record["text"],
        compute=2 * billions * (record["kept"] + record["text"]),
        accuracy=record["turns"]["1"]["accuracy"],
        difference=row["difference"] if row else 0.0,
        low=low,
        high=high,
    )


def plan(
    folders: Sequence[RunFolder],
    *,
    compute: float | None = None,
    margin: float = 0.05,
    method: str | None = None,
) -> dict[str, Any]:
    """The candidates, the law where it can be fitted, and the recommendation with its reason.

    Args:
        compute: billions of operations a question may cost; None asks for the cheapest within `margin`.
        margin: share of questions that may be lost against full tokens; the interval's worse end must hold it.

    Raises:
        BenchError: nothing is measured, or nothing within the compute budget.
    """
    chosen, found = choices(folders, method)
    fitted = _fit(found, compute)
    best, reason = _within_compute(found, compute) if compute is not None else _within_margin(found, margin)
    return {
        "method": chosen,
        "choices": [asdict(one) for one in found],
        "recommended": asdict(best),
        "reason": reason,
        "law": fitted,
    }


def _within_margin(found: Sequence[Choice], margin: float) -> tuple[Choice, str]:
    """The cheapest whose loss is shown to stay within the margin; full tokens always do."""
    best = next(one for one in found if one.low >= -margin)
    if best.cell == FULL:
        return best, (
            f"no reduced cell is shown to lose at most {100 * margin:g} points: the worse end of each interval "
            "is below that (more questions make intervals narrower)"
        )
    return best, (
        f"the cheapest whose loss is at most {100 * margin:g} points at the worse end of its 95 % interval"
    )


def _within_compute(found: Sequence[Choice], compute: float) -> tuple[Choice, str]:
    """The best that costs no more."""
    affordable = [one for one in found if one.compute <= compute]
    if not affordable:
        raise BenchError(
            f"No measured choice costs at most {compute:g} billion operations a question",
            why=f"the cheapest, {found[0].cell} of {found[0].model}, takes {found[0].compute:.3g}",
            fix="Raise --compute, or measure smaller budgets.",
        )
    best = max(affordable, key=lambda one: one.accuracy)
    return (
        best,
        f"the most right answers of {len(affordable)} choices at or below {compute:g} billion operations",
    )


def _fit(found: Sequence[Choice], compute: float | None) -> dict[str, Any] | str:
    """The fitted law and its own recommendation, or why there is none."""
    sizes = sorted({one.billions for one in found})
    usable = [one for one in found if one.accuracy < 1]  # the law is of logarithms: an error of 0 has none
    if len({one.billions for one in usable}) < 2 or len(usable) < FEWEST_POINTS:
        return (
            f"not fitted: it needs runs of two model sizes and {FEWEST_POINTS} cells with errors; "
            f"there are {len(sizes)} and {len(usable)}"
        )
    fit = fit_scaling_law(
        [one.billions for one in usable],
        [one.kept + one.text for one in usable],
        [1 - one.accuracy for one in usable],
    )
    law: dict[str, Any] = {
        **asdict(fit.law),
        **{
            f"{name}_interval": [one.low, one.high]
            for name, one in (("alpha", fit.alpha), ("beta", fit.beta))
        },
        "rmse": fit.rmse,
        "prefers_tokens": fit.prefers_tokens,
    }
    if compute is not None:
        try:
            law["recommended"] = asdict(
                recommend(
                    fit.law,
                    compute=compute,
                    sizes=sizes,
                    visual_budgets=sorted({round(one.kept) for one in found}),
                    text_tokens=round(statistics.fmean(one.text for one in found)),
                    counts_text=True,
                )
            )
        except ValueError as error:  # rounding put the cheapest choice just above the budget
            law["recommended"] = str(error)
    return law
