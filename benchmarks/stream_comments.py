"""Comments on long moving scenes, early and late: a model trained on streams in sessions, and what fails beside it.

Run: python benchmarks/stream_comments.py runs/stream/model    # writes results/stream/comments.json

All arms see the same frames of test streams, in step, so that each frame goes through the tower once. Sessions are
`StreamingSession` as a user opens it; "frame by frame" is fovea-nano with all tokens of every fourth frame, asked how
many objects of the colour there are.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import machine
from foveate.decode.streaming import StreamDefaults, StreamingSession
from foveate.models import load
from foveate.models.base import VisionLanguageModel
from foveate.models.records import MediaFeatures, PreparedMedia
from foveate.world.moving import SILENCE, WATCH_QUESTION, MovingScene, instruction, sample_moving
from foveate.world.render import render

TARGET = Path(__file__).parents[1] / "results" / "stream" / "comments.json"
SIZE, PLAIN_EVERY = 168, 4
WINDOW, NO_SINKS, ABSOLUTE, FRAMES = "sinks, contiguous", "no sinks", "absolute positions", "frame by frame"
EXACT, CHANGED, COUNTED, MEMORY = "exact", "changed", "counted", "memory"


class SeenOnce:
    """The tower's answer to the newest frame, for all who ask: training leaves the tower as it was."""

    def __init__(self, models: Sequence[VisionLanguageModel]) -> None:
        self._encode, self._digest = models[0].encode, ""
        self._features: list[MediaFeatures] = []
        for model in models:
            model.encode = self  # type: ignore[method-assign, assignment]

    def __call__(self, media: Sequence[PreparedMedia], *, salience: Any = False) -> list[MediaFeatures]:
        (item,) = media
        if item.digest != self._digest:
            self._digest, self._features = item.digest, self._encode(media)
        return self._features


def sessions(model: VisionLanguageModel, colour: str, seconds: int) -> dict[str, StreamingSession]:
    """An open session for each arm that has a past."""
    own = StreamDefaults.of(model.folder).settings
    arms = {
        WINDOW: own,
        NO_SINKS: dataclasses.replace(own, sink_tokens=0),
        ABSOLUTE: dataclasses.replace(own, positions="absolute", longest_seconds=seconds),
    }
    return {
        name: StreamingSession(model, settings, width=SIZE, height=SIZE, system=instruction(colour))
        for name, settings in arms.items()
    }


def score(scene: MovingScene, colour: str, second: int, said: str) -> dict[str, bool]:
    """Whether a comment is right to the word, and names as many objects as there are; seconds in which something
    changes are told apart, as what was right a second ago is wrong there."""
    right = said == scene.comment(colour, second)
    count = 0 if said == SILENCE else len(said.split(", "))
    found = {EXACT: right, COUNTED: count == scene.count(colour, second)}
    return {**found, CHANGED: right} if scene.changes(colour, second) else found


def how_many(model: VisionLanguageModel, frame: Image.Image, colour: str) -> str:
    """What fovea-nano says to one frame alone."""
    text = f"How many {colour} objects are there?"
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = model.prepare(messages, images=[frame])
    return "".join(token.text for token in model.generate(prompt, max_new_tokens=4)).strip()


def watch(
    model: VisionLanguageModel, plain: VisionLanguageModel, index: int, seconds: int, ask_every: int
) -> list[dict[str, Any]]:
    """One test stream, one row an arm and second."""
    scene = sample_moving("test", index, seconds=seconds)
    colour = scene.palette[index % len(scene.palette)]
    opened, rows = sessions(model, colour, seconds), []
    for second in range(seconds):
        frame = Image.fromarray(render(scene.at(second), SIZE).rgb)
        for arm, session in opened.items():
            report = session.push_frame(frame, second)
            assert report is not None
            told = score(scene, colour, second, report.reply.text.strip())
            if second % ask_every == ask_every - 1:
                told[MEMORY] = session.ask(WATCH_QUESTION).text.strip() == colour
            rows.append({"arm": arm, "second": second, **told})
        if second % PLAIN_EVERY == 0:
            counted = how_many(plain, frame, colour) == str(scene.count(colour, second))
            rows.append({"arm": FRAMES, "second": second, COUNTED: counted})
    for session in opened.values():
        session.close()
    return rows


def summary(rows: Sequence[dict[str, Any]], seconds: int, span: int) -> list[dict[str, Any]]:
    """Shares of right answers of each arm in the first and the last `span` seconds, and how many they are of."""
    parts = {"early": range(span), "late": range(seconds - span, seconds), "all": range(seconds)}
    found = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        for part, where in parts.items():
            right: dict[str, list[bool]] = defaultdict(list)
            for row in rows:
                if row["arm"] == arm and row["second"] in where:
                    for name in (EXACT, CHANGED, COUNTED, MEMORY):
                        if name in row:
                            right[name].append(row[name])
            shares = {name: round(sum(values) / len(values), 4) for name, values in right.items()}
            counts = {name: len(values) for name, values in right.items()}
            found.append({"arm": arm, "part": part, "shares": shares, "of": counts})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", type=Path, help="folder that `foveate train stream` exported from fovea-nano"
    )
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--span", type=int, default=60, help="seconds that are early, and that are late")
    parser.add_argument("--out", type=Path, default=TARGET)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, plain = load(asked.model, dtype="float32"), load(dtype="float32")
    SeenOnce([plain, model])
    rows: list[dict[str, Any]] = []
    for index in range(asked.streams):
        rows += watch(model, plain, index, asked.seconds, ask_every=20)
        for line in summary(rows, asked.seconds, asked.span):
            print(index, line, flush=True)
    document = {
        "command": "python benchmarks/stream_comments.py runs/stream/model "
        f"--streams {asked.streams} --seconds {asked.seconds} --span {asked.span}",
        "machine": machine.describe(),
        "recipe": json.loads((asked.model / "recipe.json").read_text(encoding="utf-8")),
        "streams": asked.streams,
        "seconds": asked.seconds,
        "span": asked.span,
        "arms": summary(rows, asked.seconds, asked.span),
    }
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(asked.out)


if __name__ == "__main__":
    main()
