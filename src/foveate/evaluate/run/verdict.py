"""The score of one reply: the task's, but where the reply's end says what its text cannot. Knows no run."""

from __future__ import annotations

from dataclasses import replace

from foveate.evaluate.contract import Item, Reply, Score, Task


def score_reply(task: Task, item: Item, reply: Reply) -> Score:
    """The task's score. A reply without a word that a content filter stopped is a refusal, whatever the task makes of
    silence; what the task tells beside its score is kept."""
    score = task.score(item, reply)
    if reply.finish_reason == "content_filter" and not reply.text.strip():
        return replace(score, outcome="refused", value=0.0)
    return score
