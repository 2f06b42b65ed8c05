"""Questions about the world's scenes at AQuA's four levels of ambiguity, decided by how many objects stand out.

Owns salience and the making of scenes with one, two or three, or at least five salient objects. Knows no replies.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from foveate.world import Scene, SceneObject
from foveate.world.asking import VALUES, phrase

LEVELS = (0, 1, 2, 3)
SALIENT = 0.6
_SMALL = 0.074  # radius of an object that is made to stand back, within the world's "small"
_FEW, _MANY = (2, 3), 5
_ASKED = ("colour", "shape")


@dataclass(frozen=True, kw_only=True)
class Ambiguous:
    """A scene with a question about "this object" (about a named object at level 0).

    Attributes:
        scene: with as many salient objects as the level has.
        key: the attribute asked about, "colour" or "shape".
        text: the question.
        answers: the attribute of every candidate by the candidate's name, in the scene's order.
        intended: the name of the candidate that the user has in mind.
    """

    scene: Scene
    key: str
    text: str
    answers: dict[str, str]
    intended: str


def salience(item: SceneObject, scene: Scene) -> float:
    """0.7 of the area and 0.3 of the nearness to the centre (AQuA, arXiv 2603.07394), from 0 to 1.

    The area is of the object's box, as a share of the largest one's: COCO's objects can fill a picture, the world's
    cannot.
    """

    def area(other: SceneObject) -> float:
        left, top, right, bottom = other.box()
        return (right - left) * (bottom - top)

    largest = max(area(other) for other in scene.objects)
    corner = math.hypot(scene.aspect / 2, 0.5)
    away = math.hypot(item.x - scene.aspect / 2, item.y - 0.5) / corner
    return 0.7 * area(item) / largest + 0.3 * (1 - away)


def ambiguous(scene: Scene, level: int, rng: random.Random) -> Ambiguous | None:
    """A question of this level, the scene's objects resized for it; None where the scene allows none."""
    key = rng.choice(_ASKED)
    scene = dataclasses.replace(scene, markers=())
    if level == 0:
        names = {item.id: _name(item, scene, without=key) for item in scene.objects}
        known = [item for item in scene.objects if names[item.id]]
        if not known:
            return None
        item = rng.choice(known)
        return _question(scene, key, [item], rng, about=f"the {names[item.id]}")
    prominent = _prominent(scene, level, rng)
    if prominent is None:
        return None
    kept = {item.id for item in prominent}
    if level == 3:
        kept = set()  # all alike: none stands out more than the others
    resized = dataclasses.replace(
        scene, objects=tuple(item if item.id in kept else _stood_back(item) for item in scene.objects)
    )
    candidates = [item for item in resized.objects if salience(item, resized) >= SALIENT]
    fits = {1: len(candidates) == 1, 2: len(candidates) in _FEW, 3: len(candidates) >= _MANY}[level]
    distinct = len({getattr(item, key) for item in candidates})
    # One answer must not be right for all candidates, or there would be nothing to ask.
    if not fits or distinct < min(level, len(candidates)):
        return None
    return _question(resized, key, candidates, rng, about="this object")


def _prominent(scene: Scene, level: int, rng: random.Random) -> list[SceneObject] | None:
    if level == 3:
        return list(scene.objects) if len(scene.objects) >= _MANY else None
    large = [item for item in scene.objects if item.size == "large"]
    wanted = 1 if level == 1 else rng.choice(_FEW)
    return rng.sample(large, wanted) if len(large) >= wanted else None


def _stood_back(item: SceneObject) -> SceneObject:
    return dataclasses.replace(item, radius=min(item.radius, _SMALL), size="small", text="")


def _question(
    scene: Scene, key: str, candidates: Sequence[SceneObject], rng: random.Random, *, about: str
) -> Ambiguous | None:
    names = [_name(item, scene, without=key) for item in candidates]
    if not all(names):
        return None
    answers = {name: getattr(item, key) for name, item in zip(names, candidates, strict=True) if name}
    return Ambiguous(
        scene=scene,
        key=key,
        text=f"What {key} is {about}?",
        answers=answers,
        intended=rng.choice(sorted(answers)),
    )


def _name(item: SceneObject, scene: Scene, *, without: str) -> str | None:
    """The shortest phrase that fits this object alone and does not give the answer away."""
    for keys in _naming(without):
        wanted = {key: getattr(item, key) for key in keys}
        if sum(all(getattr(o, k) == v for k, v in wanted.items()) for o in scene.objects) == 1:
            return phrase(wanted)
    return None


def _naming(without: str) -> Iterator[tuple[str, ...]]:
    keys = [key for key in ("shape", "colour", "texture", "size") if key in VALUES and key != without]
    for length in (1, 2, 3):
        yield from itertools.combinations(keys, length)
