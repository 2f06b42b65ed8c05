"""Runs against each other on the items that all of them answered: paired tests, corrected for how many there are.

Owns which runs may be compared and what a comparison says. Knows no model, no HTML and no terminal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.run.folder import RunFolder
from foveate.evaluate.run.perturbation import rankings
from foveate.evaluate.run.rebuild import named
from foveate.evaluate.run.records import Row
from foveate.evaluate.run.summary import controls_of, grouped, style_name, unfinished
from foveate.evaluate.statistics import compare_paired, holm, mcnemar, power_note, tie_groups
from foveate.evaluate.statistics.bootstrap import RESAMPLES

LEVEL = 0.05
NAMED = 10  # items that are in one run only are counted, and so many of them named
# Parameters that one compares; all others make two runs ask the same.
COMPARED_PARAMETERS = ("visual_budget", "reducer")
_LOSSLESS = ("png", "webp")  # codecs; a model in this process has none and is given the pixels themselves
Pair = tuple[str, str]  # task and variant
Answers = Mapping[Pair, Sequence[Row]]  # samples of one run


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One run under the name that a comparison gives it."""

    name: str
    folder: RunFolder


def compare(paths: Sequence[Path], *, anyway: bool = False, seed: int = 0) -> Row:
    """All pairs of these runs, task by task.

    Args:
        anyway: compare runs that asked differently; what differs is then in the result.

    Returns:
        `runs`, `differences` (why they should not have been compared), `comparisons` of two runs on one task and
        variant, with `holm` over all of them, `ties` where there are more than two runs, `rankings` (what
        variants do to the order of runs) where all were asked in several, and `left_out`.

    Raises:
        EvaluationError: fewer than two runs, runs that share no items, or that asked differently.
    """
    if len(paths) < 2:
        raise EvaluationError(
            "One run has nothing to be compared with", fix="Name two: foveate eval compare RUN RUN"
        )
    arms = arms_of([RunFolder.open(path) for path in paths])
    differences = [line for a, b in combinations(arms, 2) for line in differently_asked(a, b)]
    if differences and not anyway:
        raise EvaluationError(
            "These runs did not ask the same",
            why="; ".join(differences),
            fix="Compare them all the same with --anyway; the result will say what differs.",
        )
    controls = {name for arm in arms for name in controls_of(arm.folder.run)}
    found = compare_rows({arm.name: grouped(arm.folder) for arm in arms}, controls=controls, seed=seed)
    return {"format": 1, "runs": [_describe(arm) for arm in arms], "differences": differences, **found}


def compare_rows(
    rows: Mapping[str, Answers],
    *,
    controls: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Row:
    """The part of `compare` that needs no folder: samples by run, and by task and variant.

    Args:
        controls: variants that change nothing on purpose: no part of rankings.
        resamples: of every interval, and of sign flips where they are drawn.

    Raises:
        EvaluationError: no two runs share an answered item.
    """
    pairs = _pairs(rows)
    comparisons = [
        _compare_two(pair, (a, rows[a][pair]), (b, rows[b][pair]), resamples=resamples, seed=seed)
        for pair in pairs
        for a, b in combinations(rows, 2)
        if pair in rows[a] and pair in rows[b]
    ]
    found = [row for row in comparisons if row["items"]]
    if not found:
        raise EvaluationError(
            "These runs share no answered items", fix="Run the same tasks with the same --limit and --seed."
        )
    for row, corrected in zip(found, holm([row["p_value"] for row in found]), strict=True):
        row["holm"] = corrected
        row["different"] = corrected <= LEVEL
    return {
        "comparisons": comparisons,
        "ties": [_ties(pair, rows, seed) for pair in pairs] if len(rows) > 2 else [],
        "rankings": rankings(rows, controls=controls, seed=seed),
        "left_out": [line for pair in pairs for line in _left_out(pair, rows)],
    }


def arms_of(folders: Sequence[RunFolder]) -> list[Arm]:
    """Short names: the model's where these differ, else the folder's, else numbered."""
    for names in (
        [_model_name(folder) for folder in folders],
        [folder.path.resolve().name for folder in folders],
        [f"{number} {folder.path.resolve().name}" for number, folder in enumerate(folders, 1)],
    ):
        if len(set(names)) == len(folders):
            break
    return [Arm(name=name, folder=folder) for name, folder in zip(names, folders, strict=True)]


def _model_name(folder: RunFolder) -> str:
    """The model with its visual budget and reducer, where the run set them."""
    parameters = folder.run["parameters"]
    extra = [str(parameters[name]) for name in COMPARED_PARAMETERS if parameters.get(name) is not None]
    return " ".join([folder.run["model"].get("name", "unnamed"), *extra])


def _describe(arm: Arm) -> Row:
    run = arm.folder.run
    return {
        "name": arm.name,
        "folder": arm.folder.path.resolve().name,
        "model": run["model"],
        "style": style_name(run),
        "pictures_sent": _pictures_sent(run["model"]),
        "parameters": run["parameters"],
        "commits": run.get("commits", []),
        "answered": len(arm.folder.samples),
        "failed": len(arm.folder.failures),
        "unfinished": unfinished(arm.folder),
    }


def differently_asked(first: Arm, second: Arm) -> list[str]:
    """Why two runs are not comparable, a line each; none where only what may be compared differs."""
    a, b = first.folder.run, second.folder.run
    found = []
    if a["style"] != b["style"]:
        there, here = style_name(a), style_name(b)
        words = "another wording" if there == here else f"{here!r}"
        found.append(f"style {there!r} in {first.name}, {words} in {second.name}")
    for name in a["parameters"]:
        there, here = a["parameters"][name], b["parameters"].get(name)
        if name not in COMPARED_PARAMETERS and there != here:
            found.append(f"{name} {there!r} in {first.name}, {here!r} in {second.name}")
    there, here = (_pictures_sent(run["model"]) for run in (a, b))
    if there != here:
        found.append(f"pictures sent {there} in {first.name}, {here} in {second.name}")
    fields, others = (dict(run["model"].get("extra", {})) for run in (a, b))
    if fields != others:
        found.append(f"fields added to requests: {fields} in {first.name}, {others} in {second.name}")
    for kind in ("tasks", "variants"):
        mine, theirs = named(a[kind]), named(b[kind])
        found += [
            f"{kind[:-1]} {name}: {parts}"
            for name in mine
            if name in theirs and (parts := _settings_apart(mine[name], theirs[name]))
        ]
    for place, row in first.folder.samples.items():
        other = second.folder.samples.get(place)
        if other is not None and (row["target"], row["messages"]) != (other["target"], other["messages"]):
            found.append(f"item {row['item']} of {row['task']} asks something else in {second.name}")
            break
    return found


def _pictures_sent(model: Mapping[str, Any]) -> str:
    """The codec between a run's pictures and its model; those that change no pixel are one."""
    codec = model.get("codec")
    return "without loss" if codec is None or codec in _LOSSLESS else f"as {codec}"


def _settings_apart(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """Settings of a task or fields of a variant that differ. Where the data lies may differ: the items tell."""
    one, other = ({**record, **record.get("settings", {})} for record in (mine, theirs))
    return ", ".join(
        f"{key} {one.get(key)!r} against {other.get(key)!r}"
        for key in {**one, **other}
        if key not in ("settings", "data") and one.get(key) != other.get(key)
    )


def _pairs(rows: Mapping[str, Answers]) -> list[Pair]:
    """Every task and variant that at least two runs have, in the order of the first that has it."""
    order = dict.fromkeys(pair for mine in rows.values() for pair in mine)
    return [pair for pair in order if sum(pair in mine for mine in rows.values()) > 1]


def _left_out(pair: Pair, rows: Mapping[str, Answers]) -> list[Row]:
    """Items that some run has answered and another has not: they take no part."""
    answered = {name: {row["item"] for row in mine[pair]} for name, mine in rows.items() if pair in mine}
    common = set.intersection(*answered.values())
    return [
        {
            "task": pair[0],
            "variant": pair[1],
            "run": name,
            "items": len(items - common),
            "named": sorted(items - common)[:NAMED],
        }
        for name, items in answered.items()
        if items - common
    ]


def _compare_two(
    pair: Pair,
    first: tuple[str, Sequence[Row]],
    second: tuple[str, Sequence[Row]],
    *,
    resamples: int,
    seed: int,
) -> Row:
    """Two runs on one task; `items` is 0 where they share none."""
    mine = {row["item"]: row for row in first[1]}
    common = [(mine[row["item"]], row) for row in second[1] if row["item"] in mine]
    found: Row = {
        "task": pair[0],
        "variant": pair[1],
        "first": first[0],
        "second": second[0],
        "items": len(common),
    }
    if not common:
        return found
    a, b = (_values([rows[side] for rows in common]) for side in (0, 1))
    clusters = [row["cluster"] for row, _ in common]
    result = compare_paired(a, b, clusters, resamples=resamples, seed=seed)
    found |= {
        "clusters": result.clusters,
        "means": [result.first, result.second],
        "difference": result.difference,
        "interval": [result.low, result.high],
        "p_value": result.p_value,
        "test": result.test,
        "method": result.method,
        "note": _power(a, b, result.clusters),
    }
    if np.isin([a, b], (0, 1)).all():
        table = mcnemar(a, b)
        found["discordant"] = [table.only_first, table.only_second]
    return found


def _values(rows: Sequence[Row]) -> np.ndarray:
    return np.array([float(row["score"]["value"]) for row in rows])


def _power(first: np.ndarray, second: np.ndarray, clusters: int) -> str:
    """With the correlation that these two arms have, where they have one."""
    spread = float(first.std() * second.std())
    together = float(np.mean((first - first.mean()) * (second - second.mean())) / spread) if spread else 0.5
    middle = float((first.mean() + second.mean()) / 2)
    return power_note(
        clusters,
        accuracy=min(0.95, max(0.05, round(middle, 2))),
        correlation=min(0.95, max(0.0, round(together, 2))),
    )


def _ties(pair: Pair, rows: Mapping[str, Answers], seed: int) -> Row:
    """Groups of runs that cannot be told apart on this task, on the items that all of them answered."""
    mine = {name: {row["item"]: row for row in each[pair]} for name, each in rows.items() if pair in each}
    names = list(mine)
    common = [item for item in mine[names[0]] if all(item in each for each in mine.values())]
    found: Row = {"task": pair[0], "variant": pair[1], "items": len(common), "groups": []}
    if common:
        scores = {name: _values([mine[name][item] for item in common]) for name in names}
        clusters = [mine[names[0]][item]["cluster"] for item in common]
        found["groups"] = tie_groups(scores, clusters, level=LEVEL, seed=seed)
        found["means"] = {name: float(values.mean()) for name, values in scores.items()}
    return found
