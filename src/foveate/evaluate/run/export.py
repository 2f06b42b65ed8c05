"""A run in the files of lmms-eval 0.7: samples a line each, and the aggregated results beside them.

    OUTPUT/MODEL/DATE_samples_TASK.jsonl     one per task; a variant's name follows after two underscores
    OUTPUT/MODEL/DATE_results.json

so that its viewers read them and its `--baseline` compares with them. Owns the mapping; knows no model. What that
format has no place for (outcomes, clusters, tags) stands under names of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveate.evaluate.provenance import write_atomically
from foveate.evaluate.run.folder import SAMPLES, RunFolder
from foveate.evaluate.run.rebuild import named, task_of
from foveate.evaluate.run.records import Row, last_question
from foveate.evaluate.run.summary import grouped, summarise
from foveate.evaluate.run.worst import pictures_of
from foveate.evaluate.statistics.proportions import NORMAL_95


def export_lmms_eval(run: RunFolder | Path, output: Path) -> list[Path]:
    """Writes the run there; returns the files, the results last.

    `doc_id` is the item's place in the task's data, as it is there: a sample of items keeps it, and so two runs can be
    paired by it. Items that failed have no line.

    Raises:
        EvaluationError: no run, or a task whose data is gone, for places in it are needed.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    date = datetime.fromtimestamp((folder.path / SAMPLES).stat().st_mtime, tz=UTC).strftime("%Y%m%d_%H%M%S")
    place = output / file_name(folder.run["model"].get("name", "unnamed"))
    written = []
    for (task, variant), rows in grouped(folder).items():
        if not rows:
            continue
        entries = list(task_of(folder, task, variant).items())
        places = {entry.id: number for number, entry in enumerate(entries)}
        items = {entry.id: entry for entry in entries}
        lines = [
            json.dumps(sample(row, places[row["item"]], items[row["item"]]), ensure_ascii=False) + "\n"
            for row in rows
        ]
        path = place / f"{date}_samples_{file_name(key_of(task, variant))}.jsonl"
        write_atomically(path, "".join(lines))
        written.append(path)
    results = place / f"{date}_results.json"
    write_atomically(results, json.dumps(aggregated(folder, date), indent=2, ensure_ascii=False) + "\n")
    return [*written, results]


def key_of(task: str, variant: str) -> str:
    """A task's name there; variants are tasks of their own."""
    return task if variant == "baseline" else f"{task}__{variant}"


def file_name(name: str) -> str:
    """A name of a model or task without what no file's name may have."""
    return re.sub(r"[^\w.%+-]+", "__", name)


def sample(row: Mapping[str, Any], place: int, item: Any) -> Row:
    """One line; `score` is what `--baseline` reads."""
    reply, score = row["reply"], row["score"]
    question = last_question(item.messages)
    document = json.dumps([row["item"], row["messages"], row["target"]], ensure_ascii=False)
    return {
        "doc_id": place,
        "target": row["target"] if isinstance(row["target"], str) else json.dumps(row["target"]),
        "filtered_resps": reply["text"],
        "token_counts": [
            {
                "input_tokens": reply["prompt_tokens"],
                "output_tokens": reply["generated_tokens"],
                "reasoning_tokens": 0,
            }
        ],
        "doc_hash": hashlib.sha256(document.encode()).hexdigest(),
        "input_media": [picture.name for picture in pictures_of(item)],
        "score": score["value"],
        "input": question,
        "outcome": score["outcome"],
        "parsed": score["parsed"],
        "item": row["item"],
        "cluster": row["cluster"],
        "tags": row["tags"],
    }


def aggregated(folder: RunFolder, date: str) -> Row:
    """The results file: a mean and its standard error by task, and what was asked with what."""
    run, summary = folder.run, summarise(folder)
    rows = {key_of(row["task"], row["variant"]): row for row in summary["results"] if row["items"]}
    tasks = named(run["tasks"])
    settings = {key: tasks[row["task"]].get("settings", {}) for key, row in rows.items()}
    return {
        "results": {
            key: {"alias": key, "score,none": row["mean"], "score_stderr,none": _error(row), **_measures(row)}
            for key, row in rows.items()
        },
        "group_subtasks": {key: [] for key in rows},
        "configs": {
            key: {"task": key, "metadata": {"metric": row["metric"], "settings": settings[key]}}
            for key, row in rows.items()
        },
        "versions": {key: run.get("versions", {}).get("foveate", "unknown") for key in rows},
        "n-shot": dict.fromkeys(rows, 0),
        "higher_is_better": {key: {"score": True} for key in rows},
        "n-samples": {
            key: {"original": row["items"] + sum(row["failures"].values()), "effective": row["items"]}
            for key, row in rows.items()
        },
        "config": {
            "model": "foveate",
            "model_args": json.dumps(run["model"], ensure_ascii=False),
            "limit": run.get("limit"),
            "gen_kwargs": run["parameters"],
        },
        "git_hash": ", ".join(run.get("commits", [])),
        "date": date,
        "model_source": "foveate",
        "model_name": run["model"].get("name", "unnamed"),
        "model_name_sanitized": file_name(run["model"].get("name", "unnamed")),
    }


def _measures(row: Mapping[str, Any]) -> dict[str, float | None]:
    return {f"{name},none": value for name, value in row["measures"].items()}


def _error(row: Mapping[str, Any]) -> float:
    """The standard error that a 95 % interval of this width has: the intervals themselves are not symmetric."""
    low, high = row["interval"]
    width = float(high - low)
    return width / (2 * NORMAL_95) if math.isfinite(width) else width
