"""How a draft head is trained, checked when it is said.

Owns ranges, the weights of the losses and the learning rate's course. Knows no torch and no prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from foveate.errors import FoveateError


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights of the losses.

    Attributes:
        state_weight: of the smooth L1 distance of states, a mean over their width; 0 for eagle3.
        token_weight: of the cross-entropy in nats.
        steps: how far a draft goes on from its own states in training.
        decay: weight of each step against the one before.
        feature_noise: width of the uniform noise on the target's states, as a share of their root mean square; a head
            that reads its own states later meets states that are a little off.

    Raises:
        FoveateError: a value outside its range.
    """

    state_weight: float = 1.0
    token_weight: float = 0.1
    steps: int = 1
    decay: float = 0.8
    feature_noise: float = 0.2

    def __post_init__(self) -> None:
        weights = (self.state_weight, self.token_weight, self.decay, self.feature_noise)
        if min(weights) < 0 or self.state_weight + self.token_weight == 0 or not 1 <= self.steps <= 16:
            raise FoveateError(
                f"The objective of a draft head is {self}",
                why="weights and noise must be 0 or more, one of the two weights above 0, steps 1 to 16",
            )

    @classmethod
    def of_kind(cls, kind: str) -> Objective:
        """What the papers of a kind of head use; EAGLE-3 unrolls 7 steps there, and 4 reach as deep as trees here."""
        if kind == "eagle3":
            return cls(state_weight=0.0, token_weight=1.0, steps=4, feature_noise=0.0)
        return cls()


@dataclass(frozen=True, kw_only=True)
class DraftTraining:
    """Everything that decides the result beside the prompts and the head's configuration.

    Attributes:
        steps: optimiser steps in all.
        batch_size: replies per step.
        round_size: replies that the target is asked for together, whole batches of them.
        reuse: how often the lessons of a round are gone through before the next; making them costs several times what
            learning from them does.
        stored: learn from the first so many prompts only, kept in memory; None is online.
        learning_rate: peak of AdamW's.
        clip: largest value of any gradient.
        decay_share: last part of the run, over which the rate falls linearly to zero.
        reply_tokens: longest reply.
        sampled: share of replies drawn at temperature 1; the rest are greedy.
        depth: of the chains that validation counts.
        validation_prompts: held out; greedy replies.

    Raises:
        FoveateError: a value outside its range.
    """

    steps: int = 1000
    batch_size: int = 16
    round_size: int = 256
    reuse: int = 1
    stored: int | None = None
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    warmup: int = 20
    clip: float = 0.5
    decay_share: float = 0.3
    reply_tokens: int = 96
    sampled: float = 0.25
    objective: Objective = field(default_factory=Objective)
    depth: int = 5
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 100
    save_every: int = 100
    validation_prompts: int = 96

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch_size, self.reuse, self.depth, self.validation_prompts)
        if min(*counts, self.log_every, self.evaluate_every, self.save_every) < 1:
            raise FoveateError("Steps, batch size, reuse, depth and intervals must be 1 or more")
        if self.reply_tokens < 2 or not 0 <= self.sampled <= 1:
            raise FoveateError(
                f"Replies of {self.reply_tokens} tokens, {self.sampled:g} of them sampled",
                why="a reply needs 2 tokens or more, and the share lies between 0 and 1",
            )
        if self.round_size % self.batch_size:
            raise FoveateError(
                f"{self.round_size} replies a round are no whole number of batches of {self.batch_size}",
                fix=f"Ask for a multiple of {self.batch_size}.",
            )
        if self.stored is not None and self.stored % self.round_size:
            raise FoveateError(
                f"{self.stored} stored replies are not made {self.round_size} at a time",
                fix=f"Ask for a multiple of {self.round_size}.",
            )

    def rate(self, step: int) -> float:
        """Learning rate at a step, from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        left = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        return self.learning_rate * warm * min(1.0, left)
