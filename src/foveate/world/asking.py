"""What a question is, and how a scene's objects are told apart in words.

Owns the record and the naming that all families share; the families are in `object_questions`,
`place_questions` and `page_questions`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from foveate.world.scene import Scene, SceneObject
from foveate.world.vocabulary import COLOURS, HELD_OUT, SHAPES, SIZES, TEXTURES

YES_NO = ("yes", "no")
MAX_COUNT = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question.

    Attributes:
        family: a key of FAMILIES.
        text: what the user asks.
        answer: the exact expected reply.
        choices: closed answer set, empty for open answers (then the chance of a blind guess counts as 0).
        tags: finer kinds such as "two-hop", "held-out", "unseen-word".
        object_ids: the objects that one has to look at, in the order in which the question names them.
    """

    family: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    object_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Asker:
    """What a family needs: the scene, a random stream and the difficulty."""

    scene: Scene
    rng: random.Random

    @property
    def objects(self) -> tuple[SceneObject, ...]:
        return self.scene.objects

    def count(self, **attributes: str) -> int:
        return len(self.matching(**attributes))

    def matching(self, **attributes: str) -> list[SceneObject]:
        return [o for o in self.objects if all(getattr(o, key) == value for key, value in attributes.items())]

    def name(self, item: SceneObject) -> str | None:
        """The shortest phrase that fits this object alone ("the star", "the red star", ...), or None."""
        forms: list[tuple[str, dict[str, str]]] = [
            (f"{item.colour} {item.shape}", {"colour": item.colour, "shape": item.shape}),
            (item.shape, {"shape": item.shape}),
            (f"{item.colour} object", {"colour": item.colour}),
            (f"{item.texture} {item.shape}", {"texture": item.texture, "shape": item.shape}),
        ]
        fitting = [phrase for phrase, attributes in forms if self.count(**attributes) == 1]
        return self.rng.choice(fitting) if fitting else None

    def named(self, *, without: tuple[str, ...] = ()) -> tuple[SceneObject, str] | None:
        """A random object with a phrase that does not give away the attributes in `without`."""
        order = self.rng.sample(self.objects, len(self.objects))
        for item in order:
            forms: list[dict[str, str]] = [
                {key: getattr(item, key) for key in keys}
                for keys in (("colour", "shape"), ("shape",), ("colour",), ("texture", "shape"))
                if not set(keys) & set(without)
            ]
            forms = [f for f in forms if self.count(**f) == 1]
            if forms:
                return item, phrase(self.rng.choice(forms))
        return None

    def two_named(self) -> tuple[SceneObject, str, SceneObject, str] | None:
        """Two random objects with a phrase for each, or None where one cannot be told apart."""
        if len(self.objects) < 2:
            return None
        first, second = self.rng.sample(self.objects, 2)
        first_name, second_name = self.name(first), self.name(second)
        if first_name is None or second_name is None:
            return None
        return first, first_name, second, second_name


def phrase(attributes: dict[str, str], *, plural: bool = False) -> str:
    """ "striped red star" from {"texture": ..., "colour": ..., "shape": ...}; "object" where no shape is given."""
    noun = attributes.get("shape", "object")
    if plural:
        noun = noun + ("es" if noun.endswith("ss") else "s")
    words = [attributes[key] for key in ("size", "texture", "colour") if key in attributes]
    return " ".join([*words, noun])


def held_out_tag(*items: SceneObject) -> tuple[str, ...]:
    """The tag of questions about a combination that training never shows."""
    return ("held-out",) if any((o.colour, o.shape) in HELD_OUT for o in items) else ()


def article(text: str) -> str:
    """ "a star", "an orange star"."""
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


VALUES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "size": SIZES,
}
