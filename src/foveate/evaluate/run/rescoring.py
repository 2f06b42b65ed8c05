"""Scores a run's replies again, without the model: after a scorer was corrected, or a data set's answers were.

Owns the check that a reply was to the question that its item asks now. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.run.folder import Place, RunFolder
from foveate.evaluate.run.rebuild import items_of, task_of
from foveate.evaluate.run.records import Row, messages_digest, plain, reply_from_row, score_to_row
from foveate.evaluate.run.verdict import score_reply


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """What scoring again did: replies scored, and those whose score is another one now."""

    replies: int
    changed: tuple[Place, ...]


def rescore(folder: RunFolder) -> Rescored:
    """Scores every reply by the task as it is now, and writes samples.jsonl where anything changed.

    Raises:
        EvaluationError: a task or its data is gone, or an item asks something else than the reply was to.
    """
    places: dict[tuple[str, str], list[Place]] = {}
    for place in folder.samples:
        places.setdefault(place[:2], []).append(place)
    changed: dict[Place, Row] = {}
    for (name, variant), members in places.items():
        task = task_of(folder, name, variant)
        items = items_of(task, [item for _, _, item in members])
        for place in members:
            row, item = folder.samples[place], items[place[2]]
            if messages_digest(item.messages) != row["messages"]:
                raise EvaluationError(
                    f"The item {item.id!r} of {name} asks something else than the run's reply was to",
                    why="the task has changed since the run",
                    fix="Run it again.",
                )
            now = plain(
                {
                    **row,
                    "cluster": item.cluster,
                    "tags": list(item.tags),
                    "target": item.target,
                    "score": score_to_row(score_reply(task, item, reply_from_row(row["reply"]))),
                }
            )
            if now != row:
                changed[place] = now
    if changed:
        folder.replace_samples(changed)
    return Rescored(replies=len(folder.samples), changed=tuple(changed))
