"""What a target is asked while a draft head learns from it: prompts of the world, or of a file of one's own.

Owns which prompt has which number; a prompt is a pure function of its number, so that a run that goes on sees exactly
what it would have seen. Knows no models: the replies are the target's own, made later.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from foveate.errors import FoveateError, nearest
from foveate.world import make_example
from foveate.world.dataset import Example, messages

KINDS = ("caption", "page", "dialogue", "grounding", "short")
# fovea-nano answers a question in one to three tokens, and of these a draft can guess at most the end. The weight lies
# on what has tokens to guess: listings of 20 to 70, pages of 6 to 60, boxes of 17.
WEIGHTS: Mapping[str, int] = {"caption": 8, "page": 5, "dialogue": 5, "grounding": 1, "short": 1}
_PAGE_SHARE_OF_DIALOGUES = 0.3
_DIFFICULTIES = (1, 4, 2)  # weights of 1, 2 and 3
# Pictures from here on: fovea-nano was trained on those before.
FIRST_FRESH = 1_000_000
_APART = 10_000_000  # from a scene to the one that takes its place


@dataclass(frozen=True, kw_only=True)
class DraftPrompt:
    """One thing to ask.

    Attributes:
        kind: for accounts; one of KINDS for the world, "file" for a file.
        messages: as `VisionLanguageModel.prepare` takes them.
        images: fill the image parts; whatever `open_image` takes.
        seed: of the sampler, where the reply is sampled.
    """

    kind: str
    messages: Sequence[Mapping[str, Any]]
    images: Sequence[Any]
    seed: int


class PromptSource(Protocol):
    """Prompts by number."""

    def prompt(self, number: int) -> DraftPrompt:
        """The same for the same number, for every number from 0 on."""
        ...

    def describe(self) -> dict[str, Any]:
        """What must be the same for a run to go on, ready for JSON."""
        ...


class WorldPrompts:
    """Fresh scenes of the world without end, each asked once.

    Args:
        split: "train", or "validation" and "test" for pictures that hold combinations no training picture has.
        kinds: weights by kind.
        first: number of the first scene.

    Raises:
        FoveateError: an unknown kind, or no weight above 0.
    """

    def __init__(
        self, *, split: str = "train", kinds: Mapping[str, int] = WEIGHTS, first: int = FIRST_FRESH
    ) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise FoveateError(f"There are no prompts of the kind {kind!r}", fix=nearest(kind, KINDS))
        if not any(weight > 0 for weight in kinds.values()) or min(kinds.values()) < 0:
            raise FoveateError(
                f"The weights of prompts are {dict(kinds)}", why="one must be above 0, none below"
            )
        self._split, self._kinds, self._first = split, dict(kinds), first

    def prompt(self, number: int) -> DraftPrompt:
        rng = random.Random(f"{self._split} prompt {self._first + number}")
        kind = rng.choices(list(self._kinds), list(self._kinds.values()))[0]
        asked, attempt = None, 0
        while asked is None:  # a scene may not allow what is asked: then another takes its place
            example = self._example(kind, self._first + number + attempt * _APART, rng)
            asked, attempt = _ask(kind, example, rng), attempt + 1
        image = Image.fromarray(example.rendering.rgb)
        return DraftPrompt(kind=kind, messages=asked, images=(image,), seed=rng.getrandbits(31))

    def _example(self, kind: str, index: int, rng: random.Random) -> Example:
        page = kind == "page" or (kind == "dialogue" and rng.random() < _PAGE_SHARE_OF_DIALOGUES)
        families = {"grounding": ["grounding"], "caption": []}.get(kind)
        return make_example(
            "page" if page else "shapes",
            self._split,
            index,
            questions=0 if families == [] else rng.randint(1, 3),
            difficulty=rng.choices((1, 2, 3), _DIFFICULTIES)[0],
            families=families or None,
            caption="last" if kind in ("caption", "page", "dialogue") else "none",
        )

    def describe(self) -> dict[str, Any]:
        return {"source": "world", "split": self._split, "kinds": self._kinds, "first": self._first}


def _ask(kind: str, example: Example, rng: random.Random) -> list[dict[str, Any]] | None:
    """The turns up to the one that is to be answered; None where the scene has nothing of the kind."""
    listing = [d for d in example.dialogues if d[0].family == "caption"]
    others = [d for d in example.dialogues if d[0].family != "caption"]
    if kind in ("caption", "page"):
        turns = listing[0] if listing else None
    elif kind == "dialogue":
        before = tuple(turn for dialogue in others[: rng.randint(1, 2)] for turn in dialogue)
        turns = (*before, *listing[0]) if listing and before else None
    else:
        turns = others[0] if others else None
    if turns is None:
        return None
    return messages(turns)[:-1]


class FilePrompts:
    """Prompts of a JSONL file, every one once before any comes again, in an order of their own each time.

    A row has `prompt` and, where it shows a picture, `image` (or `images`, a list); or `messages` and `images` as
    `foveate world` writes them, of which everything up to the last question is asked. Paths are relative to the file.

    Raises:
        FoveateError: the file cannot be read, a row is neither of these, or a picture is not there.
    """

    def __init__(self, path: Path, *, seed: int = 0) -> None:
        self._path, self._seed = path, seed
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FoveateError(
                f"{path} cannot be read", why=str(error), fix="Name a JSONL file of prompts."
            ) from error
        self._rows = [self._row(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
        if not self._rows:
            raise FoveateError(
                f"{path} holds no prompts", fix='Write rows such as {"image": …, "prompt": …}.'
            )
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def _row(self, line: str, number: int) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
        where = f"Line {number} of {self._path}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise FoveateError(
                f"{where} is not JSON", why=str(error), fix="Write one object a line."
            ) from None
        if not isinstance(row, dict) or not isinstance(row.get("messages", []), list):
            raise FoveateError(f"{where} is not an object with `prompt` or `messages`")
        images = row.get("images", [row["image"]] if "image" in row else [])
        if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
            raise FoveateError(f"{where}: `images` must be a list of paths, `image` one path")
        if "messages" in row:
            asked = _until_last_question(row["messages"])
        elif isinstance(row.get("prompt"), str) and row["prompt"]:
            parts = [{"type": "image"} for _ in images] + [{"type": "text", "text": row["prompt"]}]
            asked = [{"role": "user", "content": parts if images else row["prompt"]}]
        else:
            asked = []
        if not asked:
            raise FoveateError(
                f"{where} asks nothing",
                why="it has neither a `prompt` nor `messages` with a turn of the user",
                fix=nearest("prompt", row),
            )
        paths = tuple(str((self._path.parent / image).resolve()) for image in images)
        for path in paths:
            if not Path(path).is_file():
                raise FoveateError(f"{where} names a picture that is not there", why=path)
        return asked, paths

    def prompt(self, number: int) -> DraftPrompt:
        turn, place = divmod(number, len(self._rows))
        if turn not in self._orders:
            order = list(range(len(self._rows)))
            random.Random(f"{self._seed} turn {turn}").shuffle(order)
            self._orders = {turn: order}
        asked, images = self._rows[self._orders[turn][place]]
        seed = random.Random(f"{self._seed} prompt {number}").getrandbits(31)
        return DraftPrompt(kind="file", messages=asked, images=images, seed=seed)

    def describe(self) -> dict[str, Any]:
        return {"source": self._path.name, "prompts": len(self._rows), "seed": self._seed}


def _until_last_question(turns: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Turns up to the user's last; none where a turn is not one."""
    if not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return []
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    return list(turns[: last + 1])
