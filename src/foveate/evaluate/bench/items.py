"""The questions of a run: made from the world by number, kept as lines that can be scored without making them again.

Every item has a picture of its own, so items are independent. Knows no model.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from foveate.evaluate.bench.grid import STRETCH, BenchError, Grid
from foveate.evaluate.nano import SCORED_FAMILIES
from foveate.world import FAMILIES, Example, Question, make_example
from foveate.world.questions import follow_up


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture with one question, or with two that are asked in turn.

    Attributes:
        id: `count-2-0007`: family, difficulty and number.
        domain, index, difficulty, family: make the picture again.
        picture: digest of its pixels, to know that it is the same one.
        turns: the questions with their answers.
    """

    id: str
    family: str
    domain: str
    index: int
    difficulty: int
    picture: str
    turns: tuple[Question, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Item:
        """The inverse of `to_dict`, lists as JSON has them."""
        questions: list[dict[str, Any]] = [
            {name: tuple(value) if isinstance(value, list) else value for name, value in turn.items()}
            for turn in data["turns"]
        ]
        turns = tuple(Question(**fields) for fields in questions)
        return cls(**{**data, "turns": turns})

    def image(self) -> Image.Image | None:
        """The picture, made again; None where the world draws it otherwise by now."""
        example = _example(self.domain, self.index, self.family, self.difficulty)
        return Image.fromarray(example.rendering.rgb) if _digest(example) == self.picture else None


def make_items(grid: Grid) -> list[Item]:
    """The same for the same grid, whatever its methods and budgets; family by family.

    Raises:
        BenchError: the world gives no such question at this difficulty, or none of them a second turn.
    """
    items = [item for family in grid.families for item in _of_family(family, grid)]
    if grid.turns > 1 and not any(len(item.turns) > 1 for item in items):
        raise BenchError(
            f"None of the {len(items)} questions has a second turn",
            why="only attribute, grounding and marker questions can be followed up",
            fix="Add one of these families, or ask for one turn.",
        )
    return items


def _of_family(family: str, grid: Grid) -> list[Item]:
    domains = ("shapes", "page") if family in ("reading", "caption") else (FAMILIES[family][0],)
    # Families and seeds have stretches of the test split of their own, those of `eval-nano` left out.
    first = 100_000 * (1 + SCORED_FAMILIES.index(family)) + STRETCH * (1 + grid.seed)
    made: list[Item] = []
    for number in range(STRETCH):
        if len(made) == grid.items:
            return made
        domain = domains[number % len(domains)]
        example = _example(domain, first + number, family, grid.difficulty)
        if not example.dialogues:
            continue
        name = f"{family}-{grid.difficulty}-{first + number}"
        made.append(
            Item(
                id=name,
                family=family,
                domain=domain,
                index=first + number,
                difficulty=grid.difficulty,
                picture=_digest(example),
                turns=_turns(example, name, grid.turns),
            )
        )
    if len(made) < grid.items:
        raise BenchError(
            f"{len(made)} of {grid.items} questions of the family {family!r} could be made",
            why=f"pictures of difficulty {grid.difficulty} seldom allow one",
            fix="Leave the family out, or choose another difficulty.",
        )
    return made


def _example(domain: str, index: int, family: str, difficulty: int) -> Example:
    return make_example(domain, "test", index, questions=1, difficulty=difficulty, families=[family])


def _turns(example: Example, name: str, count: int) -> tuple[Question, ...]:
    """The question and, for a second turn, the world's own follow-up ("And what is its colour?") where it has one."""
    first = example.dialogues[0][0]
    later = follow_up(example.scene, first, random.Random(f"second turn of {name}")) if count > 1 else None
    return (first,) if later is None else (first, later)


def _digest(example: Example) -> str:
    return hashlib.sha256(example.rendering.rgb.tobytes()).hexdigest()[:16]
