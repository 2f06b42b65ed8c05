"""Questions about what is there: existence, attributes, absence, counts and comparisons of objects."""

from __future__ import annotations

from foveate.world.asking import MAX_COUNT, VALUES, YES_NO, Asker, Question, article, held_out_tag, phrase
from foveate.world.vocabulary import COLOURS, SHAPES, TEXTURES


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
            attributes[changed] = q.rng.choice(VALUES[changed])
            if q.count(**attributes) == 0:
                break
        else:
            return None
    named = phrase(attributes)
    text = q.rng.choice(
        (
            f"Is there {article(named)}?",
            f"Is there {article(named)} in the image?",
            f"Can you see {article(named)}?",
        )
    )
    return Question(
        family="existence",
        text=text,
        answer="yes" if present else "no",
        choices=YES_NO,
        tags=held_out_tag(item) if present else (),
        object_ids=tuple(o.id for o in q.matching(**attributes)),
    )


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
        choices=VALUES[key],
        tags=(key, *held_out_tag(item)),
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


def _compare_sizes(q: Asker) -> Question | None:
    pair = q.two_named()
    if pair is None or pair[0].size == pair[2].size:
        return None
    first, first_name, second, second_name = pair
    word, answer = q.rng.choice((("larger", first.size == "large"), ("smaller", first.size == "small")))
    return Question(
        family="comparison",
        text=f"Is the {first_name} {word} than the {second_name}?",
        answer="yes" if answer else "no",
        choices=YES_NO,
        tags=("sizes", *held_out_tag(first, second)),
        object_ids=(first.id, second.id),
    )


def _compare_same(q: Asker) -> Question | None:
    key = q.rng.choice(("colour", "shape", "size", "texture"))
    want_same = q.rng.random() < 0.5
    for _ in range(8):
        pair = q.two_named()
        if pair is None:
            continue
        first, first_name, second, second_name = pair
        same = getattr(first, key) == getattr(second, key)
        if same != want_same or any(v in f"{first_name} {second_name}" for v in VALUES[key]):
            continue
        noun = "pattern" if key == "texture" else key
        return Question(
            family="comparison",
            text=f"Do the {first_name} and the {second_name} have the same {noun}?",
            answer="yes" if same else "no",
            choices=YES_NO,
            tags=("same", *held_out_tag(first, second)),
            object_ids=(first.id, second.id),
        )
    return None
