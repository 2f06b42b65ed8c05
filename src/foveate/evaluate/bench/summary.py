"""From answers to what they show: accuracy with intervals, paired differences, times and memory of every cell.

Replies are read again from the folder, so a summary follows the scoring of today without asking a model. Knows no
model and draws nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.grid import FULL, NO_IMAGE, RANDOM, BenchError, Cell
from foveate.evaluate.nano import outcome
from foveate.evaluate.run_files import Row
from foveate.evaluate.statistics import compare_paired, holm, power_note, tie_groups, wilson_interval

_RESAMPLES = 2_000  # of each interval; a full run has hundreds
# Of a family's questions, to be right under full tokens: a ratio to one or two right answers would be noise, and the
# mean of ratios would follow it.
LEAST_TO_RETAIN = 0.25
_STAGES = ("prepare", "encode", "prefill", "decode", "first_token")
Outcomes = dict[str, str]  # by item


def summarise(folder: RunFolder) -> dict[str, Any]:
    """What summary.json holds: a record a cell, ties, and what was left out and why.

    Raises:
        BenchError: full tokens or the empty picture were not measured to the end.
    """
    grid = folder.grid
    whole = [cell for cell in grid.cells if cell.name not in folder.refused and folder.complete(cell.name)]
    for needed in (FULL, NO_IMAGE):
        if needed not in {cell.name for cell in whole}:
            raise BenchError(
                f"The run in {folder.path} has not measured {needed!r} to the end",
                why="everything is compared with it",
                fix="Go on with it: foveate bench --resume, with the flags it was begun with.",
            )
    turns = {
        turn: {cell.name: _outcomes(folder, cell, turn) for cell in whole}
        for turn in range(1, grid.turns + 1)
    }
    records = []
    for cell in whole:
        record: dict[str, Any] = {"cell": cell.name, "method": cell.method, "budget": cell.budget}
        record["turns"] = {
            str(turn): _accuracy(folder, cell, found, grid.downsampling) for turn, found in turns.items()
        }
        records.append({**record, **_costs(folder, cell)})
    compared = _compare(records, turns, grid.downsampling)
    items = len(turns[1][FULL])
    return {
        "model": folder.run["model"]["name"],
        "items": items,
        "turns": grid.turns,
        "downsampling": grid.downsampling,
        "comparisons": compared,
        "cells": records,
        "ties": {
            budget: tie_groups({cell.method: _right(turns[1][cell.name]) for cell in mine})
            for budget in grid.budgets
            if (mine := [cell for cell in whole if cell.budget == budget])
        },
        "speed": [
            row for cell in grid.cells for (name, _), row in sorted(folder.speed.items()) if name == cell.name
        ],
        "refused": folder.refused,
        "equal_tiles": folder.run["equal_tiles"],
        "unfinished": [
            cell.name for cell in grid.cells if cell not in whole and cell.name not in folder.refused
        ],
        "note": power_note(items),
    }


def _outcomes(folder: RunFolder, cell: Cell, turn: int) -> Outcomes:
    """By item, those that have such a turn; scored anew."""
    return {
        item.id: outcome(item.turns[turn - 1], folder.samples[cell.name, item.id][turn - 1]["reply"])
        for item in folder.items.values()
        if len(item.turns) >= turn
    }


def _right(found: Outcomes) -> list[int]:
    return [int(value == "right") for value in found.values()]


def _share(values: Iterable[str]) -> dict[str, Any]:
    """Right answers with their Wilson interval; unparsed ones count as wrong and are named."""
    outcomes = list(values)
    right = outcomes.count("right")
    return {
        "items": len(outcomes),
        "accuracy": right / len(outcomes) if outcomes else None,
        "interval": list(wilson_interval(right, len(outcomes))),
        "right": right,
        "wrong": outcomes.count("wrong"),
        "unparsed": outcomes.count("unparsed"),
    }


def _accuracy(folder: RunFolder, cell: Cell, found: Mapping[str, Outcomes], downsampling: str) -> Row:
    """One turn of one cell: all items, by family, retained performance, and where a smaller picture fails."""
    own, full = found[cell.name], found[FULL]
    turn_families = {name: folder.items[name].family for name in own}
    families = {
        family: _share(own[name] for name in own if turn_families[name] == family)
        for family in dict.fromkeys(turn_families.values())
    }
    ratios = []
    for family, row in families.items():
        reached = sum(full[name] == "right" for name in own if turn_families[name] == family)
        if reached >= LEAST_TO_RETAIN * row["items"]:
            ratios.append(row["right"] / reached)
    smaller = found.get(f"{downsampling}@{cell.budget}", {})
    hard = [own[name] for name in own if smaller.get(name, "right") != "right"]
    return {
        **_share(own.values()),
        "retained": statistics.fmean(ratios) if ratios else None,
        "retained_families": len(ratios),
        "where_downsampling_fails": _share(hard) if smaller else None,
        "families": families,
    }


def _compare(
    records: Sequence[Row], turns: Mapping[int, Mapping[str, Outcomes]], downsampling: str
) -> list[Row]:
    """Each cell against full tokens, no image, and random and downsampling at its budget, item by item.

    Holm's correction runs over all cells of one turn and one opponent.
    """
    rows = []
    for turn, found in turns.items():
        for opponent in (FULL, NO_IMAGE, RANDOM, downsampling):
            block = []
            for record in records:
                other = opponent if opponent in (FULL, NO_IMAGE) else f"{opponent}@{record['budget']}"
                if record["cell"] in (other, FULL, NO_IMAGE) or other not in found:
                    continue
                seen = compare_paired(
                    _right(found[record["cell"]]), _right(found[other]), resamples=_RESAMPLES
                )
                block.append(
                    {
                        "turn": turn,
                        "cell": record["cell"],
                        "against": opponent,
                        "difference": seen.difference,
                        "interval": [seen.low, seen.high],
                        "p_value": seen.p_value,
                        "test": seen.test,
                    }
                )
            for row, adjusted in zip(block, holm([row["p_value"] for row in block]), strict=True):
                row["holm"] = adjusted
            rows += block
    return rows


def _costs(folder: RunFolder, cell: Cell) -> Row:
    """Tokens, median times of the first turn, and peaks of memory over the whole cell."""
    rows = [folder.samples[cell.name, item] for item in folder.items]
    first = [turns[0] for turns in rows]
    baseline = [folder.samples[FULL, item][0] for item in folder.items]
    choosing = [
        row["seconds"]["encode"] - full["seconds"]["encode"]
        for row, full in zip(first, baseline, strict=True)
    ]
    later = [turns[1] for turns in rows if len(turns) > 1]
    resident = [row["resident"] for turns in rows for row in turns if row["resident"] is not None]
    return {
        "kept": statistics.fmean(row["kept"] for row in first),
        "total": statistics.fmean(row["total"] for row in first),
        "text": statistics.fmean(row["prompt"] - row["kept"] for row in first),
        "milliseconds": {
            **{stage: _milliseconds(row["seconds"][stage] for row in first) for stage in _STAGES},
            # Choosing runs inside the encoder stage; what it adds to it is what it takes.
            "encode_beyond_full": _milliseconds(choosing) if cell.method != NO_IMAGE else None,
            "second_turn_first_token": _milliseconds(row["seconds"]["first_token"] for row in later),
        },
        "peak_blocks": max(row["blocks"] for turns in rows for row in turns),
        "peak_cache_bytes": max(row["blocks"] * row["block_bytes"] for turns in rows for row in turns),
        "peak_resident_bytes": max(resident, default=None),
    }


def _milliseconds(values: Iterable[float]) -> float | None:
    seconds = list(values)
    return round(1000 * statistics.median(seconds), 3) if seconds else None
