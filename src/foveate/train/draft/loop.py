"""Trains a draft head with its target in the loop: fresh prompts, the target's own replies, nothing stored.

One command, resumable at any moment: prompts and noise are functions of the step, and a checkpoint holds step, weights
and optimiser. A run over a stored set (`stored`), for comparison, sees the same few lessons again and again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from foveate.decode.heads.config import HeadConfig
from foveate.decode.heads.file import describe_target, load_head, save_head
from foveate.errors import FoveateError
from foveate.train.draft.accepted import Accepted
from foveate.train.draft.evaluation import evaluate_head
from foveate.train.draft.lessons import Lessons
from foveate.train.draft.prompts import PromptSource
from foveate.train.draft.settings import DraftTraining
from foveate.train.draft.student import Student, output_head
from foveate.train.draft.teaching import Lesson, Teacher

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


class DraftTrainer:
    """Owns one run in `folder`: checkpoint.pt, log.jsonl, and at the end the head in head/ with its recipe.

    Args:
        source: prompts to learn from.
        held_out, tested: prompts to validate on along the way, and to evaluate the finished head on; `tested` may be
            left out where there are no others.
        report: told every row of the log.

    Raises:
        FoveateError: the folder holds a run of other settings, prompts, head or target, or one that is longer.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        config: HeadConfig,
        settings: DraftTraining,
        folder: Path,
        *,
        source: PromptSource,
        held_out: PromptSource,
        tested: PromptSource | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.model, self.settings, self.folder = model, settings, folder
        self.report = report or (lambda row: None)
        self._held_out, self._validation = held_out, list[Lesson]()
        self._tested = tested or held_out
        # What may not change when a run goes on; the number of steps and the intervals may.
        free = {"steps", "log_every", "evaluate_every", "save_every", "validation_prompts"}
        self.identity = {
            "target": describe_target(model),
            "head": config.to_json(),
            "prompts": source.describe(),
            "training": {name: value for name, value in asdict(settings).items() if name not in free},
        }
        self.student = Student(config, settings, output_head(model), model.device)
        self.teacher = Teacher(
            model,
            tap_layers=config.taps,
            reply_tokens=settings.reply_tokens,
        )
        self.lessons = Lessons(self.teacher, source, settings)
        self._resume()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def step(self) -> int:
        """Steps done."""
        return self.student.step

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.model.device)
        theirs = json.loads(state["identity"])
        ours = json.loads(json.dumps(self.identity))
        for part, value in ours.items():
            if theirs.get(part) != value:
                raise FoveateError(
                    f"{self.checkpoint} is of a run with another {part}",
                    why=_difference(theirs.get(part), value),
                    fix="Give the same settings, or another --out.",
                )
        if state["student"]["step"] > self.settings.steps:
            raise FoveateError(
                f"{self.checkpoint} is past the end of this run",
                why=f"it has done {state['student']['step']} steps, {self.settings.steps} were asked for",
                fix="Ask for more --steps, or give another --out.",
            )
        self.student.restore(state["student"])

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        partial = self.checkpoint.with_suffix(".partial")
        torch.save({"identity": json.dumps(self.identity), "student": self.student.state()}, partial)
        partial.replace(self.checkpoint)

    def run(self) -> Path:
        """Trains to the last step. Returns the head's folder."""
        settings, student = self.settings, self.student
        if student.step == 0:
            self._log({"step": 0, "validation": self.validate()})
        began, last = time.monotonic(), student.step
        while student.step < settings.steps:
            row = student.learn(self.lessons.of_step(student.step))
            final = student.step == settings.steps
            if student.step % settings.log_every == 0 or final:
                now = time.monotonic()
                row["seconds_per_step"] = (now - began) / (student.step - last)
                began, last = now, student.step
                self._log(row)
            if student.step % settings.evaluate_every == 0 or final:
                self._log({"step": student.step, "validation": self.validate()})
            if student.step % settings.save_every == 0 or final:
                self.save()
        return self.export()

    def validate(self) -> dict[str, Any]:
        """Accepted length of chains over held-out prompts, in all and by kind, and by place in the draft."""
        if not self._validation:
            prompts = [self._held_out.prompt(place) for place in range(self.settings.validation_prompts)]
            self._validation = self.teacher.teach(prompts)
        counts = self.student.accepted(self._validation)
        kinds = sorted({one.kind for one in self._validation})
        everything = sum(counts, Accepted())
        return {
            "accepted": everything.length,
            "by_place": everything.shares,
            "by_kind": {
                kind: sum(
                    (c for c, one in zip(counts, self._validation, strict=True) if one.kind == kind),
                    Accepted(),
                ).length
                for kind in kinds
            },
        }

    def export(self) -> Path:
        """Writes head/: the head in float16, recipe.json, and what the engine counts with it in evaluation.json."""
        target = self.folder / "head"
        save_head(target, self.student.head, self.model)
        prompts = [self._tested.prompt(place) for place in range(self.settings.validation_prompts)]
        found = evaluate_head(
            self.model,
            load_head(target, self.model),
            prompts,
            reply_tokens=self.settings.reply_tokens,
        )
        found = {"prompts": self._tested.describe(), **found}
        (target / "evaluation.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        recipe = {"steps": self.step, "reply_tokens_seen": self.student.tokens, **self.identity}
        recipe["schedule"] = asdict(self.settings)
        (target / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        return target

    def _log(self, row: dict[str, Any]) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self.report(row)


def _difference(theirs: Any, ours: Any) -> str:
    """The first setting that differs, with both values."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted(theirs.keys() | ours.keys()):
            if theirs.get(name) != ours.get(name):
                return f"{name}: {_difference(theirs.get(name), ours.get(name))}"
    return f"{theirs!r} there, {ours!r} here"
