"""The draft head itself: what it reads, its one decoder layer, and a plain way to run it over whole answers.

Row j of a head reads the embedding of token j and the target's state at token j - 1, and guesses the target's state
at token j, of which the target's output head makes token j + 1 (EAGLE-2: Li et al. 2024, arXiv 2406.16858; EAGLE-3:
arXiv 2503.01840). At visual tokens it reads the visual embedding alone (MSD: Lin et al. 2025, arXiv 2505.14260), or
what a compressor makes of a picture (SpecVLM: Huang et al. 2025, arXiv 2509.11815). Rows have contiguous positions
of the head's own, with 1-D rotary angles, whatever positions the target has.

Owns parameters and arithmetic; knows no engine, no tree and no file. The target's embeddings and output head are passed
in and are never part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from foveate.decode.heads.compress import Compressor
from foveate.decode.heads.config import HeadConfig
from foveate.decode.heads.layer import DraftLayer
from foveate.decode.heads.layout import HeadLayout, VisualRun
from foveate.decode.heads.unrolled import Unrolled

Project = Callable[
    [torch.Tensor], torch.Tensor
]  # states [..., D] to logits [..., V]: `VisionLanguageModel.head`


@dataclass(frozen=True, kw_only=True)
class HeadRows:
    """What the layer reads of one sequence, R rows.

    Attributes:
        inputs: [R, D].
        embeds: [R, D] embeddings of the rows' tokens; of pictures zeros.
        glances: [R, D] what ViSpec's adaptor tells each row of the picture before it; None for other heads.
        places: [R] the token each row stands for; -1 where it stands for several.
        ends: [R] the last token that a row was made of; never falls.
        is_text: [R].
    """

    inputs: torch.Tensor
    embeds: torch.Tensor
    glances: torch.Tensor | None
    places: torch.Tensor
    ends: torch.Tensor
    is_text: torch.Tensor


class DraftHead(nn.Module):
    """A head of random weights; see `HeadConfig` for its kinds and the module's docstring for its rows.

    Attributes:
        token_ids: [vocabulary] of a reduced vocabulary, the target's ids, ascending; None for all.
        parameter_count: of its own; the target's embeddings and output head are not among them.
    """

    token_ids: torch.Tensor | None

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size

        def norm() -> nn.Module:
            return nn.RMSNorm(width, eps=config.rms_norm_eps) if config.input_norm else nn.Identity()

        self.embed_norm, self.feature_norm, self.visual_norm = norm(), norm(), norm()
        self.read_taps = nn.Linear(len(config.taps) * width, width, bias=False) if config.taps else None
        self.read_glance = nn.Linear(2 * width, width, bias=False) if self._glances else None
        self.fuse = nn.Linear(2 * width, width, bias=False)
        self.layer = DraftLayer(config)
        # EAGLE-2's states are the target's own after its last norm; EAGLE-3's are of no model and need one of theirs.
        self.last_norm = nn.RMSNorm(width, eps=config.rms_norm_eps) if config.kind == "eagle3" else None
        self.compressor = None
        if config.compressor is not None:
            self.compressor = Compressor(
                config.compressor, width=width, heads=config.attention_heads, eps=config.rms_norm_eps
            )
        reduced = None if config.vocabulary is None else torch.arange(config.vocabulary)
        self.register_buffer("token_ids", reduced)
        self._turns = torch.empty(0, config.head_dim // 2, dtype=torch.complex64)
        self._initialise()
        # Counted now: weights that are packed later are no parameters any more.
        self.parameter_count = sum(parameter.numel() for parameter in self.parameters())

    @property
    def _glances(self) -> bool:
        return self.config.compressor is not None and self.config.compressor.mode == "vispec"

    def _initialise(self) -> None:
        """1 / sqrt(fan-in), the layer's two outputs at half of that; a glance begins as if it were not there."""
        for linear in (self.fuse, self.read_taps, *(one for one in self.layer.children())):
            if isinstance(linear, nn.Linear):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        with torch.no_grad():
            self.layer.out.weight.mul_(0.5)
            self.layer.down.weight.mul_(0.5)
            if self.read_glance is not None:
                width = self.config.hidden_size
                self.read_glance.weight.copy_(torch.eye(width, 2 * width))

    def set_vocabulary(self, token_ids: Sequence[int]) -> None:
        """Which tokens of the target a head of a reduced vocabulary can guess: `config.vocabulary` of them,
        ascending."""
        assert self.token_ids is not None and len(token_ids) == self.config.vocabulary, len(token_ids)
        chosen = torch.tensor(token_ids, device=self.token_ids.device)
        assert bool((chosen.diff() > 0).all()), "ascending, each once"
        self.token_ids.copy_(chosen)

    # -- parts -------------------------------------------------------------------------------------------

    @property
    def feature_size(self) -> int:
        """Width of what it reads of the target at a token: D, or the taps side by side."""
        return self.config.hidden_size * max(1, len(self.config.taps))

    def narrow(self, features: torch.Tensor) -> torch.Tensor:
        """[..., feature_size] as the target gave them, to [..., D] as rows read them."""
        return features if self.read_taps is None else self.read_taps(features)

    def join(
        self, embeds: torch.Tensor, features: torch.Tensor, glances: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Inputs [..., D] of text rows.

        Args:
            embeds: [..., D] of the rows' own tokens.
            features: [..., D] of the tokens before them: the target's, narrowed, or states of the head itself.
            glances: [..., D] what the adaptor says of the picture.
        """
        normed = self.feature_norm(self.told(features, glances))
        return self.fuse(torch.cat([self.embed_norm(embeds), normed], dim=-1))

    def told(self, features: torch.Tensor, glances: torch.Tensor | None) -> torch.Tensor:
        """[..., D] features with what the adaptor says of the picture, if there is one."""
        if self.read_glance is None or glances is None:
            return features
        return self.read_glance(torch.cat([features, glances], dim=-1))

    def turns(self, stop: int, device: torch.device) -> torch.Tensor:
        """[at least stop, d / 2] complex: the rotations of positions 0, 1, ...; neighbours in a head are one number."""
        if self._turns.shape[0] < stop or self._turns.device != device:
            size = self.config.head_dim // 2
            length = max(256, 2 ** (stop - 1).bit_length())
            with torch.inference_mode(False):  # decoding must not leave a tensor that training cannot use
                pace = self.config.rope_theta ** -(torch.arange(size, device=device).double() / size)
                angles = torch.arange(length, device=device)[:, None] * pace
                self._turns = torch.polar(torch.ones_like(angles), angles).to(torch.complex64)
        return self._turns

    def logits(self, states: torch.Tensor, project: Project) -> torch.Tensor:
        """[..., V] of the target's vocabulary, or of the reduced one: column i is token `token_ids[i]`."""
        logits = project(states if self.last_norm is None else self.last_norm(states))
        return logits if self.token_ids is None else logits[..., self.token_ids]

    # -- what a sequence looks like ----------------------------------------------------------------------

    def rows(
        self,
        embeds: torch.Tensor,
        features: torch.Tensor,
        layout: HeadLayout,
        glance: torch.Tensor | None = None,
    ) -> HeadRows:
        """The rows of one sequence of T tokens; the first token has one only if it is part of a picture.

        Args:
            embeds: [at least T, D] what entered the target: embeddings, or features of pictures.
            features: [at least T - 1, feature_size] the target's; the last token's is not read.
            glance: [D] what the adaptor said of a picture before the first token; zeros where there was none.
        """
        length = layout.length
        narrowed = self.narrow(features[: length - 1])
        is_text = torch.ones(length, dtype=torch.bool)
        for run in layout.runs:
            is_text[run.start : run.stop] = False
        text_at = is_text.nonzero()[:, 0]
        pictures = [self._picture(run, embeds, narrowed, is_text, layout) for run in layout.runs]
        text_at = text_at[text_at > 0].to(embeds.device)
        words = embeds[text_at]
        glances = self._glances_of(text_at, layout, [glance, *(told for _, _, told in pictures)], words)
        joined = self.join(words, narrowed[text_at - 1], glances)
        # In order: a picture stands where its first token stood.
        order, parts = [text_at.double()], [joined]
        for run, (tokens, places, _) in zip(layout.runs, pictures, strict=True):
            order.append(run.start + torch.arange(len(places), device=embeds.device) / max(len(places), 1))
            parts.append(tokens)
        rank = torch.cat(order).argsort(stable=True)
        rest = sum(len(part) for part in parts[1:])

        def ordered(text: torch.Tensor) -> torch.Tensor:
            return torch.cat([text, text.new_zeros(rest, *text.shape[1:])])[rank]

        places = torch.cat([text_at, *(places.to(embeds.device) for _, places, _ in pictures)])[rank]
        last = [
            torch.full_like(places, run.stop - 1)
            for run, (_, places, _) in zip(layout.runs, pictures, strict=True)
        ]
        ends = torch.cat([text_at, *(one.to(embeds.device) for one in last)])[rank]
        return HeadRows(
            inputs=torch.cat(parts)[rank],
            embeds=ordered(words),
            glances=None if glances is None else ordered(glances),
            places=places,
            ends=torch.where(places >= 0, places, ends),
            is_text=ordered(torch.ones_like(text_at, dtype=torch.bool)),
        )

    def _picture(
        self,
        run: VisualRun,
        embeds: torch.Tensor,
        narrowed: torch.Tensor,
        is_text: torch.Tensor,
        layout: HeadLayout,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """(rows [m, D], the tokens they stand for [m], what later rows are told)."""
        if self.config.visual == "text":
            return embeds[:0], torch.empty(0, dtype=torch.long), None
        tokens = self.visual_norm(embeds[run.start : run.stop])
        if self.compressor is None:
            return tokens, torch.arange(run.start, run.stop), None
        asked = is_text[run.stop : layout.prompt].nonzero()[:, 0].to(embeds.device) + run.stop
        asked = asked[asked < narrowed.shape[0]]
        question = narrowed[asked].mean(dim=0) if len(asked) else narrowed.new_zeros(narrowed.shape[-1])
        kept, glance = self.compressor(tokens, run.grid, question)
        return kept, torch.full((kept.shape[0],), -1), glance

    def _glances_of(
        self,
        text_at: torch.Tensor,
        layout: HeadLayout,
        glances: Sequence[torch.Tensor | None],
        like: torch.Tensor,
    ) -> torch.Tensor | None:
        """[rows, D]: of the last picture before each text row, `glances[i + 1]` being of picture i."""
        if not self._glances:
            return None
        nothing = like.new_zeros(like.shape[-1])
        table = torch.stack([nothing if one is None else one for one in glances])
        starts = torch.tensor([run.start for run in layout.runs], device=text_at.device, dtype=torch.long)
        return table[(text_at[:, None] > starts).sum(dim=1)]

    # -- whole sequences at once -------------------------------------------------------------------------

    def forward(
        self,
        embeds: torch.Tensor,
        features: torch.Tensor,
        layouts: Sequence[HeadLayout],
        *,
        steps: int = 1,
    ) -> list[torch.Tensor]:
        """Guessed states of every token of padded sequences, for training and as the reference of decoding.

        Args:
            embeds: [B, T, D] what entered the target.
            features: [B, T, feature_size] what it made of that: `Observation.hidden`, or `config.taps` side by side.
            layouts: lengths and pictures of the B sequences; what lies behind a sequence's length is not read.
            steps: how often the head goes on from its own states.

        Returns:
            `steps` tensors [B, T, D]. At token j the first guesses the target's state there from its state at j - 1;
            the one after k more from the target's state at j - 1 - k and the head's own since, with the keys that a
            draft of that depth sees. Zeros where a token has no row of its own.
        """
        sequences = [self.rows(*one) for one in zip(embeds, features, layouts, strict=True)]
        places = pad_sequence([rows.places for rows in sequences], batch_first=True, padding_value=-1)
        is_text = pad_sequence([rows.is_text for rows in sequences], batch_first=True)
        words = pad_sequence([rows.embeds for rows in sequences], batch_first=True)
        glances = None
        if self._glances:
            told = [rows.glances for rows in sequences if rows.glances is not None]
            glances = pad_sequence(told, batch_first=True)
        first = pad_sequence([rows.inputs for rows in sequences], batch_first=True)
        turns = self.turns(first.shape[1], first.device)[None, None, : first.shape[1]]
        unrolled = Unrolled()
        states = self.layer(first, turns, unrolled)
        results = [_at_their_tokens(states, places, embeds.shape[1])]
        for _ in range(steps - 1):
            before = F.pad(states[:, :-1], (0, 0, 1, 0))
            x = torch.where(is_text[..., None], self.join(words, before, glances), first)
            states = self.layer(x, turns, unrolled)
            results.append(_at_their_tokens(states, places, embeds.shape[1]))
        return results


def _at_their_tokens(states: torch.Tensor, places: torch.Tensor, length: int) -> torch.Tensor:
    """[B, R, D] rows to [B, length, D] tokens."""
    spread = states.new_zeros(states.shape[0], length + 1, states.shape[2])
    at = places.where(places >= 0, length)[..., None].expand_as(states)
    return spread.scatter(1, at, states)[:, :length]
