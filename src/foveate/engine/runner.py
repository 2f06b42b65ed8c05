"""One step on the device: encode what is missing, then run the packed batch.

Owns the packing: embeddings, positions, slots and feature rows of many sequences in one row of tokens. Knows no
scheduling and no sampling. The stages are separate calls, so that they can be placed apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from foveate.engine.attention import Backend, PagedBatch, Segment
from foveate.engine.encoder_cache import EncoderCache, own_copy
from foveate.engine.plan import Encode, StepPlan
from foveate.engine.positions import pack_positions
from foveate.engine.state import PagedKeyValueStore
from foveate.engine.taps import HiddenStateTaps
from foveate.models.attention import AttentionState
from foveate.models.records import MediaFeatures, Prompt

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


class Runner:
    """Runs step plans through the model's own transformers code."""

    def __init__(
        self,
        model: VisionLanguageModel,
        store: PagedKeyValueStore,
        encoder: EncoderCache,
        backend: Backend,
        taps: HiddenStateTaps,
    ) -> None:
        self._model, self._store, self._encoder = model, store, encoder
        self._backend, self._taps = backend, taps

    def encode(self, encodes: Sequence[Encode]) -> None:
        """Fills the encoder cache; images of equal size, whoever sent them, share a tower call."""
        if not encodes:
            return
        media = [one.sequence.request.prompt.media[one.media_index] for one in encodes]
        for one, features in zip(encodes, self._model.encode(media), strict=True):
            self._encoder.fill(one.key, own_copy(features))

    def forward(self, plan: StepPlan) -> torch.Tensor:
        """Hidden states [1, T, D] of the plan's tokens, in the order of its works."""
        model = self._model
        ids: list[int] = []
        written: list[int] = []  # places where the answer itself spells the image token
        features: list[MediaFeatures] = []
        positions: list[torch.Tensor] = []
        segments: list[Segment] = []
        for work in plan.works:
            layout, offset = work.sequence.layout, len(ids)
            ids += work.sequence.tokens(work.start, work.stop)
            first_written = offset + max(0, layout.length - work.start)
            written += [
                place for place in range(first_written, len(ids)) if ids[place] == model.image_token_id
            ]
            positions.append(layout.positions.slice(work.start, work.stop))
            for index, first, last in layout.feature_rows(work.start, work.stop):
                features.append(_rows(self._encoder.get(layout.media_keys[index]), first, last))
            segments.append(
                Segment(
                    offset=offset,
                    start=work.start,
                    stop=work.stop,
                    slots=self._store.slots(work.sequence.key, 0, work.stop).to(model.device),
                    rules=AttentionState(groups=layout.groups, window_cuts_groups=model.window_cuts_groups),
                )
            )
        packed = Prompt(token_ids=ids, media=[], spans=[], text="")
        for place in written:
            packed.token_ids[place] = 0
        embeds = model.merge(packed, features)
        if written:
            token = torch.tensor([model.image_token_id], device=model.device)
            embeds[0, written] = model.hf_model.get_input_embeddings()(token)
        with self._taps:
            return model.run_language_model(
                embeds,
                pack_positions(positions, model.device),
                PagedBatch(self._store.memory, segments, self._backend),
                **model.language_keywords(packed, features),
            )


def _rows(features: MediaFeatures, first: int, last: int) -> MediaFeatures:
    """Rows [first, last) of an image's features."""
    return replace(
        features,
        features=features.features[first:last],
        salience=None,
        deepstack=tuple(level[first:last] for level in features.deepstack),
    )
