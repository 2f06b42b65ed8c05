"""Turns scenes and questions into examples, JSONL files and contact sheets.

Files follow the `messages`/`images` convention of the `datasets` library: one JSON object a line, images as
paths beside it. Owns the mixture of families; knows no model.
"""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from foveate.errors import FoveateError, nearest
from foveate.world.asking import Question
from foveate.world.questions import ask, families_of, follow_up
from foveate.world.render import Rendering, render
from foveate.world.sampling import sample_scene, scene_seed
from foveate.world.scene import MarkerStyle, Scene
from foveate.world.svg import to_svg

# Share of each family when none is named; caption and grounding are long, so they come less often.
_WEIGHTS = {
    "shapes": {"existence": 5, "attribute": 3, "count": 4, "comparison": 4, "relation": 5, "negative": 1}
}
_WEIGHTS["shapes"] |= {"grounding": 1, "marker": 6, "reading": 2}
_WEIGHTS["page"] = {"reading": 6, "chart": 6, "table": 6}
_WEIGHTS["aerial"] = {"scene": 1, "existence": 4, "count": 4, "attribute": 3, "position": 2, "grounding": 3}


@dataclass(frozen=True, slots=True)
class Example:
    """A scene, its picture with truth, and dialogues about it (each a tuple of turns)."""

    index: int
    split: str
    scene: Scene
    rendering: Rendering
    dialogues: tuple[tuple[Question, ...], ...]

    def questions(self) -> list[Question]:
        return [turn for dialogue in self.dialogues for turn in dialogue]


def make_example(
    domain: str,
    split: str,
    index: int,
    *,
    size: int = 168,
    questions: int = 2,
    difficulty: int = 2,
    families: Sequence[str] | None = None,
    caption: str = "none",
    marker_style: MarkerStyle | None = None,
) -> Example:
    """Scene number `index` of a split with up to `questions` different questions.

    With `families` None they are drawn from the domain's mixture; otherwise round robin from those named, and
    families that the scene cannot answer are left out. One dialogue in four gets a second turn that says "it".
    `caption` "first" or "last" adds a listing of the whole picture before or after the questions.
    """
    scene = sample_scene(domain, split, index, difficulty=difficulty, marker_style=marker_style)
    rng = random.Random(scene_seed(domain, split, index, difficulty) ^ 0x51AB)
    dialogues: list[tuple[Question, ...]] = []
    seen: set[str] = set()
    for attempt in range(3 * questions):
        if len(dialogues) >= questions:
            break
        if families is None:
            weights = _WEIGHTS[domain]
            family = rng.choices(list(weights), list(weights.values()))[0]
        else:
            family = families[attempt % len(families)]
        question = ask(scene, family, rng, attempts=3)
        if question is None or question.text in seen:
            continue
        seen.add(question.text)
        later = follow_up(scene, question, rng) if rng.random() < 0.25 else None
        dialogues.append((question, later) if later else (question,))
    if caption != "none" and (listing := ask(scene, "caption", rng)) is not None:
        dialogues.insert(0 if caption == "first" else len(dialogues), (listing,))
    return Example(index, split, scene, render(scene, size), tuple(dialogues))


def messages(dialogue: Iterable[Question]) -> list[dict[str, Any]]:
    """A dialogue in the form of `datasets`' and transformers' chat templates; the image is in the first turn."""
    result: list[dict[str, Any]] = []
    for turn in dialogue:
        content: list[dict[str, str]] = [{"type": "text", "text": turn.text}]
        if not result:
            content.insert(0, {"type": "image"})
        result.append({"role": "user", "content": content})
        result.append({"role": "assistant", "content": [{"type": "text", "text": turn.answer}]})
    return result


def write_dataset(
    folder: Path,
    *,
    domain: str,
    split: str,
    count: int,
    start: int = 0,
    size: int = 168,
    questions: int = 2,
    difficulty: int = 2,
    families: Sequence[str] | None = None,
    marker_style: MarkerStyle | None = None,
    svg: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write `count` scenes as images/*.png (and *.svg), one JSONL row a dialogue, and contact_sheet.png.

    Returns the number of dialogues. An existing data file is never overwritten.

    Raises:
        FoveateError: the folder already holds a data set of this split, or a family is unknown.
    """
    target = folder / f"{split}.jsonl"
    if target.exists():
        raise FoveateError(
            f"{target} exists already", fix="Choose another folder with --out, or remove it first."
        )
    (folder / "images").mkdir(parents=True, exist_ok=True)
    shown: list[Example] = []
    dialogues = 0
    for family in families or ():
        if family not in families_of(domain):
            raise FoveateError(
                f"Unknown question family {family!r}", fix=nearest(family, families_of(domain))
            )
    partial = target.with_suffix(".jsonl.partial")
    with partial.open("w", encoding="utf-8") as out:
        for index in range(start, start + count):
            example = make_example(
                domain, split, index, size=size, questions=questions, difficulty=difficulty,
                families=families, marker_style=marker_style,
            )  # fmt: skip
            name = f"images/{split}-{domain}-{index:06d}.png"
            Image.fromarray(example.rendering.rgb).save(folder / name)
            if svg:
                (folder / name).with_suffix(".svg").write_text(to_svg(example.scene, size), encoding="utf-8")
            for row in _rows(example, name):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                dialogues += 1
            if len(shown) < 20:
                shown.append(example)
            if progress:
                progress(index - start + 1)
    partial.rename(target)
    contact_sheet(shown).save(folder / "contact_sheet.png")
    return dialogues


def _rows(example: Example, image: str) -> Iterable[dict[str, Any]]:
    for number, dialogue in enumerate(example.dialogues):
        yield {
            "id": f"{example.scene.domain}-{example.split}-{example.index:06d}-{number}",
            "images": [image],
            "messages": messages(dialogue),
            "families": [turn.family for turn in dialogue],
            "choices": [list(turn.choices) for turn in dialogue],
            "tags": [list(turn.tags) for turn in dialogue],
            "scene": example.scene.as_dict(),
        }


def contact_sheet(examples: Sequence[Example], *, columns: int = 4, cell: int = 224) -> Image.Image:
    """Pictures with their questions and answers in a grid, to look at before training on anything."""
    font = ImageFont.load_default(size=11)
    lines = [
        [
            line
            for turn in e.questions()[:4]
            for line in textwrap.wrap(f"{turn.text} {turn.answer}", cell // 6)
        ]
        for e in examples
    ]
    height = cell + 14 * max((len(each) for each in lines), default=0) + 8
    rows = max(1, -(-len(examples) // columns))
    sheet = Image.new("RGB", (columns * (cell + 8), rows * height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for place, (example, words) in enumerate(zip(examples, lines, strict=True)):
        x, y = (place % columns) * (cell + 8) + 4, (place // columns) * height + 4
        picture = Image.fromarray(example.rendering.rgb)
        sheet.paste(picture.resize((cell, round(cell / example.scene.aspect))), (x, y))
        for line, text in enumerate(words):
            draw.text((x, y + cell + 14 * line + 1), text, fill=(40, 40, 40), font=font)
    return sheet
