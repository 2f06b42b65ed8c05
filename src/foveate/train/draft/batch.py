"""Lessons side by side, padded, as a head is trained on them.

Owns the padding and which guesses are looked at. The guess at token j is of the target's state there, and through the
output head of token j + 1; a draft can only begin at a token of the reply, and only states that the target computed
can be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foveate.decode.heads.config import HeadConfig
from foveate.decode.heads.layout import HeadLayout
from foveate.train.draft.teaching import Lesson


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B lessons, T tokens at most.

    Attributes:
        embeds: [B, T, D] float32.
        features: [B, T, F] what heads of this kind read of the target.
        hidden: [B, T, D] the target's last states.
        layouts: of each.
        following: [B, T] the token behind each; -1 where there is none.
        replied: [B, T] whether a token is the reply's, has a state and a token behind it.
    """

    embeds: Tensor
    features: Tensor
    hidden: Tensor
    layouts: tuple[HeadLayout, ...]
    following: Tensor
    replied: Tensor

    def reached(self, step: int) -> Tensor:
        """[B, T] where a guess after `step` guesses is looked at: its draft began at a token of the reply."""
        if step == 0:
            return self.replied
        earlier = torch.nn.functional.pad(self.replied[:, :-step], (step, 0))
        return self.replied & earlier


def collate(lessons: Sequence[Lesson], config: HeadConfig) -> Batch:
    """The lessons as a head of this configuration reads them, in tensors of their own."""

    def padded(rows: Sequence[Tensor]) -> Tensor:
        # What the engine made under inference mode takes no part in gradients: a copy does.
        return pad_sequence([one.float().clone() for one in rows], batch_first=True)

    features = [one.hidden for one in lessons]
    if config.taps:
        features = [torch.cat([one.taps[layer] for layer in config.taps], dim=-1) for one in lessons]
    hidden = padded([one.hidden for one in lessons])
    following = torch.full(hidden.shape[:2], -1, device=hidden.device)
    replied = torch.zeros(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    for row, one in enumerate(lessons):
        behind = torch.tensor(one.tokens[1:], device=hidden.device)[: one.layout.length]
        following[row, : len(behind)] = behind
        replied[row, one.layout.prompt : len(behind)] = True
    return Batch(
        embeds=padded([one.embeds for one in lessons]),
        features=padded(features),
        hidden=hidden,
        layouts=tuple(one.layout for one in lessons),
        following=following,
        replied=replied,
    )
