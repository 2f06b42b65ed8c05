"""Is it there? Yes-no questions about things that are in the picture and things that are not (POPE)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from foveate.errors import nearest
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Reply, Score, Scored, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.parsing import read_yes_no, verdict
from foveate.evaluate.published import Row, column, data_file, items_from, picture_from
from foveate.world import Scene
from foveate.world.asking import VALUES, article

NEGATIVES = ("random", "popular", "adversarial")


class Pope:
    """POPE: as many present things as absent ones, and how often the model says yes to either.

    In the world nothing is frequent and nothing goes together, so what POPE takes from COCO's statistics is taken
    from the picture: an absent "red star" shares neither its colour nor its shape with what is there ("random"), one
    of them ("popular"), or both, with two different objects ("adversarial").

    Args:
        data: `coco_pope_random.json` and its like as RUCAIBox/POPE publishes them (JSON lines with question_id,
            image, text, label), pictures beside it; a folder gives the file of these negatives. The file's name
            says which negatives it has, and its questions are tagged so; with another name they have no such tag.
        count: questions of the embedded form, half of them about what is there.
        negatives: "random", "popular" or "adversarial".
    """

    card: ClassVar = TaskCard(
        title="object hallucination, yes or no",
        paper="POPE, arXiv 2305.10355",
        licence="MIT (questions); COCO's pictures under their own terms",
        source="github.com/RUCAIBox/POPE, output/coco/coco_pope_{random,popular,adversarial}.json; COCO val2014",
        max_tokens=16,
    )

    def __init__(
        self,
        *,
        data: str | None = None,
        count: int = 200,
        negatives: str = "adversarial",
        difficulty: int = 2,
    ) -> None:
        if negatives not in NEGATIVES:
            raise EvaluationError(f"There are no {negatives!r} negatives", fix=nearest(negatives, NEGATIVES))
        self.data, self.count, self.negatives, self.difficulty = data, count, negatives, difficulty

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._embedded(), self.count)
        path = data_file(self.data, (f"*{self.negatives}*.json", f"*{self.negatives}*.jsonl"))
        return items_from(path, partial(self._published, path.parent, _named(path)))

    def score(self, item: Item, reply: Reply) -> Score:
        parsed = read_yes_no(reply.text)
        return verdict(reply.text, parsed, lambda said: said == item.target)

    def perfect_reply(self, item: Item) -> str:
        return str(item.target)

    def corpus_measures(self, scored: Sequence[Scored]) -> dict[str, float]:
        """POPE's precision, recall and F1 of "yes", and the share of "yes" among all replies."""
        yes = [each for each in scored if each.score.parsed == "yes"]
        hits = sum(each.score.outcome == "correct" for each in yes)
        present = sum(each.item.target == "yes" for each in scored)
        precision, recall = hits / max(1, len(yes)), hits / max(1, present)
        return {
            "precision": precision,
            "recall": recall,
            "f1": 2 * hits / max(1, len(yes) + present),
            "yes_ratio": len(yes) / max(1, len(scored)),
        }

    def _published(self, folder: Path, negatives: tuple[str, ...], place: str, row: Row) -> Item:
        picture = picture_from(column(row, "image"), folder)
        label = str(column(row, "label")).strip().casefold()
        if label not in ("yes", "no"):
            raise ValueError(f"the label is {label!r}, not yes or no")
        return Item(
            id=str(row.get("question_id", place)),
            messages=(user(picture, str(column(row, "text", "question"))),),
            target=label,
            cluster=picture.name,
            tags=(*negatives, label),
            form="word",
        )

    def _embedded(self) -> Iterator[Item]:
        for index, scene in test_scenes("shapes", 44, difficulty=self.difficulty):
            rng = random.Random(f"pope {index}")
            present = {(o.colour, o.shape) for o in scene.objects}
            absent = sorted(set(self._absent(scene, present)))
            if not absent:
                continue
            asked = {"yes": rng.choice(sorted(present)), "no": rng.choice(absent)}
            for label in rng.sample(("yes", "no"), 2):
                question = f"Is there {article(' '.join(asked[label]))} in the image?"
                yield Item(
                    id=f"{index}-{label}",
                    messages=(user(scene_picture(scene, f"shapes {index}"), question),),
                    target=label,
                    cluster=str(index),
                    tags=(self.negatives, label),
                    form="word",
                )

    def _absent(self, scene: Scene, present: set[tuple[str, str]]) -> Iterable[tuple[str, str]]:
        colours, shapes = {o.colour for o in scene.objects}, {o.shape for o in scene.objects}
        shared = NEGATIVES.index(self.negatives)
        for pair in itertools.product(VALUES["colour"], VALUES["shape"]):
            if pair not in present and (pair[0] in colours) + (pair[1] in shapes) == shared:
                yield pair


def _named(path: Path) -> tuple[str, ...]:
    """The negatives that the file is named after, if any."""
    return tuple(name for name in NEGATIVES if name in path.stem)[:1]
