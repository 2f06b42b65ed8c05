"""Trains fovea-nano: first the tower on dense labels, then everything on questions and dense labels together.

One command, resumable at any moment: batch i is a function of i, and a checkpoint holds the step, the weights,
the optimisers, and which settings were in force from which step on. The learning rate warms up, stays, and falls
to zero over the last part, so that a longer run can continue from any checkpoint of the flat part.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from foveate.errors import FoveateError
from foveate.train.nano.batches import Batch, NanoBatches, Packer, validation_examples
from foveate.train.nano.dense import CLASS_COUNTS
from foveate.train.nano.model import NanoTrainee, export
from foveate.train.nano.tokenizer import build_tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class NanoTraining:
    """Everything that decides the result. A run may be resumed with others; the history is stored beside the weights.

    Attributes:
        steps: optimiser steps in all, `tower_steps` of them on dense labels alone.
        batch_size: pictures per step; each carries about seven questions.
        learning_rate: peak; matrices use Muon scaled to AdamW's step size, the rest AdamW.
        decay_share: the last part of the run, over which the rate falls linearly to zero.
        tower_rate: share of the rate that the tower gets once questions are trained too. Muon's steps have one
            size however noisy the gradient, and the noise of few answers would undo what dense labels taught.
        dense_weight: weight of the dense labels and words once questions are trained too.
        look_weight: weight of telling which patches a question is about.
        mixture: weights of the difficulties 1, 2 and 3; easy scenes first let yes-or-no questions leave chance.
        compile: fuse kernels with torch.compile (needs a C++ compiler; about a sixth faster on a CPU).
    """

    steps: int = 9000
    tower_steps: int = 2500
    batch_size: int = 16
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.02
    warmup: int = 100
    decay_share: float = 0.25
    tower_rate: float = 0.3
    dense_weight: float = 0.5
    look_weight: float = 2.0
    mixture: tuple[int, int, int] = (1, 4, 1)
    seed: int = 0
    compile: bool = True
    log_every: int = 25
    evaluate_every: int = 250
    save_every: int = 250
    validation_pictures: int = 192

    def rate(self, step: int) -> float:
        """Learning rate at a step; the second stage warms up again because its part of the model is new."""
        since = step if step < self.tower_steps else step - self.tower_steps
        warm = min(1.0, (since + 1) / self.warmup)
        left = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.learning_rate * warm * min(1.0, left)


def dense_loss(trainee: NanoTrainee, seen: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each label under each patch, centre offsets, and the picture's content from CLS."""
    seen = seen.float()
    patches = seen[:, 1:].reshape(-1, seen.shape[-1])
    total = seen.new_zeros(())
    for place, (name, classes) in enumerate(CLASS_COUNTS.items()):
        # Empty patches are many and easy.
        weight = torch.tensor([0.2] + [1.0] * (classes - 1), device=seen.device)
        total = total + F.cross_entropy(
            trainee.dense_heads[name](patches), batch.labels[:, place].flatten(), weight
        )
    offsets = batch.offsets.permute(0, 2, 3, 1).reshape(-1, 2)
    known = ~offsets[:, 0].isnan()
    if known.any():
        total = total + F.smooth_l1_loss(trainee.offset_head(patches)[known], offsets[known])
    scene = F.binary_cross_entropy_with_logits(trainee.scene_head(seen[:, 0]), batch.scene)
    return total / len(CLASS_COUNTS) + scene


def word_loss(trainee: NanoTrainee, visual: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each patch's words among the words of its label, where there is something to name."""
    total = visual.new_zeros((), dtype=torch.float32)
    for place, name in enumerate(CLASS_COUNTS):
        labels = batch.labels[:, place].flatten(1)
        there = labels > 0
        if there.any():
            total = total + F.cross_entropy(trainee.word_logits(visual, name)[there], labels[there] - 1)
    return total / len(CLASS_COUNTS)


def read_batch(trainee: NanoTrainee, visual: Tensor, batch: Batch) -> Tensor:
    """Hidden states [B, T, width] at the text places."""
    seen = None if batch.blind else visual
    return trainee.read(seen, batch.token_ids, batch.mask(), batch.all_positions())


def look_loss(trainee: NanoTrainee, hidden: Tensor, visual: Tensor, batch: Batch) -> Tensor:
    """Whether each patch matters to each question: far more to learn from than a yes or a no."""
    if batch.blind or not len(batch.look_rows):
        return hidden.new_zeros((), dtype=torch.float32)
    logits = trainee.look_logits(hidden, visual, batch)
    weight = torch.tensor(4.0, device=logits.device)  # a few patches of 144 matter
    return F.binary_cross_entropy_with_logits(logits, batch.look_maps.float(), pos_weight=weight)


class NanoTrainer:
    """Owns the state of one run in `folder`: checkpoint.pt, log.jsonl, and at the end the exported model."""

    def __init__(
        self,
        settings: NanoTraining,
        folder: Path,
        *,
        device: str = "cpu",
        start_from: Path | None = None,
        report: Callable[[dict], None] | None = None,
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, torch.device(device)
        self.start_from = start_from
        self.report = report or (lambda row: None)
        torch.manual_seed(settings.seed)
        self.tokenizer = self._tokenizer()
        self.trainee = NanoTrainee(self.tokenizer).to(self.device)
        self.optimizers = self._optimizers()
        self.step = self.pictures = 0
        self.history: list[dict] = []
        self._resume()
        if not self.history or self.history[-1].get("settings") != asdict(settings):
            self.history.append({"from_step": self.step, "settings": asdict(settings)})

    # -- state --------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        """Muon for the matrices inside layers, AdamW for the rest; the tower in groups of its own."""
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.trainee.named_parameters():
            inner = (".layers." in name or "projector" in name) and parameter.ndim == 2
            groups.setdefault((inner, "vision_tower" in name), []).append(parameter)
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        inner_groups, other_groups = (
            [{"params": groups[inner, tower], "tower": tower} for tower in (False, True)]
            for inner in (True, False)
        )
        return [
            torch.optim.Muon(inner_groups, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(other_groups, lr=rate, weight_decay=0.0, betas=(0.9, 0.98)),
        ]

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        """Built once and kept with the run: token ids must not move under a half-trained model."""
        kept = self.folder / "tokenizer"
        if not kept.exists():
            start = self.start_from
            tokenizer = PreTrainedTokenizerFast.from_pretrained(start) if start else build_tokenizer()
            tokenizer.save_pretrained(kept)
        return PreTrainedTokenizerFast.from_pretrained(kept)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.checkpoint.exists():
            if self.start_from is not None:
                self._start_from(self.start_from)
            return
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        if state["seed"] != self.settings.seed:
            raise FoveateError(
                f"{self.checkpoint} was made with another seed",
                why=f"{state['seed']} there, {self.settings.seed} here",
                fix="Give the same seed, or another --out.",
            )
        if state["step"] > self.settings.steps:
            raise FoveateError(
                f"{self.checkpoint} is past the end of this run",
                why=f"it has done {state['step']} steps, {self.settings.steps} were asked for",
                fix="Ask for more --steps, or give another --out.",
            )
        self.trainee.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.pictures, self.history = state["step"], state["pictures"], state["history"]

    def _start_from(self, folder: Path) -> None:
        """Take the weights of an exported model; the training-only heads start anew."""
        weights = load_file(folder / "model.safetensors", device=str(self.device))
        report = self.trainee.llava.load_state_dict(weights, strict=False)
        if report.unexpected_keys or set(report.missing_keys) - {"lm_head.weight"}:
            raise FoveateError(
                f"{folder} is no fovea-nano",
                why=f"its weights differ in {len(report.unexpected_keys) + len(report.missing_keys)} names",
                fix="Give a folder that `foveate train nano` exported.",
            )
        self.history.append({"from_step": 0, "start_from": str(folder)})

    def save(self) -> None:
        state = {
            "step": self.step,
            "pictures": self.pictures,
            "history": self.history,
            "seed": self.settings.seed,
            "model": self.trainee.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    # -- training -----------------------------------------------------------------------------------------

    def run(self) -> Path:
        """Train to the last step and export. Returns the folder of the exported model."""
        see, read = self.trainee.see, self.trainee.read
        if self.settings.compile:
            self.trainee.see = torch.compile(see)  # type: ignore[method-assign]
            self.trainee.read = torch.compile(read)  # type: ignore[method-assign]
        started, last = time.monotonic(), self.step
        for batch in self._batches():
            row = self._train_step(batch)
            self.step += 1
            self.pictures += self.settings.batch_size
            if self.step % self.settings.log_every == 0:
                now = time.monotonic()
                row["seconds_per_step"] = (now - started) / (self.step - last)
                started, last = now, self.step
                self._log(row)
            final = self.step == self.settings.steps
            if self.step % self.settings.evaluate_every == 0 or final:
                self._log({"step": self.step, "validation": self.validate()})
            if self.step % self.settings.save_every == 0 or final:
                self.save()
        self.trainee.see, self.trainee.read = see, read  # type: ignore[method-assign]
        return self.export()

    def export(self) -> Path:
        target = self.folder / "model"
        export(self.trainee.llava, self.tokenizer, target)
        recipe = {"steps": self.step, "pictures": self.pictures, "history": self.history}
        (target / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        return target

    def _batches(self) -> Iterator[Batch]:
        data = NanoBatches(
            self.tokenizer,
            batch_size=self.settings.batch_size,
            start=self.pictures,
            count=self.settings.steps - self.step,
            mixture=self.settings.mixture,
        )
        # One worker draws pictures on another core while this one trains.
        yield from DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=6)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _train_step(self, batch: Batch) -> dict:
        tower_only = self.step < self.settings.tower_steps
        batch = batch.to(self.device)
        rate = self.settings.rate(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * (self.settings.tower_rate if group["tower"] and not tower_only else 1.0)
        with self._autocast():
            seen, visual = self.trainee.see(batch.pixels)
        dense, words = dense_loss(self.trainee, seen, batch), word_loss(self.trainee, visual, batch)
        row = {"step": self.step + 1, "rate": rate, "dense_loss": dense.item(), "word_loss": words.item()}
        loss = dense + words
        if not tower_only:
            with self._autocast():
                hidden = read_batch(self.trainee, visual, batch)
                # Over all places, trained or not: a new number of rows each step would make oneDNN build (and
                # keep) new kernels each step, which costs more than the rows.
                logits = self.trainee.llava.lm_head(hidden).flatten(0, 1)
            each = F.cross_entropy(
                logits.float(), batch.targets.flatten(), reduction="none", ignore_index=-100
            )
            answers = (each * batch.weights.flatten()).sum() / batch.weights.sum()
            looks = look_loss(self.trainee, hidden, visual, batch)
            loss = answers + self.settings.look_weight * looks + self.settings.dense_weight * loss
            row |= {"answer_loss": answers.item(), "look_loss": looks.item()}
        loss.backward()
        row["gradient_norm"] = torch.nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0).item()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return row

    # -- measuring ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Share of questions whose whole answer is the greedy one given its start, per family, and of patches."""
        packer = Packer(self.tokenizer)
        right: dict[str, list[bool]] = {}
        examples = list(validation_examples("validation", self.settings.validation_pictures))
        size = self.settings.batch_size
        for start in range(0, len(examples) // size * size, size):
            chunk = examples[start : start + size]
            batch = packer.pack(chunk).to(self.device)
            with self._autocast():
                seen, visual = self.trainee.see(batch.pixels)
                self._score_patches(seen, batch, right)
                if self.step <= self.settings.tower_steps:
                    continue
                logits = self.trainee.llava.lm_head(read_batch(self.trainee, visual, batch))
            hits = (logits.argmax(-1) == batch.targets) | (batch.targets < 0)
            for row, example in enumerate(chunk):
                for number, dialogue in enumerate(example.dialogues, start=1):
                    mine = batch.segments[row] == number
                    if mine.any() and len(dialogue) == 1:
                        right.setdefault(dialogue[0].family, []).append(bool(hits[row][mine].all()))
        return {name: sum(values) / len(values) for name, values in sorted(right.items())}

    def _score_patches(self, seen: Tensor, batch: Batch, right: dict[str, list[bool]]) -> None:
        for place, name in enumerate(CLASS_COUNTS):
            guess = self.trainee.dense_heads[name](seen[:, 1:].float()).argmax(-1).flatten()
            truth = batch.labels[:, place].flatten()
            there = truth > 0
            right.setdefault(f"patch {name}", []).extend((guess == truth)[there].tolist())

    def _log(self, row: dict) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self.report(row)
