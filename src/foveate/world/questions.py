"""Questions about a scene, each with an exact answer taken from the scene's description.

A family is a function (Asker) -> Question | None: None when the scene gives no unambiguous case. Owns the
wording and the truth; what a model may see is the picture and `Question.text` only.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from foveate.errors import FoveateError, nearest
from foveate.world.scene import Scene, SceneObject
from foveate.world.vocabulary import COLOURS, HELD_OUT, SHAPES, SIZES, TEST_ONLY_WORDS, TEXTURES

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
        box: target box in units of the image height for grounding.
        tags: finer kinds such as "two-hop", "held-out", "unseen-word".
        object_ids: the objects that one has to look at, in the order in which the question names them.
    """

    family: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    tags: tuple[str, ...] = ()
    object_ids: tuple[int, ...] = field(default=())


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


def phrase(attributes: dict[str, str], *, plural: bool = False) -> str:
    """ "striped red star" from {"texture": ..., "colour": ..., "shape": ...}; "object" where no shape is given."""
    noun = attributes.get("shape", "object")
    if plural:
        noun = noun + ("es" if noun.endswith("ss") else "s")
    words = [attributes[key] for key in ("size", "texture", "colour") if key in attributes]
    return " ".join([*words, noun])


def _held_out(*items: SceneObject) -> tuple[str, ...]:
    return ("held-out",) if any((o.colour, o.shape) in HELD_OUT for o in items) else ()


def _a(text: str) -> str:
    return f"an {text}" if text[0] in "aeiou" else f"a {text}"


def existence(q: Asker) -> Question | None:
    """Half the time of something that is there; otherwise one attribute of a real object is changed."""
    keys = {1: ("colour", "shape"), 2: ("colour", "shape"), 3: ("texture", "colour", "shape")}[
        q.scene.difficulty
    ]
    if q.rng.random() < 0.3:
        keys = (q.rng.choice(("colour", "shape")),)
    item = q.rng.choice(q.objects)
    attributes = {key: getattr(item, key) for key in keys}
    present = q.rng.random() < 0.5
    if not present:
        for _ in range(20):
            changed = q.rng.choice(keys)
            attributes[changed] = q.rng.choice(_VALUES[changed])
            if q.count(**attributes) == 0:
                break
        else:
            return None
    named = phrase(attributes)
    text = q.rng.choice(
        (f"Is there {_a(named)}?", f"Is there {_a(named)} in the image?", f"Can you see {_a(named)}?")
    )
    return Question(
        family="existence",
        text=text,
        answer="yes" if present else "no",
        choices=YES_NO,
        tags=_held_out(item) if present else (),
        object_ids=tuple(o.id for o in q.matching(**attributes)),
    )


_VALUES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "texture": TEXTURES,
    "size": SIZES,
}
_ATTRIBUTE_FORMS = {
    "colour": ("What colour is the {}?", "Which colour does the {} have?"),
    "shape": ("What shape is the {}?", "Which shape is the {}?"),
    "texture": ("Is the {} plain, striped or dotted?", "What pattern does the {} have?"),
    "size": ("Is the {} small or large?", "What size is the {}?"),
}


def attribute(q: Asker) -> Question | None:
    key = q.rng.choice(("colour", "colour", "shape", "shape", "texture", "size"))
    found = q.named(without=(key,))
    if found is None:
        return None
    item, named = found
    return Question(
        family="attribute",
        text=q.rng.choice(_ATTRIBUTE_FORMS[key]).format(named),
        answer=getattr(item, key),
        choices=_VALUES[key],
        tags=(key, *_held_out(item)),
        object_ids=(item.id,),
    )


def negative(q: Asker) -> Question | None:
    """An attribute of something that is not there: the right reply says so."""
    key = q.rng.choice(("colour", "size", "texture"))
    shape = q.rng.choice(SHAPES)
    attributes = {"shape": shape}
    if key != "colour" and q.rng.random() < 0.5:
        attributes["colour"] = q.rng.choice(list(COLOURS))
    if q.count(**attributes):
        return None
    named = phrase(attributes)
    return Question(
        family="negative",
        text=q.rng.choice(_ATTRIBUTE_FORMS[key]).format(named),
        answer=f"there is no {named}",
        tags=(key,),
    )


def count(q: Asker) -> Question | None:
    """How many; the answer is drawn first among those that the scene offers, to flatten the distribution."""
    options: dict[int, list[dict[str, str]]] = {}
    forms: list[dict[str, str]] = [{}]
    forms += (
        [{"colour": c} for c in COLOURS] + [{"shape": s} for s in SHAPES] + [{"texture": t} for t in TEXTURES]
    )
    item = q.rng.choice(q.objects)
    forms.append({"colour": item.colour, "shape": item.shape})
    for form in forms:
        options.setdefault(q.count(**form), []).append(form)
    answers = [a for a in options if a <= MAX_COUNT and (a > 0 or q.rng.random() < 0.4)]
    answer = q.rng.choice(answers)
    chosen = q.rng.choice(options[answer])
    named = phrase(chosen, plural=True)
    text = q.rng.choice(
        (f"How many {named} are there?", f"Count the {named}.", f"How many {named} can you see?")
    )
    return Question(
        family="count",
        text=text,
        answer=str(answer),
        choices=tuple(str(n) for n in range(MAX_COUNT + 1)),
        object_ids=tuple(o.id for o in q.matching(**chosen)),
    )


def comparison(q: Asker) -> Question | None:
    return q.rng.choice((_compare_counts, _compare_sizes, _compare_same))(q)


def _compare_counts(q: Asker) -> Question | None:
    key = q.rng.choice(("colour", "shape"))
    values = sorted({getattr(o, key) for o in q.objects})
    if len(values) < 2:
        return None
    first, second = q.rng.sample(values, 2)
    a, b = q.count(**{key: first}), q.count(**{key: second})
    if a == b and q.rng.random() < 0.6:
        return None
    first_named, second_named = (phrase({key: v}, plural=True) for v in (first, second))
    word, answer = q.rng.choice((("more", a > b), ("fewer", a < b)))
    return Question(
        family="comparison",
        text=f"Are there {word} {first_named} than {second_named}?",
        answer="yes" if answer else "no",
        choices=YES_NO,
        tags=("counts",),
        object_ids=tuple(o.id for v in (first, second) for o in q.matching(**{key: v})),
    )


def _two_named(q: Asker) -> tuple[SceneObject, str, SceneObject, str] | None:
    if len(q.objects) < 2:
        return None
    first, second = q.rng.sample(q.objects, 2)
    first_name, second_name = q.name(first), q.name(second)
    if first_name is None or second_name is None:
        return None
    return first, first_name, second, second_name


def _compare_sizes(q: Asker) -> Question | None:
    pair = _two_named(q)
    if pair is None or pair[0].size == pair[2].size:
        return None
    first, first_name, second, second_name = pair
    word, answer = q.rng.choice((("larger", first.size == "large"), ("smaller", first.size == "small")))
    return Question(
        family="comparison",
        text=f"Is the {first_name} {word} than the {second_name}?",
        answer="yes" if answer else "no",
        choices=YES_NO,
        tags=("sizes", *_held_out(first, second)),
        object_ids=(first.id, second.id),
    )


def _compare_same(q: Asker) -> Question | None:
    key = q.rng.choice(("colour", "shape", "size", "texture"))
    want_same = q.rng.random() < 0.5
    for _ in range(8):
        pair = _two_named(q)
        if pair is None:
            continue
        first, first_name, second, second_name = pair
        same = getattr(first, key) == getattr(second, key)
        if same != want_same or any(v in f"{first_name} {second_name}" for v in _VALUES[key]):
            continue
        noun = "pattern" if key == "texture" else key
        return Question(
            family="comparison",
            text=f"Do the {first_name} and the {second_name} have the same {noun}?",
            answer="yes" if same else "no",
            choices=YES_NO,
            tags=("same", *_held_out(first, second)),
            object_ids=(first.id, second.id),
        )
    return None


# -- where ----------------------------------------------------------------------------------------------

_RELATIONS: dict[str, Callable[[SceneObject, SceneObject], float]] = {
    "left of": lambda a, b: b.x - a.x,
    "right of": lambda a, b: a.x - b.x,
    "above": lambda a, b: b.y - a.y,
    "below": lambda a, b: a.y - b.y,
}
# Two centres closer than this along the axis asked about are never compared.
_MARGIN = 0.08


def relation(q: Asker) -> Question | None:
    kinds: list[Callable[[Asker], Question | None]] = [_relation_yes_no, _relation_yes_no, _relation_extreme]
    if q.scene.difficulty > 1:
        kinds += [_relation_two_hop, _relation_nearest]
    return q.rng.choice(kinds)(q)


def _relation_yes_no(q: Asker) -> Question | None:
    pair = _two_named(q)
    if pair is None:
        return None
    first, first_name, second, second_name = pair
    word, measure = q.rng.choice(list(_RELATIONS.items()))
    margin = measure(first, second)
    if abs(margin) < _MARGIN:
        return None
    return Question(
        family="relation",
        text=f"Is the {first_name} {word} the {second_name}?",
        answer="yes" if margin > 0 else "no",
        choices=YES_NO,
        tags=("one-hop", *_held_out(first, second)),
        object_ids=(first.id, second.id),
    )


def _relation_extreme(q: Asker) -> Question | None:
    """The leftmost, rightmost, highest or lowest object, when clearly so."""
    word, word_measure = q.rng.choice(
        (("leftmost", "left of"), ("rightmost", "right of"), ("highest", "above"), ("lowest", "below"))
    )
    measure = _RELATIONS[word_measure]
    centre = q.objects[0]
    ranked = sorted(q.objects, key=lambda o: measure(o, centre), reverse=True)
    if len(ranked) < 2 or measure(ranked[0], ranked[1]) < _MARGIN:
        return None
    key = q.rng.choice(("colour", "shape"))
    return Question(
        family="relation",
        text=f"What {key} is the {word} object?",
        answer=getattr(ranked[0], key),
        choices=_VALUES[key],
        tags=("extreme", *_held_out(ranked[0])),
        object_ids=(ranked[0].id,),
    )


def _relation_two_hop(q: Asker) -> Question | None:
    """ "What colour is the star left of the blue circle?", where other stars stand elsewhere."""
    order = q.rng.sample(q.objects, len(q.objects))
    word, measure = q.rng.choice(list(_RELATIONS.items()))
    for anchor in order:
        anchor_name = q.name(anchor)
        if anchor_name is None:
            continue
        for given, asked in q.rng.sample((("shape", "colour"), ("colour", "shape")), 2):
            groups: dict[str, list[SceneObject]] = {}
            for item in q.objects:
                if item.id != anchor.id:
                    groups.setdefault(getattr(item, given), []).append(item)
            for value, members in groups.items():
                inside = [o for o in members if measure(o, anchor) > 0]
                clear = all(abs(measure(o, anchor)) >= _MARGIN for o in members)
                if len(members) >= 2 and len(inside) == 1 and clear:
                    return Question(
                        family="relation",
                        text=f"What {asked} is the {phrase({given: value})} {word} the {anchor_name}?",
                        answer=getattr(inside[0], asked),
                        choices=_VALUES[asked],
                        tags=("two-hop", *_held_out(inside[0])),
                        object_ids=(inside[0].id, anchor.id),
                    )
    return None


def _relation_nearest(q: Asker) -> Question | None:
    """What stands nearest to a named object, when the second nearest is at least 1.25 times as far."""
    found = q.named()
    if found is None or len(q.objects) < 3:
        return None
    item, named = found
    ranked = sorted((o for o in q.objects if o.id != item.id), key=item.distance)
    if item.distance(ranked[1]) < 1.25 * item.distance(ranked[0]):
        return None
    key = q.rng.choice(("colour", "shape"))
    return Question(
        family="relation",
        text=f"What {key} is the object nearest to the {named}?",
        answer=getattr(ranked[0], key),
        choices=_VALUES[key],
        tags=("nearest", *_held_out(item, ranked[0])),
        object_ids=(item.id, ranked[0].id),
    )


def format_box(box: tuple[float, float, float, float], aspect: float) -> str:
    """A box as "[left, top, right, bottom]" in whole hundredths (0 to 99) of the image's width and height."""
    left, top, right, bottom = box
    values = (left / aspect, top, right / aspect, bottom)
    return "[" + ", ".join(str(min(99, max(0, round(100 * v)))) for v in values) + "]"


def grounding(q: Asker) -> Question | None:
    found = q.named()
    if found is None:
        return None
    item, named = found
    text = q.rng.choice((f"Where is the {named}? Give its box.", f"Give the box of the {named}."))
    return Question(
        family="grounding",
        text=text,
        answer=format_box(item.box(), q.scene.aspect),
        box=item.box(),
        tags=_held_out(item),
        object_ids=(item.id,),
    )


def marker(q: Asker) -> Question | None:
    markers = q.scene.markers
    if len(markers) < 2:
        return None
    target = q.rng.choice(markers)
    item = next(o for o in q.objects if o.id == target.object_id)
    named = q.name(item)
    if named is None:
        return None
    labels = tuple(m.label for m in markers)
    text = q.rng.choice((f"Which marker is on the {named}?", f"Which mark lies on the {named}?"))
    return Question(
        family="marker",
        text=text,
        answer=target.label,
        choices=labels,
        tags=_held_out(item),
        object_ids=(item.id,),
    )


# -- reading --------------------------------------------------------------------------------------------

_ORDINALS = ("first", "second", "third", "fourth", "fifth")


def _word_tags(text: str) -> tuple[str, ...]:
    kind = "number" if text.isdigit() else "word"
    return (kind, "unseen-word") if text in TEST_ONLY_WORDS else (kind,)


def reading(q: Asker) -> Question | None:
    """A printed line on a page, or the label on an object."""
    if q.scene.texts:
        lines = q.scene.texts
        place = q.rng.randrange(len(lines))
        kind = "number" if lines[place].text.isdigit() else "word"
        forms = [f"What is written on the {_ORDINALS[place]} line?", f"Read line {place + 1}."]
        if len(lines) == 1:
            forms += ["What does it say?", "Read the text."]
        if sum(line.text.isdigit() == lines[place].text.isdigit() for line in lines) == 1:
            forms.append(f"Which {kind} is printed here?")
        return Question(
            family="reading",
            text=q.rng.choice(forms),
            answer=lines[place].text,
            tags=_word_tags(lines[place].text),
        )
    labelled = [o for o in q.objects if o.text]
    if not labelled:
        return None
    item = q.rng.choice(labelled)
    named = q.name(item)
    if named is None:
        return None
    return Question(
        family="reading",
        text=f"What is printed on the {named}?",
        answer=item.text,
        tags=("label", *_held_out(item)),
        object_ids=(item.id,),
    )


def chart(q: Asker) -> Question | None:
    """Values and extremes of a bar chart."""
    if not q.scene.charts:
        return None
    figure = q.scene.charts[0]
    place = q.rng.randrange(len(figure.labels))
    if q.rng.random() < 0.6:
        return Question(
            family="chart",
            text=q.rng.choice(("What is the value of bar {}?", "How high is bar {}?")).format(
                figure.labels[place]
            ),
            answer=str(figure.values[place]),
            choices=tuple(str(n) for n in range(figure.maximum + 1)),
            tags=("value",),
        )
    word, best = q.rng.choice((("highest", max(figure.values)), ("lowest", min(figure.values))))
    if figure.values.count(best) != 1:
        return None
    return Question(
        family="chart",
        text=f"Which bar is the {word}?",
        answer=figure.labels[figure.values.index(best)],
        choices=figure.labels,
        tags=("extreme",),
    )


def table(q: Asker) -> Question | None:
    """One cell of a printed table."""
    if not q.scene.tables:
        return None
    rows = q.scene.tables[0].rows
    row, column = q.rng.randrange(1, len(rows)), q.rng.randrange(1, len(rows[0]))
    return Question(
        family="table",
        text=f"In the table, what is {rows[0][column]} of {rows[row][0]}?",
        answer=rows[row][column],
        tags=("cell",),
    )


def caption(q: Asker) -> Question | None:
    """Everything in the picture with its place, from top to bottom: the densest supervision there is."""
    if q.scene.texts:
        return Question(
            family="caption", text="Read all lines.", answer=" ".join(t.text for t in q.scene.texts)
        )
    if q.scene.tables:
        rows = q.scene.tables[0].rows
        answer = "; ".join(" ".join(cell or "-" for cell in row) for row in rows)
        return Question(family="caption", text="Read the table.", answer=answer)
    if q.scene.charts:
        figure = q.scene.charts[0]
        answer = ", ".join(f"{a} {b}" for a, b in zip(figure.labels, figure.values, strict=True))
        return Question(family="caption", text="List all bars.", answer=answer)
    parts = []
    marked = {m.object_id: m.label for m in q.scene.markers}
    for item in sorted(q.objects, key=lambda o: (o.y, o.x)):
        at = f"{min(99, round(100 * item.x / q.scene.aspect))} {min(99, round(100 * item.y))}"
        text = f" {item.text}" if item.text else ""
        mark = f" marker {marked[item.id]}" if item.id in marked else ""
        parts.append(f"{at} {item.size} {item.texture} {item.colour} {item.shape}{text}{mark}")
    return Question(family="caption", text="List every object with its place.", answer="; ".join(parts))


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


def ask(scene: Scene, family: str, rng: random.Random, *, attempts: int = 6) -> Question | None:
    """A question of one family about a scene, or None when none of `attempts` draws was unambiguous.

    Raises:
        FoveateError: an unknown family.
    """
    if family not in FAMILIES:
        raise FoveateError(f"Unknown question family {family!r}", fix=nearest(family, FAMILIES))
    if not scene.objects and family not in ("reading", "chart", "table", "caption"):
        return None
    asker = Asker(scene, rng)
    for _ in range(attempts):
        question = FAMILIES[family][1](asker)
        if question is not None:
            return question
    return None


def follow_up(scene: Scene, first: Question, rng: random.Random) -> Question | None:
    """A later turn that says "it" for the single object which `first` was about."""
    if first.family not in ("attribute", "grounding", "marker") or len(first.object_ids) != 1:
        return None
    item = next(o for o in scene.objects if o.id == first.object_ids[0])
    keys = [k for k in _VALUES if k not in first.tags and getattr(item, k) not in first.text]
    if not keys:
        return None
    key = rng.choice(keys)
    noun = "pattern" if key == "texture" else key
    return Question(
        family="attribute",
        text=rng.choice((f"And what is its {noun}?", f"What {noun} is it?")),
        answer=getattr(item, key),
        choices=_VALUES[key],
        tags=(key, "follow-up", *_held_out(item)),
        object_ids=(item.id,),
    )


def chance(questions: Sequence[Question]) -> float:
    """Expected accuracy of guessing uniformly among each question's choices (0 for open answers)."""
    if not questions:
        return 0.0
    return sum(1 / len(q.choices) if q.choices else 0.0 for q in questions) / len(questions)
