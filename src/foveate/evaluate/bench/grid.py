"""What a run measures: cells of method and budget, and how many questions of which families.

Owns the suites, the arms that every run has, and the refusal of names that do not exist. Knows no model and no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate.errors import FoveateError, nearest
from foveate.reduce.budget import Budget
from foveate.reduce.registry import find, list_reducers
from foveate.world import FAMILIES

FULL, NO_IMAGE = "full", "no image"
# Any method must be read beside these two at its own budget: chance, and what needs no method at all.
RANDOM, DOWNSAMPLE = "random", "downsample"
STAND_IN = "average_pool"  # for downsampling, where a tower takes tiles of one size
_STAGES = ("input", "before the language model")  # of methods for single pictures that the engine serves
STRETCH, SEEDS = 10_000, 8  # pictures of a family that belong to one seed, and how many seeds there are


class BenchError(FoveateError):
    """A bench that cannot be run, continued or read as asked."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One arm: a method at a budget, or one of the two ends."""

    method: str
    budget: str

    @property
    def name(self) -> str:
        """What it is called in files and tables: `fastervlm@10%`, `full`, `no image`."""
        return self.method if self.method in (FULL, NO_IMAGE) else f"{self.method}@{self.budget}"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells of a run and the questions they share.

    Attributes:
        methods: registry names; random and downsample (or its stand-in) come first and are always there.
        budgets: what each of them is given, as `Budget` writes it.
        families: question families of the world.
        items: questions of each family, each on a picture of its own.
        turns: 1, or 2 to follow up, after the answer, on questions that the world can follow up.
        difficulty: of the pictures, 1 to 3.
        seed: which of the test split's pictures.
    """

    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    families: tuple[str, ...]
    items: int
    turns: int = 1
    difficulty: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = (
            ("items", self.items, 1, STRETCH // 4),
            ("turns", self.turns, 1, 2),
            ("difficulty", self.difficulty, 1, 3),
            ("seed", self.seed, 0, SEEDS - 1),
        )
        for name, value, least, most in ranges:
            if not least <= value <= most:
                raise BenchError(f"{name} is {value}", why=f"it must be {least} to {most}")

    @property
    def cells(self) -> list[Cell]:
        """The two ends, then budget by budget."""
        ends = [Cell(method=FULL, budget="full"), Cell(method=NO_IMAGE, budget="none")]
        return ends + [
            Cell(method=method, budget=budget) for budget in self.budgets for method in self.methods
        ]

    @property
    def downsampling(self) -> str:
        """The method that stands for a smaller picture."""
        return DOWNSAMPLE if DOWNSAMPLE in self.methods else STAND_IN

    def with_stand_in(self) -> Grid:
        """For towers that take tiles of one size: a pooled raster in place of a smaller picture."""
        kept = [method for method in self.methods if method not in (DOWNSAMPLE, STAND_IN)]
        return replace(self, methods=(kept[0], STAND_IN, *kept[1:]))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Grid:
        """The inverse of `dataclasses.asdict`, lists as JSON has them."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A grid by name; no families means all of them, no methods all for single pictures that the engine serves."""

    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    families: tuple[str, ...]
    items: int
    turns: int


SUITES = {
    "smoke": Suite(
        methods=("fastervlm", "visionzip", "divprune"),
        budgets=("10%", "25%"),
        families=("existence", "attribute", "count", "reading"),
        items=10,
        turns=1,
    ),
    "full": Suite(methods=(), budgets=("5%", "10%", "25%", "50%"), families=(), items=20, turns=2),
}


def make_grid(
    suite: str,
    *,
    methods: Sequence[str] = (),
    budgets: Sequence[str] = (),
    families: Sequence[str] = (),
    items: int | None = None,
    turns: int | None = None,
    difficulty: int = 2,
    seed: int = 0,
) -> Grid:
    """The suite's grid with what was asked for in place of its own.

    Raises:
        ReductionError: no such method, or a budget that cannot be read.
        BenchError: no such suite or family, a budget that drops nothing, or a number outside its range.
    """
    if suite not in SUITES:
        raise BenchError(f"There is no suite {suite!r}", fix=nearest(suite, SUITES))
    base = SUITES[suite]
    stills = [info.name for info in list_reducers() if info.stage in _STAGES]
    wanted = _unique(methods or base.methods or stills)
    for name in wanted:
        find(name)
    named = _unique(families or base.families or FAMILIES)
    for family in named:
        if family not in FAMILIES:
            raise BenchError(f"There is no question family {family!r}", fix=nearest(family, FAMILIES))
    others = [name for name in wanted if name not in (RANDOM, DOWNSAMPLE)]
    return Grid(
        methods=(RANDOM, DOWNSAMPLE, *others),
        budgets=tuple(_unique(_budget(text) for text in budgets or base.budgets)),
        families=tuple(named),
        items=base.items if items is None else items,
        turns=base.turns if turns is None else turns,
        difficulty=difficulty,
        seed=seed,
    )


def _budget(text: str) -> str:
    budget = Budget.parse(text)
    if budget.kind == "full" or (budget.share == 1 and budget.kind == "share"):
        raise BenchError(
            f"The budget {text} drops nothing",
            why="full tokens are measured in every run",
            fix="Leave it out.",
        )
    return str(budget)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
