"""Chunks of streams as token sequences: laid out as a `StreamingSession` lays them out, to the token.

Owns the layout (instructions and the first text, the newest earlier comments, then a turn and a comment a second), what
is trained (comments and answers alone), and the disturbing of earlier comments. StreamingVLM (Xu et al. 2025, arXiv
2510.09608) trains on such chunks with full attention, so that inference with a window needs no other positions than
training had. Knows no optimiser.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from foveate.decode.streaming.frames import FrameReader
from foveate.decode.streaming.settings import StreamSettings
from foveate.decode.streaming.turns import Turns
from foveate.train.stream.frames import SeenStream
from foveate.world.moving import SILENCE, WATCH_QUESTION, MovingScene, instruction
from foveate.world.questions import ask
from foveate.world.vocabulary import SHAPES

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

UNTRAINED = -100
SILENT, CHANGED, SAME, MEMORY, ASKED = "silent", "changed", "same", "memory", "asked"
_FAMILIES = ("existence", "count", "attribute")


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """How often what the model reads of its earlier comments is not what it should have said: always.

    What was said a second ago is mostly right again. A model that half of the time reads what was right repeats it
    instead of looking, and then its own first mistake for ever.

    Attributes:
        silent: share of comments that are silence instead.
        made_up: share of comments that name other shapes.
    """

    silent: float = 0.2
    made_up: float = 0.8


@dataclass(kw_only=True)
class Chunk:
    """token_ids [T] and targets [T] (`UNTRAINED` where nothing is learned: the target of a place is the token behind
    it); frames: features [F, tokens of a frame, D] for the placeholders in order; replies: (kind, places) of each
    comment and answer that is learned whole."""

    token_ids: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    replies: list[tuple[str, range]] = field(default_factory=list)

    def read(self, tokens: Sequence[int]) -> None:
        """Adds what is only read."""
        self.token_ids += tokens
        self.targets += [UNTRAINED] * len(tokens)

    def say(self, kind: str, reply: Sequence[int], read: Sequence[int], end: int) -> None:
        """Adds a reply: `reply` is learned, `read` is what stands there for what follows. Where the two are of
        different lengths only the first token can be learned."""
        first = len(self.targets) - 1
        self.targets[first] = reply[0]
        self.token_ids += read
        whole = len(read) == len(reply)
        self.targets += [*reply[1:], end] if whole else [UNTRAINED] * len(read)
        if whole:
            self.replies.append((kind, range(first, first + len(reply) + 1)))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """token_ids, targets [B, T]; visual [N, D] for all placeholders in order; replies of each row."""

    token_ids: torch.Tensor
    targets: torch.Tensor
    visual: torch.Tensor
    replies: list[list[tuple[str, range]]]


class ChunkMaker:
    """Chunks for one model.

    Args:
        room: tokens of a chunk; one with longer comments ends a few seconds earlier.
    """

    def __init__(
        self, model: VisionLanguageModel, reader: FrameReader, settings: StreamSettings, *, room: int
    ) -> None:
        self._model, self._reader, self._settings, self._room = model, reader, settings, room
        self._end = int(model.tokenizer.eos_token_id)
        self._turns = cache(lambda colour: Turns(model, instruction(colour)))
        self._encode = cache(lambda text: tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"]))

    def make(
        self,
        stream: SeenStream,
        colour: str,
        first: int,
        seconds: int,
        rng: random.Random,
        disturbance: Disturbance,
    ) -> Chunk:
        """The seconds from `first` on, behind what would be kept of those before, and maybe a question at the end."""
        scene, turns = stream.scene, self._turns(colour)
        chunk = Chunk()
        chunk.read(self._earlier(scene, colour, first, rng, disturbance))
        turn = self._turn(turns)
        for second in range(first, first + seconds):
            comment = scene.comment(colour, second)
            said = self._said(scene, colour, second, rng, disturbance)
            between = turns.between if second else []
            if len(chunk.token_ids) + len(between) + len(turn) + len(said) > self._room:
                return chunk
            chunk.read([*between, *turn])
            chunk.frames.append(stream.features[second])
            kind = CHANGED if scene.changes(colour, second) else SILENT if comment == SILENCE else SAME
            chunk.say(kind, self._encode(comment), said, self._end)
        self._ask(chunk, turns, scene, colour, first + seconds - 1, rng)
        return chunk

    def _turn(self, turns: Turns) -> list[int]:
        """A second's turn, with as many placeholders as its frame has tokens."""
        ids, image = turns.turn("", (self._reader.grid,)), self._model.image_token_id
        start = ids.index(image)
        rest = [token for token in ids[start:] if token != image]
        return [*ids[:start], *[image] * self._reader.tokens, *rest]

    def _earlier(
        self, scene: MovingScene, colour: str, first: int, rng: random.Random, disturbance: Disturbance
    ) -> list[int]:
        """Sinks and the newest text: somewhere between none and all of its window stands before the first turn."""
        text = list(self._turns(colour).opening)
        for second in range(first):
            text += self._said(scene, colour, second, rng, disturbance)
        sinks, rest = text[: self._settings.sink_tokens], text[self._settings.sink_tokens :]
        recent = rng.randint(0, self._settings.text_tokens or 0)
        return [*sinks, *rest[max(0, len(rest) - recent) :]]

    def _said(
        self, scene: MovingScene, colour: str, second: int, rng: random.Random, disturbance: Disturbance
    ) -> tuple[int, ...]:
        """The comment as it will be read later: now and then a wrong one."""
        comment, roll = scene.comment(colour, second), rng.random()
        if roll < disturbance.silent:
            comment = SILENCE
        elif roll < disturbance.silent + disturbance.made_up:
            comment = ", ".join(rng.choices(SHAPES, k=rng.randint(1, 3)))
        return self._encode(comment)

    def _ask(
        self, chunk: Chunk, turns: Turns, scene: MovingScene, colour: str, second: int, rng: random.Random
    ) -> None:
        """Half of the chunks end with a question: about the start, or about what is seen."""
        kind, question, answer = MEMORY, WATCH_QUESTION, colour
        roll = rng.random()
        if roll < 0.25:
            asked = ask(scene.at(second), rng.choice(_FAMILIES), rng)
            if asked is None:
                return
            kind, question, answer = ASKED, asked.text, asked.answer
        elif roll < 0.5:
            return
        tokens, reply = [*turns.between, *turns.turn(question)], self._encode(answer)
        if len(chunk.token_ids) + len(tokens) + len(reply) <= self._room:
            chunk.read(tokens)
            chunk.say(kind, reply, reply, self._end)

    def batch(self, chunks: Sequence[Chunk]) -> Batch:
        """All rows of one length, so that every step runs the same kernels."""
        pad = self._model.tokenizer.pad_token_id or 0
        visual = np.concatenate([frame for chunk in chunks for frame in chunk.frames])
        return Batch(
            token_ids=torch.tensor(
                [[*one.token_ids, *[pad] * (self._room - len(one.token_ids))] for one in chunks]
            ),
            targets=torch.tensor(
                [[*one.targets, *[UNTRAINED] * (self._room - len(one.targets))] for one in chunks]
            ),
            visual=torch.from_numpy(visual.astype(np.float32)),
            replies=[chunk.replies for chunk in chunks],
        )
