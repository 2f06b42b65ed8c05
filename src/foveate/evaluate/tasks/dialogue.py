"""Several questions about one picture in one conversation, each behind the model's own answers to those before."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from foveate.evaluate.contract import BrokenItem, Item, Message, Reply, Score, Scored, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.parsing import is_refusal, read_answer
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.world import Question, Scene, ask
from foveate.world.questions import follow_up

_OTHERS = ("existence", "count", "relation", "comparison")


class Dialogue:
    """Dialogues: a score is the share of turns answered right; correct means all of them.

    Token reducers that read the first question keep what it needs, and later questions tell (LLMC+, arXiv
    2508.09981): compare `turn_1` with the others, and with `shuffle`, which asks in another order.

    Args:
        data: JSON lines of this project's own form, for no public set of dialogues has short answers to compare with:
            {"id", "image", "turns": [{"question", "answer", "choices": [...]}]}; `choices` may be left out.
        count: dialogues of the embedded form: a question, a follow-up that says "it", and one or more others.
        turns: of the embedded form, at least 2.
        shuffle: seed of another order of the turns; 0 keeps the order. "It" stays behind what it refers to.
    """

    card: ClassVar = TaskCard(
        title="dialogues about one picture",
        paper="this project; the question is LLMC+'s, arXiv 2508.09981",
        licence="made here",
        source="the world; or JSON lines with id, image and turns",
        metric="share of turns",
        max_tokens=32,
    )

    def __init__(
        self,
        *,
        data: str | None = None,
        count: int = 100,
        difficulty: int = 2,
        turns: int = 3,
        shuffle: int = 0,
    ) -> None:
        self.data, self.count, self.difficulty = data, count, difficulty
        self.turns, self.shuffle = max(2, turns), shuffle

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._of_the_world(), self.count)
        path = data_file(self.data, ("*.jsonl", "*.json"))
        return items_from(path, partial(_published, path.parent))

    def score(self, item: Item, reply: Reply) -> Score:
        replies = [*reply.earlier, reply]
        turns: list[dict[str, Any]] = item.target["turns"]
        said = [read_answer(each.text, turn["choices"]) for each, turn in zip(replies, turns, strict=False)]
        said += [None] * (len(turns) - len(said))
        right = [
            own is not None and own.casefold() == str(turn["answer"]).casefold()
            for own, turn in zip(said, turns, strict=True)
        ]
        details = {"turns": right}
        if not any(said):
            refused = any(is_refusal(each.text) for each in replies)
            return Score.refused(**details) if refused else Score.unparsed(**details)
        return Score(
            outcome="correct" if all(right) else "wrong",
            value=sum(right) / len(right),
            parsed=said,
            details=details,
        )

    def next_turn(self, item: Item, replies: Sequence[Reply]) -> Message | None:
        turns = item.target["turns"]
        return user(turns[len(replies)]["question"]) if len(replies) < len(turns) else None

    def perfect_reply(self, item: Item, replies: Sequence[Reply] = ()) -> str:
        return str(item.target["turns"][len(replies)]["answer"])

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """Accuracy of the first turn, of the second, ..., over the dialogues that have one."""
        rows = [each.score.details["turns"] for each in scored]
        longest = max((len(row) for row in rows), default=0)
        columns = [[row[place] for row in rows if len(row) > place] for place in range(longest)]
        return {f"turn_{place}": sum(own) / len(own) for place, own in enumerate(columns, start=1)}

    def _of_the_world(self) -> Iterator[Item]:
        for index, scene in test_scenes("shapes", 49, difficulty=self.difficulty):
            turns = self._turns(scene, random.Random(f"dialogue {index}"))
            if turns is None:
                continue
            facts = [{"question": q.text, "answer": q.answer, "choices": list(q.choices)} for q in turns]
            yield Item(
                id=f"dialogue-{index}",
                messages=(user(scene_picture(scene, f"shapes {index}"), turns[0].text),),
                target={"turns": facts},
                cluster=str(index),
                form="word",
            )

    def _turns(self, scene: Scene, rng: random.Random) -> list[Question] | None:
        first = ask(scene, "attribute", rng)
        second = follow_up(scene, first, rng) if first else None
        if first is None or second is None:
            return None
        parts = [[first, second]]
        for place in range(self.turns - 2):
            other = ask(scene, _OTHERS[place % len(_OTHERS)], rng)
            if other is None or any(other.text == asked.text for part in parts for asked in part):
                return None
            parts.append([other])
        if self.shuffle:
            rng = random.Random(f"order {self.shuffle} {scene.seed}")
            rng.shuffle(parts)
        return [question for part in parts for question in part]


def _published(folder: Path, place: str, row: Row) -> Item:
    turns = column(row, "turns")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns) or not turns:
        raise ValueError("turns is not a list of objects")
    facts: list[dict[str, Any]] = []
    for turn in turns:
        choices = turn.get("choices") or []
        if not isinstance(choices, list):
            raise ValueError("choices is not a list")
        facts.append(
            {
                "question": str(column(turn, "question")),
                "answer": str(column(turn, "answer")),
                "choices": [str(choice) for choice in choices],
            }
        )
    name = column(row, "image")
    return Item(
        id=str(row.get("id") or place),
        messages=(user(picture_from(name, folder), facts[0]["question"]),),
        target={"turns": facts},
        cluster=str(row.get("id") or place),
        form="word",
    )
