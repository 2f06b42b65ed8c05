"""Guesses of a small model of the same vocabulary, one token after the other.

Owns a plain cache of its own per answer: what was decided is run once, guesses are forgotten after each proposal.
Pictures are encoded by the draft's own tower where it reads them as the target does (same placeholders, same grid);
else the draft reads the text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from foveate.decode.drafts.base import Draft, DraftError, DraftRequest
from foveate.decode.tree import DraftTree
from foveate.models.attention import AttentionState, KeyValueCache
from foveate.models.records import Prompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


@dataclass(kw_only=True)
class _Past:
    """One answer as the draft has read it.

    Attributes:
        state: carries the cache through the layers.
        read: decided tokens that it has run, those left out of its prompt included.
        length: tokens in the cache.
        following: position of the next token.
        shape: of positions, before the dimension of tokens: (1,), or (3, 1) under M-RoPE.
    """

    cache: KeyValueCache
    state: AttentionState
    read: int
    length: int
    following: int
    shape: tuple[int, ...]


class ModelDraft(Draft):
    """The likeliest tokens of another model, as a chain.

    Raises:
        DraftError: the two do not spell text with the same ids.
    """

    name = "model"

    def __init__(self, model: VisionLanguageModel, target: VisionLanguageModel, *, depth: int = 4) -> None:
        ours, theirs = model.tokenizer.get_vocab(), target.tokenizer.get_vocab()
        if ours != theirs:
            differing = sum(theirs.get(word) != number for word, number in ours.items())
            raise DraftError(
                f"{model.ref} cannot draft for {target.ref}",
                why=f"they must share a vocabulary, and {differing:,} of {len(ours):,} tokens differ"
                if differing
                else f"the vocabularies have {len(ours):,} and {len(theirs):,} tokens",
                fix="Choose a smaller model of the same family.",
            )
        self._model, self._target = model, target
        self._size = int(target.text_config.vocab_size)
        self._pasts: dict[int, _Past] = {}
        self.depth = self.nodes = depth

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        with torch.inference_mode():
            return [DraftTree.chain(self._guess(request)) for request in requests]

    def _guess(self, request: DraftRequest) -> list[int]:
        depth = min(request.depth, request.nodes)
        past = self._pasts.get(request.key)
        if past is None:
            past = self._pasts[request.key] = self._begin(request.prompt)
        if past.length + request.length - past.read + depth > self._model.context_length:
            return []
        hidden = self._run(past, request.read(past.read, request.length))
        past.read, settled, following = request.length, past.length, past.following
        drafts: list[int] = []
        while True:
            drafts.append(int(self._model.head(hidden[:, -1:])[0, 0, : self._size].argmax()))
            if len(drafts) == depth:
                break
            hidden = self._run(past, drafts[-1:])
        past.cache.truncate(settled)
        past.length, past.following = settled, following
        return drafts

    def _begin(self, prompt: Prompt) -> _Past:
        """Runs the prompt."""
        model, seen = self._model, prompt
        if prompt.media and not self._reads_pictures_alike(prompt):
            kept = [token for token in prompt.token_ids if token not in self._target.visual_token_ids]
            seen = Prompt(token_ids=kept, media=[], spans=[], text=prompt.text)
        features = model.encode(seen.media)
        cache, positions = KeyValueCache(), model.positions(seen)
        state = model.attention_state(seen, cache)
        model.run_language_model(
            model.merge(seen, features), positions, state, **model.language_keywords(seen, features)
        )
        return _Past(
            cache=cache,
            state=state,
            read=len(prompt.token_ids),
            length=len(seen.token_ids),
            following=int(positions.max()) + 1,
            shape=tuple(positions.shape[:-1]),
        )

    def _reads_pictures_alike(self, prompt: Prompt) -> bool:
        model, target = self._model, self._target
        if model.family != target.family or model.visual_token_ids != target.visual_token_ids:
            return False
        placeholders = sum(token in target.visual_token_ids for token in prompt.token_ids)
        if placeholders != sum(item.grid.tokens for item in prompt.media):
            return False  # some were dropped: which, only the target knows
        if model.image_processor.to_dict() != target.image_processor.to_dict():
            return False
        if model.video_settings != target.video_settings:
            return False
        stills = sum(not item.grid.is_video for item in prompt.media)
        # Models that lay a still of a video's size out alike do so with its frames: nothing else decides.
        return all(
            model.visual_grid(item.width, item.height, images_in_prompt=stills)
            == (
                target.visual_grid(item.width, item.height, images_in_prompt=stills)
                if item.grid.is_video
                else item.grid
            )
            for item in prompt.media
        )

    def _run(self, past: _Past, tokens: Sequence[int]) -> torch.Tensor:
        """Hidden states [1, n, D] of text that follows."""
        model = self._model
        ids = torch.tensor(
            [list(tokens)], device=model.device
        )  # a written placeholder is text, as for the target
        embeds = model.hf_model.get_input_embeddings()(ids)
        steps = torch.arange(past.following, past.following + len(tokens), device=model.device)
        hidden = model.run_language_model(embeds, steps.expand(*past.shape, -1), past.state)
        past.following += len(tokens)
        past.length += len(tokens)
        return hidden

    def forget(self, key: int) -> None:
        self._pasts.pop(key, None)

    def describe(self) -> str:
        return f"{self._model.ref} drafts up to {self.depth} tokens"
