"""Questions about a scene, each with an exact answer taken from the scene's description.

A family is a function (Asker) -> Question | None: None when the scene gives no unambiguous case. Owns the table of
families; what a model may see is the picture and `Question.text` only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from foveate.errors import FoveateError, nearest
from foveate.world import aerial_questions as aerial
from foveate.world.asking import VALUES, Asker, Question, held_out_tag
from foveate.world.object_questions import attribute, comparison, count, existence, negative
from foveate.world.page_questions import caption, chart, reading, table
from foveate.world.place_questions import grounding, marker, relation
from foveate.world.scene import Scene

Family = Callable[[Asker], Question | None]
FAMILIES: dict[str, tuple[str, Family]] = {
    "existence": ("shapes", existence),
    "attribute": ("shapes", attribute),
    "count": ("shapes", count),
    "comparison": ("shapes", comparison),
    "relation": ("shapes", relation),
    "negative": ("shapes", negative),
    "grounding": ("shapes", grounding),
    "marker": ("shapes", marker),
    "reading": ("page", reading),
    "chart": ("page", chart),
    "table": ("page", table),
    "caption": ("shapes", caption),
}
# Aerial scenes have words of their own, so the same names stand for other functions there.
AERIAL_FAMILIES: dict[str, Family] = {
    "scene": aerial.scene_class,
    "existence": aerial.existence,
    "count": aerial.count,
    "attribute": aerial.attribute,
    "position": aerial.position,
    "grounding": aerial.grounding,
    "caption": aerial.caption,
}


def families_of(domain: str) -> dict[str, Family]:
    """What may be asked about scenes of a domain; "shapes" and "page" share one table."""
    return AERIAL_FAMILIES if domain == "aerial" else {name: family for name, (_, family) in FAMILIES.items()}


def ask(scene: Scene, family: str, rng: random.Random, *, attempts: int = 6) -> Question | None:
    """A question of one family about a scene, or None when none of `attempts` draws was unambiguous.

    Raises:
        FoveateError: an unknown family.
    """
    families = families_of(scene.domain)
    if family not in families:
        raise FoveateError(f"Unknown question family {family!r}", fix=nearest(family, families))
    if not scene.objects and family not in ("reading", "chart", "table", "caption", "scene"):
        return None
    asker = Asker(scene, rng)
    for _ in range(attempts):
        question = families[family](asker)
        if question is not None:
            return question
    return None


def follow_up(scene: Scene, first: Question, rng: random.Random) -> Question | None:
    """A later turn that says "it" for the single object which `first` was about."""
    if (
        scene.domain == "aerial"
        or first.family not in ("attribute", "grounding", "marker")
        or len(first.object_ids) != 1
    ):
        return None
    item = next(o for o in scene.objects if o.id == first.object_ids[0])
    keys = [k for k in VALUES if k not in first.tags and getattr(item, k) not in first.text]
    if not keys:
        return None
    key = rng.choice(keys)
    noun = "pattern" if key == "texture" else key
    return Question(
        family="attribute",
        text=rng.choice((f"And what is its {noun}?", f"What {noun} is it?")),
        answer=getattr(item, key),
        choices=VALUES[key],
        tags=(key, "follow-up", *held_out_tag(item)),
        object_ids=(item.id,),
    )


def chance(questions: Sequence[Question]) -> float:
    """Expected accuracy of guessing uniformly among each question's choices (0 for open answers)."""
    if not questions:
        return 0.0
    return sum(1 / len(q.choices) if q.choices else 0.0 for q in questions) / len(questions)
