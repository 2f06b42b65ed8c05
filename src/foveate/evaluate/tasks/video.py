"""Questions about videos, shown as frames in order: NExT-QA's format, or the world's moving scenes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from foveate.errors import MediaError
from foveate.evaluate.contract import BrokenItem, Item, Picture, Reply, Score, TaskCard, user
from foveate.evaluate.embedded import scene_picture, test_scenes
from foveate.evaluate.motion import KINDS, SECONDS
from foveate.evaluate.parsing import read_answer, read_choice, verdict
from foveate.evaluate.published import Row, column, data_file, items_from
from foveate.media import read_video
from foveate.world.asking import Asker

_LETTERS = "ABCDE"


class VideoQuestions:
    """Where something moves, how often it turns back at an edge, and what reaches an edge first.

    Args:
        data: `val.csv` of NExT-QA's multiple choice (video, frame_count, question, answer, qid, type, a0 to a4), with
            `videos/VIDEO.mp4` beside it. Reading videos needs the extra `video`.
        count: questions of the embedded form: two seconds of a scene in which everything moves, the kinds in turn.
        frames: shown of every video, spread evenly, at most.
    """

    card: ClassVar = TaskCard(
        title="videos",
        paper="NExT-QA, arXiv 2105.08276",
        licence="MIT (questions); VidOR's videos under their own terms",
        source="github.com/doc-doc/NExT-QA, dataset/nextqa/val.csv; VidOR videos, renamed by its map_vid_vidorID.json",
        max_tokens=32,
    )

    def __init__(
        self, *, data: str | None = None, count: int = 100, difficulty: int = 1, frames: int = 6
    ) -> None:
        self.data, self.count, self.difficulty, self.frames = data, count, difficulty, max(2, frames)

    def items(self) -> Iterator[Item | BrokenItem]:
        if self.data is None:
            return itertools.islice(self._of_the_world(), self.count)
        path = data_file(self.data, ("val.csv", "*.csv"))
        return items_from(path, partial(self._published, path.parent))

    def score(self, item: Item, reply: Reply) -> Score:
        target: dict[str, Any] = item.target
        if "options" in target:
            said = read_choice(reply.text, target["options"])
        else:
            said = read_answer(reply.text, target["choices"])
        return verdict(reply.text, said, said == target["answer"])

    def perfect_reply(self, item: Item) -> str:
        return str(item.target["answer"])

    def _of_the_world(self) -> Iterator[Item]:
        kinds = itertools.cycle(KINDS.items())
        kind, ask = next(kinds)
        for index, scene in test_scenes("shapes", 50, difficulty=self.difficulty):
            moving = dataclasses.replace(scene, markers=())
            made = ask(Asker(moving, random.Random(f"video {index}")))
            if made is None:
                continue
            text, answer, choices = made
            times = [SECONDS * frame / (self.frames - 1) for frame in range(self.frames)]
            shown = [scene_picture(moving.at(t), f"shapes {index} at {t:.2f} s") for t in times]
            yield Item(
                id=f"{kind}-{index}",
                messages=(user(*shown, _asked(len(shown), text)),),
                target={"answer": answer, "choices": list(choices)},
                cluster=str(index),
                tags=(kind,),
                form="number" if answer.isdigit() else "word",
            )
            kind, ask = next(kinds)

    def _published(self, folder: Path, place: str, row: Row) -> Item:
        options = {letter: str(column(row, f"a{at}")) for at, letter in enumerate(_LETTERS)}
        right = int(column(row, "answer"))
        if not 0 <= right < len(_LETTERS):
            raise ValueError(f"the answer {right} is none of {len(_LETTERS)} options")
        video = str(column(row, "video"))
        count = min(self.frames, int(row.get("frame_count") or self.frames))
        if count < 1:
            raise ValueError(f"a video of {count} frames")
        path = folder / "videos" / f"{video}.mp4"
        shown = [
            Picture(load=partial(_frame, path, count, at), name=f"{path.name}, frame {at + 1} of {count}")
            for at in range(count)
        ]
        listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
        return Item(
            id=f"{video}-{row.get('qid', place)}",
            messages=(user(*shown, _asked(count, f"{column(row, 'question')}\n{listed}")),),
            target={"answer": _LETTERS[right], "options": options},
            cluster=video,
            tags=(str(row["type"]),) if row.get("type") else (),
            form="choice",
        )


def _asked(count: int, text: str) -> str:
    return f"These are {count} frames of a video, in order.\n{text}"


@functools.lru_cache(maxsize=2)  # a question's frames are opened one after the other
def _video(path: Path, count: int) -> Any:
    return read_video(path, frames_per_second=None, max_frames=count)


def _frame(path: Path, count: int, at: int) -> Image.Image:
    video = _video(path, count)
    if at >= len(video):
        raise MediaError(f"{path.name} has {len(video)} frames", why=f"its row promises at least {count}")
    return Image.fromarray(video.frames[at])
