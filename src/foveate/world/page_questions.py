"""Questions about print: lines, labels, charts and tables; and the listing of a whole picture."""

from __future__ import annotations

from foveate.world.asking import Asker, Question, held_out_tag
from foveate.world.vocabulary import TEST_ONLY_WORDS

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
        tags=("label", *held_out_tag(item)),
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
