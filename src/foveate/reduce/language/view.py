"""What a method is shown of one image between two layers of the language model.

Owns the record between the run and the methods. Places index the tokens of the prompt that are left; ids count
within an image as it stands in the prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from foveate.reduce.language.attention import attention_rows, unrotated


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """n tokens of the prompt are left, m of them are this image's and can be dropped.

    Attributes:
        hidden: [n, D] what the layer at the cut is about to read.
        query: [H, n, d], key: [G, n, d], as attention multiplies them, of the layer the method looks at.
        scale: what their products are multiplied by.
        rotation: cosine and sine, [n, d'] each, that turned them.
        m_rope: whether positions have three parts.
        image: [m] places of the image's tokens, ascending.
        ids: [m] which of the image's tokens these are.
        text: [t] places of the text behind the image (the text before it where there is none behind). Text is never
            dropped, so entry i is the same token at every cut.
        prepared: what the method's `prepare` made of the image.
        normalise: the language model's last norm.
    """

    hidden: torch.Tensor
    query: torch.Tensor
    key: torch.Tensor
    scale: float
    rotation: tuple[torch.Tensor, torch.Tensor]
    m_rope: bool
    image: torch.Tensor
    ids: torch.Tensor
    text: torch.Tensor
    prepared: torch.Tensor | None
    normalise: Callable[[torch.Tensor], torch.Tensor]

    def attention(self, rows: torch.Tensor, *, rotary: bool = True) -> torch.Tensor:
        """[r, m] float32: the attention of the tokens at `rows` [r] to the image's, mean over heads.

        The softmax runs over all that a row sees, text too.
        """
        query, key = self.query, self.key
        if not rotary:
            query, key = unrotated(query, *self.rotation), unrotated(key, *self.rotation)
        return attention_rows(query, key, rows, self.scale)[:, self.image]

    def last_row(self, *, rotary: bool = True) -> torch.Tensor:
        """[m] float32: the attention of the prompt's last token to the image's."""
        last = torch.tensor([self.hidden.shape[0] - 1], device=self.hidden.device)
        return self.attention(last, rotary=rotary)[0]
