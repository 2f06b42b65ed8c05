"""Trains a model to comment on streams: the tower frozen and its frames kept, the layers of the language model trained.

Owns the settings, the state of a run and its loop; `frames` has what is seen, `chunks` what is read and said, `export`
what comes out. A run resumes where it stopped, to the same numbers.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.decode.streaming.frames import FrameReader
from foveate.decode.streaming.settings import StreamSettings
from foveate.decode.streaming.state import require_streamable
from foveate.errors import FoveateError
from foveate.models import load
from foveate.models.overlay import Overlay
from foveate.train.stream.chunks import UNTRAINED, Batch, ChunkMaker, Disturbance
from foveate.train.stream.export import write_model, write_overlay
from foveate.train.stream.frames import SIZE, FrameStore
from foveate.world.vocabulary import COLOURS

_UNDISTURBED = Disturbance(silent=0.0, made_up=0.0)


def _for_nano() -> StreamSettings:
    """A chunk of 24 seconds fits fovea-nano's context of 1,024 with 9 tokens a frame; it has 144."""
    return StreamSettings(
        vision_seconds=6, text_tokens=64, sink_tokens=16, visual_budget="9", reducer="average_pool"
    )


@dataclass(frozen=True, kw_only=True)
class StreamTraining:
    """The recipe.

    Attributes:
        stream: what the trained model is to be used with: its window of text bounds the earlier comments in front of
            a chunk, its budget the tokens of a frame.
        streams, seconds: of the training streams, and how long each is.
        chunk_seconds, overlap_seconds: a chunk begins every `chunk_seconds - overlap_seconds`; short ones anywhere.
        room: tokens of a chunk.
        short_steps: the first so many steps see chunks of `short_seconds`, `short_batch` of them in `short_room`
            tokens: where the instructions stand near, it is learned sooner that they must be read.
        absent_share: chunks that watch a colour which never occurs in the stream.
    """

    stream: StreamSettings = field(default_factory=_for_nano)
    streams: int = 100
    seconds: int = 60
    chunk_seconds: int = 24
    overlap_seconds: int = 12
    room: int = 512
    batch_size: int = 4
    short_steps: int = 600
    short_seconds: int = 6
    short_room: int = 208
    short_batch: int = 10
    steps: int = 820
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    warmup: int = 20
    absent_share: float = 0.1
    seed: int = 0
    log_every: int = 5
    evaluate_every: int = 50
    save_every: int = 25
    validation_streams: int = 4

    def rate(self, step: int) -> float:
        """Learning rate at a step: a cosine down to a twentieth behind the warm-up."""
        warm = min(1.0, (step + 1) / self.warmup)
        return self.learning_rate * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * step / self.steps)) / 2)

    @property
    def starts(self) -> range:
        """Seconds at which the chunks of a stream begin."""
        return range(0, self.seconds - self.chunk_seconds + 1, self.chunk_seconds - self.overlap_seconds)


class StreamTrainer:
    """Owns one run in `folder`: frames/, checkpoint.pt, log.jsonl, and at the end model/ and difference/.

    Raises:
        StreamError: the model cannot be streamed.
        FoveateError: the folder holds a run with another seed, or one that is past the last step.
    """

    def __init__(
        self,
        settings: StreamTraining,
        folder: Path,
        *,
        start_from: str | None = None,
        device: str = "cpu",
        report: Callable[[dict], None] | None = None,
    ) -> None:
        self.settings, self.folder = settings, folder
        self.report = report or (lambda row: None)
        self.model = load(start_from, dtype="float32", device=device)
        if Overlay.of(self.model.folder) is not None:
            raise FoveateError(
                f"{self.model.ref} is kept as a difference to another model",
                why="what is trained over it could not be told from what it is made of",
                fix="Begin with a whole checkpoint.",
            )
        require_streamable(self.model, settings.stream)
        reader = FrameReader(self.model, settings.stream, width=SIZE, height=SIZE, question="")
        stream = settings.stream
        origin = {"model": self.model.ref, "budget": stream.visual_budget, "reducer": stream.reducer}
        self.frames = FrameStore(
            folder / "frames", reader, seconds=settings.seconds, origin=origin, device=self.model.device
        )
        self.maker, self.short_maker = (
            ChunkMaker(self.model, reader, settings.stream, room=room)
            for room in (settings.room, settings.short_room)
        )
        language = self.model.language_model
        # Whole causal sequences, no caches: torch's own kernel instead of ours over kept keys.
        language.config._attn_implementation = "sdpa"
        self.trained = {**_named(language.layers, "layers"), **_named(language.norm, "norm")}
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self.optimizers = self._optimizers()
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self._resume()
        if not self.history or self.history[-1]["settings"] != asdict(settings):
            self.history.append({"from_step": self.step, "settings": asdict(settings)})

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for matrices, AdamW for norms, as in fovea-nano's own recipe."""
        matrices = [p for p in self.trained.values() if p.ndim == 2]
        rest = [p for p in self.trained.values() if p.ndim != 2]
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        return [
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)),
        ]

    # -- state --------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.model.device)
        if state["seed"] != self.settings.seed or state["model"] != self.model.ref:
            raise FoveateError(
                f"{self.checkpoint} is of another run",
                why=f"seed {state['seed']} and {state['model']} there, seed {self.settings.seed} and "
                f"{self.model.ref} here",
                fix="Give the same seed and --from, or another --out.",
            )
        if state["step"] > self.settings.steps:
            raise FoveateError(
                f"{self.checkpoint} is past the end of this run",
                why=f"it has done {state['step']} steps, {self.settings.steps} were asked for",
                fix="Ask for more --steps, or give another --out.",
            )
        with torch.no_grad():
            for name, value in state["trained"].items():
                self.trained[name].copy_(value)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.history = state["step"], state["history"]

    def save(self) -> None:
        state = {
            "step": self.step,
            "history": self.history,
            "seed": self.settings.seed,
            "model": self.model.ref,
            "trained": {name: value.detach() for name, value in self.trained.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    # -- training -----------------------------------------------------------------------------------------

    def see(self, tell: Callable[[int], None] = lambda done: None) -> None:
        """Every frame through the tower once, those of an earlier run not again."""
        streams = self.settings.streams
        self.frames.ensure("train", streams, tell)
        self.frames.ensure("validation", self.settings.validation_streams, lambda done: tell(streams + done))

    def run(self, tell: Callable[[int], None] = lambda done: None) -> Path:
        """Trains to the last step (`see` comes first) and exports. Returns the folder of the model."""
        settings = self.settings
        while self.step < settings.steps:
            began = time.perf_counter()
            row = self._train_step(self._batch(self.step))
            self.step += 1
            row = {"step": self.step, **row, "seconds_per_step": time.perf_counter() - began}
            last = self.step == settings.steps
            if self.step % settings.log_every == 0 or last:
                self._log(row)
            if self.step % settings.evaluate_every == 0 or last:
                self._log({"step": self.step, "validation": self.validate()})
            if self.step % settings.save_every == 0 or last:
                self.save()
            tell(self.step)
        return self.export()

    def export(self) -> Path:
        """model/: an ordinary checkpoint; difference/: what differs from the model that it began with."""
        recipe = {"steps": self.step, "from": self.model.ref, "history": self.history}
        stream = self.settings.stream
        write_overlay(self.model, self.trained, stream, recipe, self.folder / "difference")
        return write_model(self.model, stream, recipe, self.folder / "model")

    def _batch(self, step: int) -> Batch:
        """The same for a step whenever it is asked for."""
        settings, maker, chunks = self.settings, self.maker, []
        count, seconds, starts = settings.batch_size, settings.chunk_seconds, settings.starts
        if step < settings.short_steps:
            maker, count, seconds = self.short_maker, settings.short_batch, settings.short_seconds
            starts = range(settings.seconds - seconds + 1)
        for row in range(count):
            rng = random.Random(f"{settings.seed}/{step}/{row}")
            stream = self.frames.open("train", rng.randrange(settings.streams))
            colours = COLOURS if rng.random() < settings.absent_share else stream.scene.palette
            chunks.append(
                maker.make(
                    stream,
                    rng.choice(list(colours)),
                    rng.choice(starts),
                    seconds,
                    rng,
                    Disturbance(),
                )
            )
        return maker.batch(chunks)

    def _logits(self, batch: Batch) -> Tensor:
        """[B, T, V]."""
        model, ids = self.model, batch.token_ids.to(self.model.device)
        visual = ids == model.image_token_id
        embeds = model.hf_model.get_input_embeddings()(ids.masked_fill(visual, 0)).clone()
        embeds[visual] = batch.visual.to(embeds.device, embeds.dtype)
        with torch.autocast(model.device.type, dtype=torch.bfloat16):
            hidden = model.language_model(inputs_embeds=embeds, use_cache=False).last_hidden_state
            logits: Tensor = model.head(hidden)
        return logits

    def _train_step(self, batch: Batch) -> dict[str, float]:
        rate = self.settings.rate(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        logits = self._logits(batch).flatten(0, 1).float()
        targets = batch.targets.to(logits.device).flatten()
        loss = F.cross_entropy(logits, targets, ignore_index=UNTRAINED)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(self.trained.values()), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {"rate": rate, "loss": loss.item(), "gradient_norm": norm.item()}

    # -- measuring ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Share of replies all of whose tokens are the likeliest given the right past, per kind."""
        settings, right = self.settings, defaultdict[str, list[bool]](list)
        for index in range(settings.validation_streams):
            stream = self.frames.open("validation", index)
            chunks = []
            for place, colour in enumerate(stream.scene.palette):
                rng = random.Random(f"{index}/{colour}")
                start = settings.starts[(index + place) % len(settings.starts)]
                chunks.append(
                    self.maker.make(stream, colour, start, settings.chunk_seconds, rng, _UNDISTURBED)
                )
            batch = self.maker.batch(chunks)
            hits = self._logits(batch).argmax(-1).cpu() == batch.targets
            for row, replies in enumerate(batch.replies):
                for kind, places in replies:
                    right[kind].append(bool(hits[row, places.start : places.stop].all()))
        return {kind: sum(values) / len(values) for kind, values in sorted(right.items())}

    def _log(self, row: dict) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self.report(row)


def _named(module: torch.nn.Module, prefix: str) -> dict[str, torch.nn.Parameter]:
    return {f"{prefix}.{name}": value for name, value in module.named_parameters()}
