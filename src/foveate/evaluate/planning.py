"""What a run asks: tasks with settings, variants, style, parameters and sample, made into lists of items.

Owns the seeded sample and the rules which variants a task is asked in. Asks nothing and scores nothing.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from foveate.errors import FoveateError
from foveate.evaluate.contract import BrokenItem, EvaluationError, Item, Parameters, Picture, Task
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.run.records import messages_digest
from foveate.evaluate.styles import PromptStyle, get_style
from foveate.evaluate.tasks.registry import get_task, task_class

_NOT_PIXELS = {"option_shift"}  # settings of tasks that change words alone


@dataclass(frozen=True, kw_only=True)
class TaskChoice:
    """A task by name, and the settings that differ from its defaults; JSON-ready, for run.json keeps them."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What is asked.

    Attributes:
        tasks: in order, each name once.
        style: the prompt style by name.
        variants: ways of asking the same; a variant that a task has no setting for is not asked of it.
        parameters: of every reply; `max_tokens` only where `max_tokens` below is set.
        max_tokens: of a reply; None takes what each task's card says.
        limit: items of each task, drawn by `seed`; None asks all.
    """

    tasks: tuple[TaskChoice, ...]
    style: str
    variants: tuple[Variant, ...] = (BASELINE,)
    parameters: Parameters = field(default_factory=Parameters)
    max_tokens: int | None = None
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for kind, names in (
            ("task", [task.name for task in self.tasks]),
            ("variant", [variant.name for variant in self.variants]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise EvaluationError(f"The {kind} {twice[0]!r} is named twice", fix="Name it once.")
        if self.limit is not None and self.limit < 1:
            raise EvaluationError(f"The limit is {self.limit}", why="it must be 1 or more")
        get_style(self.style)

    def describe(self) -> dict[str, Any]:
        """The part of run.json that says what is asked."""
        parameters = asdict(self.parameters)
        parameters["max_tokens"] = self.max_tokens
        return {
            "tasks": [{"name": task.name, "settings": dict(task.settings)} for task in self.tasks],
            "variants": [variant.describe() for variant in self.variants],
            "style": get_style(self.style).describe(),
            "parameters": parameters,
            "limit": self.limit,
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class Part:
    """One task in one variant.

    Attributes:
        items: those that are asked, in the task's order.
        broken: rows of the data that cannot be asked.
        available: items that could be asked; more than `items` where a sample is drawn.
        order: ids of `items` and `broken` in the task's order.
    """

    name: str
    variant: Variant
    task: Task
    style: PromptStyle
    parameters: Parameters
    items: tuple[Item, ...]
    broken: tuple[BrokenItem, ...]
    available: int
    order: tuple[str, ...]

    def describe(self) -> dict[str, Any]:
        """Counts, for run.json."""
        return {
            "task": self.name,
            "variant": self.variant.name,
            "available": self.available,
            "asked": len(self.items),
            "broken": len(self.broken),
        }


def make_parts(plan: RunPlan) -> tuple[list[Part], list[dict[str, str]]]:
    """Every task in every variant that it knows, and the pairs that were left out.

    A variant that comes to the same as one before it (options of two moved on by two) is left out too: asked again it
    would make a model look steadier than it is. Controls are asked all the same.

    Raises:
        EvaluationError: no such task or setting, or a task with no items or with two of one id.
        FoveateError: data that cannot be read.
    """
    parts: list[Part] = []
    left_out: list[dict[str, str]] = []
    for choice in plan.tasks:
        known = set(inspect.signature(task_class(choice.name)).parameters)
        made: dict[str, tuple[Task, list[Item | BrokenItem]]] = {}
        for variant in plan.variants:
            if unknown := sorted(set(variant.task_settings) - known):
                reason = f"the task has no setting {', '.join(unknown)}"
                left_out.append({"task": choice.name, "variant": variant.name, "reason": reason})
                continue
            settings = {**choice.settings, **variant.task_settings}
            name = json.dumps(settings, sort_keys=True, default=repr)
            if name not in made:
                task = get_task(choice.name, **settings)
                made[name] = task, _listed(choice.name, task.items())
            part = _part(plan, choice.name, variant, *made[name])
            own = variant.control or variant.name == BASELINE.name
            before = [one for one in parts if one.name == choice.name and not own]
            if same := next((one.variant.name for one in before if asks_the_same(one, part)), None):
                reason = f"it asks the same as {same}"
                left_out.append({"task": choice.name, "variant": variant.name, "reason": reason})
                continue
            parts.append(part)
    return parts, left_out


def asks_the_same(first: Part, second: Part) -> bool:
    """Whether two variants of a task send the same words, pixels and parameters, and read and judge replies alike.

    Pictures are opened where a variant may have changed them, up to the first that differs.
    """
    one_way, other_way = ((part.parameters, part.style.box_format) for part in (first, second))
    pairs = list(zip(first.items, second.items, strict=False))
    if one_way != other_way or len(first.items) != len(second.items):
        return False
    if any(
        (a.id, a.target, messages_digest(first.style.apply(a)))
        != (b.id, b.target, messages_digest(second.style.apply(b)))
        for a, b in pairs
    ):
        return False
    here, there = first.variant.task_settings, second.variant.task_settings
    settings = {name for name in {**here, **there} if here.get(name) != there.get(name)}
    if settings and hasattr(first.task, "next_turn"):
        return False  # what it says next may hang on them
    if first.variant.picture == second.variant.picture and settings <= _NOT_PIXELS:
        return True
    seen = ((_pixels(a, first.variant), _pixels(b, second.variant)) for a, b in pairs)
    return all(mine is not None and mine == theirs for mine, theirs in seen)


def _pixels(item: Item, variant: Variant) -> list[tuple[tuple[int, int], bytes]] | None:
    """Size and digest of each picture as the variant shows it; None where one cannot be opened."""
    found: list[tuple[tuple[int, int], bytes]] = []
    for message in item.messages:
        parts = [] if isinstance(message["content"], str) else message["content"]
        for picture in (part["image"] for part in parts if isinstance(part.get("image"), Picture)):
            try:
                shown = variant.changed(picture).open().convert("RGB")
            except (FoveateError, OSError):
                return None
            found.append((shown.size, hashlib.sha256(shown.tobytes()).digest()))
    return found


def _listed(name: str, entries: Iterable[Item | BrokenItem]) -> list[Item | BrokenItem]:
    found = list(entries)
    seen: set[str] = set()
    for entry in found:
        if entry.id in seen:
            raise EvaluationError(
                f"The task {name!r} has two items of the id {entry.id!r}",
                why="replies are kept by id",
                fix="Give each row of the data an id of its own.",
            )
        seen.add(entry.id)
    if not found:
        raise EvaluationError(f"The task {name!r} has no items", fix="Check its data and settings.")
    return found


def _part(plan: RunPlan, name: str, variant: Variant, task: Task, entries: list[Item | BrokenItem]) -> Part:
    items = [entry for entry in entries if isinstance(entry, Item)]
    asked = draw([item.id for item in items], name, limit=plan.limit, seed=plan.seed)
    longest = task.card.max_tokens if plan.max_tokens is None else plan.max_tokens
    parameters = replace(plan.parameters, max_tokens=longest)
    return Part(
        name=name,
        variant=variant,
        task=task,
        style=get_style(variant.style or plan.style),
        parameters=replace(parameters, **variant.parameters),
        items=tuple(item for item in items if item.id in asked),
        broken=tuple(entry for entry in entries if isinstance(entry, BrokenItem)),
        available=len(items),
        order=tuple(
            entry.id for entry in entries if isinstance(entry, BrokenItem) or entry.id in asked
        ),
    )  # fmt: skip


def draw(ids: Iterable[str], task: str, *, limit: int | None, seed: int) -> set[str]:
    """A sample of `limit` ids, each as likely as any other.

    The ids with the smallest digests are taken, so that the sample hangs on the ids alone: variants of a task, and
    models, are asked the same items, and a larger sample has the smaller one inside.
    """
    if limit is None:
        return set(ids)
    return set(
        sorted(ids, key=lambda one: hashlib.sha256(f"{seed}\0{task}\0{one}".encode()).digest())[:limit]
    )
