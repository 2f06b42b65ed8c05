"""Questions about aerial scenes: what place it is, what is there, how many, of what colour, and where.

Families are as in `questions`: a function of the scene and a random stream, None where there is no unambiguous case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from foveate.world.aerial_kinds import AERIAL_HELD_OUT, KINDS, NAMED_KINDS, PLACES, PLURALS, RURAL
from foveate.world.asking import YES_NO, Asker, Question, article
from foveate.world.scene import Scene, SceneObject
from foveate.world.vocabulary import COLOURS

MOST = 20  # more are not asked to be counted
REGIONS = tuple(
    " ".join(part for part in (row, column) if part) or "centre"
    for row in ("top", "", "bottom")
    for column in ("left", "", "right")
)
_MARGIN = 0.03  # nearer to a border between regions, or to the next in a row, nothing is asked
_EXTREMES: dict[str, Callable[[SceneObject], float]] = {
    "leftmost": lambda o: o.x,
    "rightmost": lambda o: -o.x,
    "topmost": lambda o: o.y,
    "bottommost": lambda o: -o.y,
}


def scene_class(q: Asker) -> Question | None:
    """The place, or whether it is rural."""
    if q.rng.random() < 0.25:
        return Question(
            family="scene",
            text="Is this area rural or urban?",
            answer="rural" if q.scene.place in RURAL else "urban",
            choices=("rural", "urban"),
            tags=("rural or urban",),
        )
    listed = ", ".join(PLACES[:-1])
    return Question(
        family="scene",
        text=f"Which place is seen from above: {listed} or {PLACES[-1]}?",
        answer=q.scene.place,
        choices=PLACES,
        tags=("place",),
    )


def existence(q: Asker) -> Question | None:
    """A colour and a kind, or a kind alone; what is absent shares its kind or its colour with something present."""
    there = _named(q.scene)
    if not there:
        return None
    colour, kind = q.rng.choice([(o.colour, o.shape) for o in there])
    with_colour = q.rng.random() < 0.7
    present = q.rng.random() < 0.5
    if not present:
        if with_colour:
            pairs = {(o.colour, o.shape) for o in there}
            absent = [(c, kind) for c in KINDS[kind].colours if (c, kind) not in pairs]
        else:
            absent = [(colour, k) for k in NAMED_KINDS if k not in {o.shape for o in there}]
        if not absent:
            return None
        colour, kind = q.rng.choice(absent)
    named = f"{colour} {kind}" if with_colour else kind
    return Question(
        family="existence",
        text=f"Is there {article(named)} in the image?",
        answer="yes" if present else "no",
        choices=YES_NO,
        tags=_held_out((colour, kind)) if with_colour and present else (),
        object_ids=tuple(o.id for o in there if o.shape == kind and (not with_colour or o.colour == colour)),
    )


def count(q: Asker) -> Question | None:
    """How many of a kind, or of a colour and kind; the answer is drawn first, to flatten the distribution."""
    there = _named(q.scene)
    options: dict[int, list[tuple[str, list[SceneObject]]]] = {}
    for kind in dict.fromkeys(o.shape for o in there):
        for colour in (None, *KINDS[kind].colours):
            members = [o for o in there if o.shape == kind and colour in (None, o.colour)]
            name = PLURALS[kind] if colour is None else f"{colour} {PLURALS[kind]}"
            options.setdefault(len(members), []).append((name, members))
    answers = sorted(n for n in options if 0 < n <= MOST or (n == 0 and q.rng.random() < 0.3))
    if not answers:
        return None
    answer = q.rng.choice(answers)
    name, members = q.rng.choice(sorted(options[answer], key=lambda each: each[0]))
    return Question(
        family="count",
        text=q.rng.choice((f"How many {name} are there?", f"How many {name} can be seen?")),
        answer=str(answer),
        choices=tuple(str(n) for n in range(MOST + 1)),
        tags=("none" if answer == 0 else "few" if answer < 5 else "many",),
        object_ids=tuple(o.id for o in members),
    )


def attribute(q: Asker) -> Question | None:
    """The colour of the only one of its kind, or of the outermost."""
    found = _referent(q, without_colour=True)
    if found is None:
        return None
    item, name, uniqueness = found
    return Question(
        family="attribute",
        text=f"What colour is the {name}?",
        answer=item.colour,
        choices=tuple(COLOURS),
        tags=("colour", uniqueness, *_held_out((item.colour, item.shape))),
        object_ids=(item.id,),
    )


def position(q: Asker) -> Question | None:
    """In which of nine parts of the picture something is."""
    found = _referent(q)
    if found is None or (region := _region(q.scene, found[0])) is None:
        return None
    item, name, uniqueness = found
    return Question(
        family="position",
        text=f"In which part of the image is the {name}: {', '.join(REGIONS[:-1])} or {REGIONS[-1]}?",
        answer=region,
        choices=REGIONS,
        tags=(uniqueness,),
        object_ids=(item.id,),
    )


def grounding(q: Asker) -> Question | None:
    """The box of one object, in thousandths: a hundredth of the picture is wider than a car.

    "unique" where it is the only one of its kind, else "non-unique" (VRSBench's split).
    """
    found = _referent(q)
    if found is None:
        return None
    item, name, uniqueness = found
    return Question(
        family="grounding",
        text=f"Where is the {name}? Give its box.",
        answer=_box(item, q.scene.aspect),
        tags=(uniqueness,),
        object_ids=(item.id,),
    )


def caption(q: Asker) -> Question | None:
    return Question(family="caption", text="Describe the image.", answer=captions(q.scene)[0])


def captions(scene: Scene) -> tuple[str, ...]:
    """The same description in three wordings: the place, what stands there, which colour prevails, single things."""
    there = _named(scene)
    counts = Counter(o.shape for o in there).most_common()
    things = _listed([f"{n} {PLURALS[kind] if n > 1 else kind}" for kind, n in counts]) or "nothing else"
    place = scene.place if scene.place == "farmland" else article(scene.place)
    first = [f"The image shows {place} from above."]
    second = [f"An aerial view of {place}."]
    third = [f"This is {place} seen from the air."]
    first.append(f"There {'is' if counts and counts[0][1] == 1 else 'are'} {things}.")
    second.append(f"It holds {things}.")
    third.append(f"In it one can count {things}.")
    if counts and (colour := _prevailing(there, counts[0][0])):
        kinds = PLURALS[counts[0][0]]
        first.append(f"Most common among the {kinds} is {colour}.")
        second.append(f"The {kinds} are most often {colour}.")
        third.append(f"Of the {kinds}, {colour} ones are the most frequent.")
    singles = [o for kind, n in counts if n == 1 for o in there if o.shape == kind]
    for item in singles[:2]:
        where = _region(scene, item)
        if where is not None:
            named = f"{item.colour} {item.shape}"
            first.append(f"{article(named).capitalize()} is in the {where} of the image.")
            second.append(f"In the {where} there is {article(named)}.")
            third.append(f"{article(named).capitalize()} can be seen in the {where}.")
    return tuple(" ".join(sentences) for sentences in (first, second, third))


def _prevailing(there: list[SceneObject], kind: str) -> str | None:
    """The colour that more of a kind have than any other; None in a tie."""
    colours = Counter(o.colour for o in there if o.shape == kind).most_common(2)
    if len(colours) == 2 and colours[0][1] == colours[1][1]:
        return None
    return colours[0][0] if colours[0][1] > 1 else None


# -- naming -----------------------------------------------------------------------------------------------


def _named(scene: Scene) -> list[SceneObject]:
    return [o for o in scene.objects if o.shape in NAMED_KINDS]


def _referent(q: Asker, *, without_colour: bool = False) -> tuple[SceneObject, str, str] | None:
    """A random object with a phrase that fits it alone, and whether it is the only one of its kind."""
    there = _named(q.scene)
    by_kind = {kind: [o for o in there if o.shape == kind] for kind in NAMED_KINDS}
    # Kinds first, so that a single plane is not drowned by a hundred cars.
    kinds = [kind for kind, members in by_kind.items() if members]
    if without_colour:
        kinds = [kind for kind in kinds if len(KINDS[kind].colours) > 1]
    if not kinds:
        return None
    kind = q.rng.choice(kinds)
    members = by_kind[kind]
    if len(members) == 1:
        return members[0], kind, "unique"
    forms = list(_extreme_forms(kind, members))
    if not without_colour:
        colours = Counter(o.colour for o in members)
        forms += [(o, f"{o.colour} {kind}") for o in members if colours[o.colour] == 1]
    if not forms:
        return None
    item, name = q.rng.choice(forms)
    return item, name, "non-unique"


def _box(item: SceneObject, aspect: float) -> str:
    left, top, right, bottom = item.box()
    return str([round(1000 * v) for v in (left / aspect, top, right / aspect, bottom)])


def _extreme_forms(kind: str, members: list[SceneObject]) -> Iterable[tuple[SceneObject, str]]:
    for word, measure in _EXTREMES.items():
        ranked = sorted(members, key=measure)
        if measure(ranked[1]) - measure(ranked[0]) >= _MARGIN:
            yield ranked[0], f"{word} {kind}"


def _region(scene: Scene, item: SceneObject) -> str | None:
    """The ninth of the picture that the object's centre is clearly in."""
    places = (item.y, item.x / scene.aspect)
    if any(abs(place - border) < _MARGIN for place in places for border in (1 / 3, 2 / 3)):
        return None
    row, column = (min(2, int(3 * place)) for place in places)
    return REGIONS[3 * row + column]


def _held_out(pair: tuple[str, str]) -> tuple[str, ...]:
    return ("held-out",) if pair in AERIAL_HELD_OUT else ()


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)
