"""What a run's answers come to: for each task and variant its score with an interval, outcomes, failures and groups.

Owns summary.json. Failures are counted beside the scores and never in them. Reads a finished or half-finished folder;
knows no model and no HTML.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveate.errors import FoveateError
from foveate.evaluate.contract import OUTCOMES
from foveate.evaluate.provenance import write_atomically
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.perturbation import perturbations
from foveate.evaluate.run.rebuild import scored, task_of
from foveate.evaluate.run.records import Row
from foveate.evaluate.statistics import bootstrap_mean, power_note, wilson_interval
from foveate.evaluate.tasks.registry import task_class

SUMMARY = "summary.json"
TAG_ITEMS = 5  # a group smaller than this is counted and gets no score of its own


def summarise(folder: RunFolder | Path) -> Row:
    """The run's summary; also written to summary.json.

    Raises:
        EvaluationError: the folder holds no run, or one that cannot be read.
    """
    run = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    groups = grouped(run)
    axes = {variant["name"]: variant.get("axis", "") for variant in run.run["variants"]}
    results = [_result(run, task, variant, rows) for (task, variant), rows in groups.items()]
    summary: Row = {
        "format": 1,
        "model": run.run["model"].get("name", "unnamed"),
        "style": style_name(run.run),
        "sample": sample_note(run.run),
        "items": len(run.samples),
        "failed": len(run.failures),
        "unfinished": unfinished(run),
        "results": results,
        "perturbations": perturbations(groups, axes, controls=controls_of(run.run)),
    }
    write_atomically(
        run.path / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    return summary


def grouped(run: RunFolder) -> dict[tuple[str, str], list[Row]]:
    """Samples by (task, variant), in the order of run.json; a pair all of whose items failed has none.

    Those of a pair are in the order of their ids, not in that in which replies came: resampling draws by place, and
    a summary must be the same whenever it is made.
    """
    groups: dict[tuple[str, str], list[Row]] = {
        (task["name"], variant["name"]): [] for task in run.run["tasks"] for variant in run.run["variants"]
    }
    for (task, variant, _), row in run.samples.items():
        groups.setdefault((task, variant), []).append(row)
    failed = {(task, variant) for task, variant, _ in run.failures}
    return {
        pair: sorted(rows, key=lambda row: row["item"])
        for pair, rows in groups.items()
        if rows or pair in failed
    }


def unfinished(run: RunFolder) -> list[Row]:
    """Tasks and variants of which not every item was asked yet: `asked` of `planned`, broken rows in both."""
    there = Counter((task, variant) for task, variant, _ in {*run.samples, *run.failures})
    planned = [
        {
            "task": part["task"],
            "variant": part["variant"],
            "asked": there[part["task"], part["variant"]],
            "planned": part["asked"] + part["broken"],
        }
        for part in run.run.get("parts", [])
    ]
    return [part for part in planned if part["asked"] < part["planned"]]


def controls_of(run: Mapping[str, Any]) -> list[str]:
    """The run's variants that change nothing on purpose."""
    return [variant["name"] for variant in run["variants"] if variant.get("control")]


def style_name(run: Mapping[str, Any]) -> str:
    """Of the run's prompt style, whose words run.json holds too."""
    style = run["style"]
    return style["name"] if isinstance(style, dict) else str(style)


def sample_note(run: Mapping[str, Any]) -> str:
    """Empty for a whole run; else how its items were drawn."""
    if run.get("limit") is None:
        return ""
    return f"a random sample of at most {run['limit']} items a task (seed {run['seed']}), not the whole set"


def _result(run: RunFolder, task: str, variant: str, rows: Sequence[Row]) -> Row:
    failures = [row for row in run.failures.values() if (row["task"], row["variant"]) == (task, variant)]
    result: Row = {
        "task": task,
        "variant": variant,
        "metric": _metric(task),
        "items": len(rows),
        "outcomes": {name: sum(row["score"]["outcome"] == name for row in rows) for name in OUTCOMES},
        "cut_short": sum(row["reply"]["finish_reason"] == "length" for row in rows),
        "failures": dict(Counter(row["kind"] for row in failures)),
    }
    if not rows:
        return result
    result |= score_of(rows)
    result["tags"] = _by_tag(rows)
    result["confusion"] = confusion(rows)
    result["measures"], result["measures_missing"] = _measures(run, task, variant, rows)
    result["note"] = _power(result)
    return result


def score_of(rows: Sequence[Row]) -> Row:
    """Mean value of these samples with its intervals.

    `interval` is the one to quote: Wilson's where every item is right or wrong and has a picture of its own, else the
    bootstrap over pictures.
    """
    values = [float(row["score"]["value"]) for row in rows]
    clusters = [row["cluster"] for row in rows]
    binary = all(value in (0.0, 1.0) for value in values)
    pictures = len(set(clusters))
    found: Row = {"mean": sum(values) / len(values), "binary": binary, "clusters": pictures}
    spread = bootstrap_mean(values, clusters, bounds=(0.0, 1.0))
    found["bootstrap"] = [spread.low, spread.high]
    found["wilson"] = list(wilson_interval(round(sum(values)), len(values))) if binary else None
    if binary and pictures == len(values):
        return found | {"interval": found["wilson"], "method": "Wilson"}
    if len(set(values)) == 1 and binary:  # nothing to resample: as many pictures, all right or all wrong
        interval = wilson_interval(pictures if values[0] else 0, pictures)
        return found | {"interval": list(interval), "method": f"Wilson over {pictures} pictures"}
    return found | {"interval": found["bootstrap"], "method": f"{spread.method} over {pictures} pictures"}


def _by_tag(rows: Sequence[Row]) -> dict[str, Row]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        for tag in row["tags"]:
            groups.setdefault(tag, []).append(row)
    return {
        tag: {"items": len(mine), **(score_of(mine) if len(mine) >= TAG_ITEMS else {})}
        for tag, mine in sorted(groups.items())
    }


def confusion(rows: Sequence[Row], *, most: int = 12) -> Row | None:
    """True answers against given ones, where there are few of them: a closed set.

    A task that has classes of its own (a strategy, say) names them as `details["confusion"] = [truth, said]`; else a
    target and what was parsed are taken where both are words. An answer that scored correct counts as its target,
    however it was spelt. None where the answers are no closed set.

    Returns:
        `classes`, and `counts` by [truth][said]; said may be one of the classes, "other", "unparsed" or "refused".
    """
    pairs = [_truth_and_said(row) for row in rows]
    if any(pair is None for pair in pairs):
        return None
    known = [pair for pair in pairs if pair is not None]
    classes = sorted({truth for truth, _ in known})
    # Each class must come again, or these are free answers that happen to be short.
    if not 2 <= len(classes) <= most or len(known) < 3 * len(classes):
        return None
    counts = {truth: Counter[str]() for truth in classes}
    for (truth, said), row in zip(known, rows, strict=True):
        outcome = row["score"]["outcome"]
        column = said if said in classes else "other"
        counts[truth][outcome if said is None and outcome in OUTCOMES[2:] else column] += 1
    return {"classes": classes, "counts": {truth: dict(line) for truth, line in counts.items()}}


def _truth_and_said(row: Mapping[str, Any]) -> tuple[str, str | None] | None:
    score = row["score"]
    pair = score["details"].get("confusion")
    if pair is not None:
        truth, said = pair
        return str(truth), None if said is None else str(said)
    truth, said = answer_of(row["target"]), score["parsed"]
    if not isinstance(truth, str | bool | int):
        return None
    if score["outcome"] == "correct":
        return str(truth), str(truth)
    return str(truth), None if score["outcome"] in OUTCOMES[2:] else str(said)


def answer_of(target: Any) -> Any:
    """The answer itself where a target has more beside it."""
    return target["answer"] if isinstance(target, dict) and "answer" in target else target


def _measures(
    run: RunFolder, task: str, variant: str, rows: Sequence[Row]
) -> tuple[dict[str, float | None], str]:
    """(measures of all items together, why there are none although the task has some)."""
    try:
        rebuilt = task_of(run, task, variant)
        measure: Callable[..., dict[str, float]] | None = getattr(rebuilt, "corpus_measures", None)
        if measure is None:
            return {}, ""
        found = measure(scored(rebuilt, rows))
    except FoveateError as error:
        return {}, str(error)
    return {name: value if math.isfinite(value) else None for name, value in found.items()}, ""


def _metric(task: str) -> str:
    try:
        return task_class(task).card.metric
    except FoveateError:
        return "value"


def _power(result: Mapping[str, Any]) -> str:
    """Of independent pictures: several questions about one tell less than as many pictures would."""
    # Arms at 0 or 1 have no variance to plan with; a planned comparison is of arms that can differ.
    accuracy = min(0.95, max(0.05, round(result["mean"], 2)))
    note = power_note(result["clusters"], accuracy=accuracy)
    if result["clusters"] == result["items"]:
        return note
    return f"{result['items']} questions on {result['clusters']} pictures, counted as pictures: {note}"
