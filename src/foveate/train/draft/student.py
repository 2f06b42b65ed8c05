"""A head that learns: its optimiser, its steps, its state.

Owns one optimiser step and what a checkpoint of a head holds. Several students can learn from the same lessons, each by
settings of its own. Knows neither where lessons come from nor any file.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from foveate.decode.heads.config import HeadConfig
from foveate.decode.heads.model import DraftHead
from foveate.errors import FoveateError
from foveate.train.draft.accepted import Accepted, chain_accepted
from foveate.train.draft.batch import collate
from foveate.train.draft.objective import Project, distillation
from foveate.train.draft.settings import DraftTraining
from foveate.train.draft.teaching import Lesson

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


def output_head(model: VisionLanguageModel) -> Project:
    """The target's output head for states of any dtype, in float32; its weights take no gradient."""
    model.hf_model.requires_grad_(False)
    return lambda states: model.head(states.to(model.dtype)).float()


class Student:
    """A head with its optimiser. Several may learn from the same lessons."""

    def __init__(self, config: HeadConfig, settings: DraftTraining, project: Project, device: torch.device):
        torch.manual_seed(settings.seed)
        self.settings, self._project = settings, project
        self.head = DraftHead(config).to(device)
        self.optimizer = torch.optim.AdamW(
            self.head.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=settings.weight_decay,
        )
        self.step = self.tokens = 0

    def learn(self, lessons: Sequence[Lesson]) -> dict[str, Any]:
        """One optimiser step; a row for the log.

        Raises:
            FoveateError: no reply has a second token, or the gradient is not finite.
        """
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step)  # noise of a step, whenever it is made
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step)
        self.head.train()
        batch = collate(lessons, self.head.config)
        if not batch.replied.any():
            raise FoveateError(
                f"The {len(lessons)} replies of step {self.step} hold nothing to guess",
                why="each of them is one token long, which comes with its prompt",
                fix="Give prompts that the model answers at length.",
            )
        with warnings.catch_warnings(), torch.autocast(batch.embeds.device.type, dtype=torch.bfloat16):
            # RMS norms take bfloat16 rows with float32 weights here, in a kernel that is not fused.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            loss = distillation(self.head, batch, self._project, settings.objective)
        loss.total.backward()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self.head.parameters() if p.grad is not None]
        ).item()
        if not math.isfinite(norm):
            raise FoveateError(
                f"The gradient of step {self.step} is {norm}", fix="Lower --learning-rate and resume."
            )
        torch.nn.utils.clip_grad_value_(self.head.parameters(), settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens += int(batch.replied.sum())
        return {
            "step": self.step,
            "tokens": self.tokens,
            "loss": loss.total.item(),
            "token_loss": loss.tokens,
            "state_loss": loss.states,
            "right": loss.right,
            "gradient_norm": norm,
            "rate": settings.rate(self.step - 1),
        }

    def accepted(self, lessons: Sequence[Lesson]) -> list[Accepted]:
        """How much of each reply chains of this head would have guessed."""
        return chain_accepted(self.head, lessons, self._project, depth=self.settings.depth)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tokens = state["step"], state["tokens"]
