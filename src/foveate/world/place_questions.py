"""Questions about where: relations, boxes and lettered markers."""

from __future__ import annotations

from collections.abc import Callable

from foveate.world.asking import VALUES, YES_NO, Asker, Question, held_out_tag, phrase
from foveate.world.scene import SceneObject

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
    pair = q.two_named()
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
        tags=("one-hop", *held_out_tag(first, second)),
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
        choices=VALUES[key],
        tags=("extreme", *held_out_tag(ranked[0])),
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
                        choices=VALUES[asked],
                        tags=("two-hop", *held_out_tag(inside[0])),
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
        choices=VALUES[key],
        tags=("nearest", *held_out_tag(item, ranked[0])),
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
        tags=held_out_tag(item),
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
        tags=held_out_tag(item),
        object_ids=(item.id,),
    )
