"""What a head is taught: the target's states and its distributions, along its own guesses.

Owns the losses. EAGLE-2 (Li et al. 2024, arXiv 2406.16858) and SpecVLM (Huang et al. 2025, arXiv 2509.11815): smooth L1
of states plus 0.1 of the cross-entropy to the target's softmax. EAGLE-3 (Li et al. 2025, arXiv 2503.01840): the
cross-entropy alone, over several steps on the head's own states, step i weighted 0.8^i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.decode.heads.model import DraftHead
from foveate.train.draft.batch import Batch
from foveate.train.draft.settings import Objective

Project = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One batch's loss with its parts.

    Attributes:
        total: to go down.
        tokens: mean cross-entropy of first guesses to the target's distribution, in nats.
        states: mean smooth L1 of first guesses; 0 where it has no weight.
        right: share of first guesses whose likeliest token is the reply's next.
    """

    total: Tensor
    tokens: float
    states: float
    right: float


def noisy(features: Tensor, width: float) -> Tensor:
    """Features with uniform noise of that share of their root mean square."""
    if width == 0:
        return features
    size = features.square().mean().sqrt() * width
    return features + (torch.rand_like(features) - 0.5) * size


def distillation(head: DraftHead, batch: Batch, project: Project, objective: Objective) -> Loss:
    """The loss of a head on a batch.

    Args:
        project: the target's output head; states [..., D] to logits [..., V].
    """
    guessed = head(
        batch.embeds, noisy(batch.features, objective.feature_noise), batch.layouts, steps=objective.steps
    )
    total = batch.embeds.new_zeros(())
    weights, first = 0.0, (0.0, 0.0, 0.0)
    for step, states in enumerate(guessed):
        reached = batch.reached(step)
        if not reached.any():
            break
        mine, theirs = states[reached].float(), batch.hidden[reached]
        with torch.no_grad():
            # A head of a reduced vocabulary learns the target's choice among the tokens it has.
            wanted = project(theirs)
            wanted = (wanted if head.token_ids is None else wanted[..., head.token_ids]).softmax(dim=-1)
        logits = head.logits(mine, project)
        tokens = F.cross_entropy(logits, wanted)
        distance = F.smooth_l1_loss(mine, theirs) if objective.state_weight else tokens.new_zeros(())
        weight = objective.decay**step
        total = total + weight * (objective.state_weight * distance + objective.token_weight * tokens)
        weights += weight
        if step == 0:
            right = (chosen_tokens(head, logits) == batch.following[reached]).float().mean()
            first = (float(tokens.detach()), float(distance.detach()), float(right))
    return Loss(total=total / max(weights, 1e-9), tokens=first[0], states=first[1], right=first[2])


def chosen_tokens(head: DraftHead, logits: Tensor) -> Tensor:
    """[...] the likeliest tokens, as ids of the target."""
    best = logits.argmax(dim=-1)
    return best if head.token_ids is None else head.token_ids[best]
