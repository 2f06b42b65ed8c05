"""One step on the device: encode what is missing, then run the packed batch.

Owns the packing: embeddings, positions, slots and feature rows of many sequences in one row of tokens. Knows no
scheduling and no sampling. The stages are separate calls, so that they can be placed apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from foveate.engine.attention import Backend, PagedBatch, Segment
from foveate.engine.encoder_cache import EncoderCache, own_copy
from foveate.engine.plan import Encode, StepPlan
from foveate.engine.positions import draft_positions, pack_positions
from foveate.engine.state import PagedKeyValueStore
from foveate.engine.taps import HiddenStateTaps
from foveate.models.attention import AttentionState
from foveate.models.records import MediaFeatures, Prompt

if TYPE_CHECKING:
    from foveate.engine.reduction import Reduction
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.base import Reducer
    from foveate.reduce.budget import Plan
    from foveate.reduce.keep_map import KeepMap

REMEMBERED_MAPS = 4096  # some 5 KB each


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
        self.keep_maps: OrderedDict[str, KeepMap] = OrderedDict()  # by media key, the last ones chosen
        self.inputs: tuple[torch.Tensor, torch.Tensor] | None = (
            None  # of the last forward: embeddings, positions
        )

    def encode(self, encodes: Sequence[Encode]) -> None:
        """Fills the encoder cache; images of equal size, whoever sent them, share a tower call."""
        if not encodes:
            return
        whole = [one for one in encodes if _plan_of(one) is None]
        media = [one.sequence.request.prompt.media[one.media_index] for one in whole]
        for one, features in zip(whole, self._model.encode(media), strict=True):
            self._encoder.fill(one.key, own_copy(features))
        # Images that share a reducer share its tower calls and its choice.
        groups: dict[object, list[Encode]] = {}
        for one in encodes:
            if _plan_of(one) is not None:
                reducer = _reduction_of(one).reducer
                groups.setdefault((type(reducer), reducer.config), []).append(one)
        for members in groups.values():
            self._encode_reduced(_reduction_of(members[0]).reducer, members)

    def _encode_reduced(self, reducer: Reducer, encodes: Sequence[Encode]) -> None:
        media = [one.sequence.request.prompt.media[one.media_index] for one in encodes]
        features = self._model.encode(media, salience=reducer.request())
        plans = [_reduction_of(one).plans[one.media_index] for one in encodes]
        questions = [_reduction_of(one).question for one in encodes]
        keep_maps = reducer.select_batch(features, plans, questions=questions)
        for one, item, keep in zip(encodes, features, keep_maps, strict=True):
            self._encoder.fill(one.key, own_copy(reducer.apply(item, keep)), keep)
            self.remember(one.key, keep)

    def remember(self, key: str, keep_map: KeepMap) -> None:
        """Keeps a keep-map for whoever asks what was dropped, longer than the features it is of."""
        self.keep_maps[key] = keep_map
        self.keep_maps.move_to_end(key)
        while len(self.keep_maps) > REMEMBERED_MAPS:
            self.keep_maps.popitem(last=False)

    def forward(self, plan: StepPlan) -> torch.Tensor:
        """Hidden states [1, T, D] of the plan's tokens, in the order of its works."""
        model = self._model
        ids: list[int] = []
        written: list[int] = []  # places where the answer itself spells a visual token
        features: list[MediaFeatures] = []
        positions: list[torch.Tensor] = []
        segments: list[Segment] = []
        for work in plan.works:
            layout, offset = work.sequence.layout, len(ids)
            ids += work.sequence.tokens(work.start, work.stop)
            if work.draft is not None:
                ids += work.draft.tokens
            first_written = offset + max(0, layout.length - work.start)
            written += [
                place for place in range(first_written, len(ids)) if ids[place] in model.visual_token_ids
            ]
            for index, first, last in layout.feature_rows(work.start, work.stop):
                key = layout.media_keys[index]
                features.append(_rows(self._encoder.get(key), first, last))
                keep_map = self._encoder.keep_map(key)
                if layout.reduction is not None and keep_map is not None:
                    layout.reduction.place(index, keep_map)
            positions.append(layout.positions.slice(work.start, work.stop))
            stop, tree = work.stop, None
            if work.draft is not None:
                stop += len(work.draft)
                tree = None if work.draft.is_chain else work.draft.visible
                positions.append(draft_positions(layout.positions, work.stop, work.draft))
            segments.append(
                Segment(
                    offset=offset,
                    start=work.start,
                    stop=stop,
                    slots=self._store.slots(work.sequence.key, 0, stop).to(model.device),
                    rules=AttentionState(groups=layout.groups, window_cuts_groups=model.window_cuts_groups),
                    tree=tree,
                )
            )
        packed = Prompt(token_ids=ids, media=[], spans=[], text="")
        spelled = [ids[place] for place in written]
        for place in written:
            packed.token_ids[place] = 0
        embeds = model.merge(packed, features)
        if written:
            tokens = torch.tensor(spelled, device=model.device)
            embeds[0, written] = model.hf_model.get_input_embeddings()(tokens)
        self.inputs = (embeds, pack_positions(positions, model.device))
        with self._taps:
            return model.run_language_model(
                *self.inputs,
                PagedBatch(self._store.memory, segments, self._backend),
                **model.language_keywords(packed, features),
            )


def _reduction_of(encode: Encode) -> Reduction:
    reduction = encode.sequence.layout.reduction
    assert reduction is not None
    return reduction


def _plan_of(encode: Encode) -> Plan | None:
    """How the image is to be cut; None if it is not."""
    reduction = encode.sequence.layout.reduction
    if reduction is None or reduction.plans[encode.media_index].is_full:
        return None
    return reduction.plans[encode.media_index]


def _rows(features: MediaFeatures, first: int, last: int) -> MediaFeatures:
    """Rows [first, last) of an image's features."""
    return replace(
        features,
        features=features.features[first:last],
        salience=None,
        deepstack=tuple(level[first:last] for level in features.deepstack),
    )
