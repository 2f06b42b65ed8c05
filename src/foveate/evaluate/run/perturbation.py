"""What variants did to a run's answers, and to the order of several runs, as plain data for summaries and reports.

Owns the way from samples to `foveate.evaluate.perturb`'s measures and back to JSON. Knows no HTML.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from foveate.errors import FoveateError
from foveate.evaluate.perturb.instability import AxisInstability, VariantEffect, align, axis_instability
from foveate.evaluate.perturb.rankings import ranking_instability
from foveate.evaluate.perturb.variant import BASELINE
from foveate.evaluate.run.records import Row

Groups = Mapping[tuple[str, str], Sequence[Row]]  # samples by task and variant


def perturbations(groups: Groups, axes: Mapping[str, str], *, controls: Collection[str] = ()) -> list[Row]:
    """For each task with variants: each axis with its flips, spread and worst variant, or why there is no such figure.

    Args:
        axes: the axis of each variant, as run.json has it.
        controls: variants that change nothing on purpose; see `axis_instability`.
    """
    found: list[Row] = []
    for task, variants in _varied(groups).items():
        rows = [row for variant in variants for row in groups[task, variant]]
        try:
            aligned = align(rows)
            measured = axis_instability(aligned, axes, controls=controls)
        except FoveateError as error:
            found.append({"task": task, "missing": str(error)})
            continue
        found.append(
            {
                "task": task,
                "items": len(aligned.items),
                "left_out": aligned.left_out,
                "baseline": float(aligned.scores[BASELINE.name].mean()),
                "axes": [_axis(axis) for axis in measured],
            }
        )
    return found


def _varied(groups: Groups) -> dict[str, list[str]]:
    """Variants with answers by task, where there are two or more."""
    variants: dict[str, list[str]] = {}
    for (task, variant), rows in groups.items():
        if rows:
            variants.setdefault(task, []).append(variant)
    return {task: names for task, names in variants.items() if len(names) > 1}


def _axis(axis: AxisInstability) -> Row:
    return {
        "axis": axis.axis,
        "flip_rate": axis.flip_rate,
        "ever_flipped": axis.ever_flipped,
        "spread": axis.spread,
        "item_error": _finite(axis.item_error),
        "worst": axis.worst,
        "worst_score": axis.worst_score,
        "moved": list(axis.moved),
        "variants": [_effect(effect) for effect in axis.effects],
        "controls": [_effect(effect) for effect in axis.controls],
    }


def _effect(effect: VariantEffect) -> Row:
    return {
        "variant": effect.variant,
        "score": effect.score,
        "gained": effect.gained,
        "lost": effect.lost,
        "flip_rate": effect.flip_rate,
        "difference": effect.difference.difference,
        "interval": [effect.difference.low, effect.difference.high],
        "p_value": effect.difference.p_value,
        "holm": effect.adjusted,
    }


def rankings(runs: Mapping[str, Groups], *, controls: Collection[str] = (), seed: int = 0) -> list[Row]:
    """For each task that every run was asked in the same variants, two at least: how far they change its ranking.

    Args:
        controls: variants that change nothing on purpose, which take no part.
    """
    runs = {
        run: {pair: rows for pair, rows in groups.items() if pair[1] not in controls}
        for run, groups in runs.items()
    }
    first, *others = runs.values()
    found = []
    for task, variants in _varied(first).items():
        if any(set(_varied(other).get(task, ())) != set(variants) for other in others):
            continue
        if BASELINE.name not in variants:
            continue
        mine = {
            run: {
                name: {row["item"]: float(row["score"]["value"]) for row in groups[task, name]}
                for name in variants
            }
            for run, groups in runs.items()
        }
        clusters = {row["item"]: row["cluster"] for row in first[task, BASELINE.name]}
        common = [
            item
            for item in clusters
            if all(item in values for by_variant in mine.values() for values in by_variant.values())
        ]
        if common:
            scores = {
                run: {name: [values[item] for item in common] for name, values in by_variant.items()}
                for run, by_variant in mine.items()
            }
            measured = ranking_instability(scores, [clusters[item] for item in common], seed=seed)
            found.append({"task": task, **_plain(asdict(measured))})
    return found


def _plain(value: Any) -> Any:
    """JSON-ready: tuples as lists, numbers that are none as null."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return _finite(value) if isinstance(value, float) else value


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
