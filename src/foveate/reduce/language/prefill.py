"""The pass over a prompt with visual tokens dropped between layers.

Owns which tokens are left at each layer, their positions, and the report. transformers' layers run as they are:
before a cut the hidden states and position embeddings are shortened, and every later layer, and its part of the
key-value cache, has those tokens alone. Text tokens are never dropped. One sequence: the reference path. Knows no
method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from foveate.models.attention import AttentionState, KeyValueCache
from foveate.reduce.keep_map import KeepMap, Merge
from foveate.reduce.language.listening import Ear, Heard, hooked
from foveate.reduce.language.records import Inside, InsideImage, LayerReport
from foveate.reduce.language.view import View

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel


class Prefill:
    """The pass over the prompt. `shifts`: by layer, how many positions were closed up before it."""

    def __init__(
        self,
        model: VisionLanguageModel,
        inside: Inside,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        state: AttentionState,
        keywords: Mapping[str, Any],
    ) -> None:
        self.model, self.inside, self.state = model, inside, state
        self.embeds, self.positions = embeds, positions
        # transformers adds deepstack features behind layers by a mask over the whole prompt: here by what is left.
        self.keywords = dict(keywords)
        self.levels = self.keywords.pop("deepstack_visual_embeds", None) or ()
        self.keywords.pop("visual_pos_masks", None)
        count, device = embeds.shape[1], embeds.device
        self.present = torch.arange(count, device=device)  # prompt indices of the tokens that are left
        self.owner = torch.full((count,), -1, device=device)  # by prompt index: its image, -1 for text
        self.id = torch.zeros(
            count, dtype=torch.long, device=device
        )  # by prompt index: place within its image
        for index, image in enumerate(inside.images):
            self.owner[image.places] = index
            self.id[image.places] = torch.arange(len(image.places), device=device)
        self.visual = (self.owner >= 0).nonzero()[:, 0]
        self.counts: dict[int, dict[int, int]] = {}  # layer -> image -> tokens that stay
        for index, image in enumerate(inside.images):
            for cut in image.cuts:
                self.counts.setdefault(cut.layer, {})[index] = cut.kept
        before = frozenset(layer - 1 for layer in self.counts) if inside.reducer.looks == "before" else None
        self.ear = Ear(state, before or frozenset())
        self.prepared = [self._prepare(image) for image in inside.images]
        self.rotation: tuple[torch.Tensor, torch.Tensor] | None = None
        self.shifts: list[int] = []
        self.present_at: list[torch.Tensor] = []  # by layer
        self.maps: list[list[KeepMap]] = [[] for _ in inside.images]

    def _prepare(self, image: InsideImage) -> torch.Tensor | None:
        if not image.cuts:
            return None
        embeds = self.embeds[0]
        return self.inside.reducer.prepare(embeds[image.places], embeds[image.text], image.salience)

    def run(self) -> torch.Tensor:
        """Hidden states after the last norm of the tokens that reach it."""
        with hooked(self.model, self.ear, self._before):
            hidden = self.model.run_language_model(self.embeds, self.positions, self.ear, **self.keywords)
        assert len(self.levels) < len(self.present_at), "deepstack features behind the last layer"
        if self.inside.reducer.trims_cache:
            self._trim()
        return hidden

    def _before(self, layer: int, module: Any, arguments: Any, keywords: Any) -> Any:
        """The hook before each layer."""
        hidden = arguments[0]
        if self.rotation is None:
            self.rotation = keywords["position_embeddings"]
        if 0 < layer <= len(self.levels):
            hidden = self._with_level(hidden, self.levels[layer - 1])
        if layer in self.counts:
            hidden = self._cut(layer, module, hidden, keywords)
        self.present_at.append(self.present)
        self.shifts.append(self._closed if self.inside.mode == "repack" else 0)
        return (hidden, *arguments[1:]), {**keywords, "position_embeddings": self.rotation}

    @property
    def _closed(self) -> int:
        return self.embeds.shape[1] - len(self.present)

    def _with_level(self, hidden: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Deepstack features [N, D] of all images added to those of their tokens that are left."""
        left = torch.isin(self.visual, self.present)
        rows = (self.owner[self.present] >= 0).nonzero()[:, 0]
        hidden = hidden.clone()
        hidden[0, rows] = hidden[0, rows] + level[left].to(hidden)
        return hidden

    def _cut(
        self, layer: int, module: Any, hidden: torch.Tensor, keywords: Mapping[str, Any]
    ) -> torch.Tensor:
        """Hidden states of the tokens that stay, merged ones mixed; moves everything that goes by token."""
        heard = self._look(module, hidden, keywords)
        assert heard is not None and heard.key.shape[1] == hidden.shape[1], "heard another layer"
        stays = torch.ones(hidden.shape[1], dtype=torch.bool, device=hidden.device)
        mixed = hidden.clone()
        for index, kept in self.counts[layer].items():
            rows = (self.owner[self.present] == index).nonzero()[:, 0]
            if kept == len(rows):
                self.maps[index].append(self._map(index, layer, rows, None, None))
                continue
            chosen, scores, merge = self._choose(index, rows, kept, hidden, heard)
            stays[rows] = False
            stays[chosen] = True
            if merge is not None:
                parts = merge.weights[:, None] * hidden[0, merge.sources].float()
                mixture = torch.zeros_like(mixed[0], dtype=torch.float32).index_add_(0, merge.into, parts)
                targets = merge.into.unique()
                mixed[0, targets] = mixture[targets].to(mixed.dtype)
            self.maps[index].append(self._map(index, layer, chosen, scores, merge))
        self._drop(stays, hidden)
        return mixed[:, stays]

    def _look(self, module: Any, hidden: torch.Tensor, keywords: Mapping[str, Any]) -> Heard | None:
        """Queries and keys that the method scores with."""
        if self.inside.reducer.looks == "before":
            return self.ear.heard
        probe = Ear(None)
        given = {**keywords, "attention_state": probe, "position_embeddings": self.rotation}
        module.self_attn(hidden_states=module.input_layernorm(hidden), **given)
        return probe.heard

    def _choose(
        self, index: int, rows: torch.Tensor, kept: int, hidden: torch.Tensor, heard: Heard
    ) -> tuple[torch.Tensor, torch.Tensor | None, Merge | None]:
        """Of one image with tokens at `rows`: (ascending rows that stay, scores [N] in its grid, merge in rows)."""
        image = self.inside.images[index]
        rows = rows[image.droppable[self.id[self.present[rows]]]]
        if kept == len(rows):
            return rows, None, None
        assert self.rotation is not None
        cosine, sine = self.rotation
        text = torch.searchsorted(self.present, image.text)
        view = View(
            hidden=hidden[0],
            query=heard.query,
            key=heard.key,
            scale=heard.scale,
            rotation=(cosine[0], sine[0]),
            m_rope=self.positions.ndim == 3,
            image=rows,
            ids=self.id[self.present[rows]],
            text=text,
            prepared=self.prepared[index],
            normalise=self.model.language_model.norm,
        )
        choice = self.inside.reducer.choose_inside(view, kept)
        chosen = rows[choice.kept[0].sort().values]
        assert len(chosen) == kept, f"{len(chosen)} tokens kept where {kept} were planned"
        assert bool((chosen.diff() > 0).all()), "a token was chosen twice"
        scores = None
        if choice.scores is not None:
            scores = torch.zeros(image.grid.tokens, device=hidden.device)
            scores[image.ids[view.ids]] = choice.scores[0].float()
        merge = choice.merge
        if merge is not None:
            merge = Merge(
                into=rows[merge.into[0]], sources=rows[merge.sources[0]], weights=merge.weights[0].float()
            )
        return chosen, scores, merge

    def _map(
        self,
        index: int,
        layer: int,
        rows: torch.Tensor,
        scores: torch.Tensor | None,
        merge: Merge | None,
    ) -> KeepMap:
        """The record of one cut."""
        image = self.inside.images[index]

        def ids(places: torch.Tensor) -> torch.Tensor:
            return image.ids[self.id[self.present[places]]]

        if merge is not None:
            merge = replace(merge, into=ids(merge.into), sources=ids(merge.sources))
        return KeepMap(
            grid=image.grid,
            kept=ids(rows),
            asked=image.asked,
            reason=image.reason,
            method=image.method,
            stage=f"layer {layer} of the language model",
            scores=scores,
            merge=merge,
        )

    def _drop(self, stays: torch.Tensor, hidden: torch.Tensor) -> None:
        """Moves present tokens, positions and their embeddings to those that stay."""
        assert self.rotation is not None
        rows = stays.nonzero()[:, 0]
        self.present = self.present[rows]
        if self.inside.mode == "keep":
            cosine, sine = (part.index_select(-2, rows) for part in self.rotation)
            self.rotation = (cosine, sine)
            return
        gone_before = (~stays).cumsum(0)
        self.positions = self.positions[:, rows] - gone_before[rows]
        self.rotation = self.model.language_model.rotary_emb(hidden, self.positions)

    def _trim(self) -> None:
        """Every layer's cache without the tokens that did not reach the last layer."""
        store = self.state.store
        if not isinstance(store, KeyValueCache):
            return  # one forward over the prompt keeps nothing
        for layer, present in enumerate(self.present_at):
            store.select(layer, torch.isin(present, self.present).nonzero()[:, 0])

    def report(self) -> LayerReport:
        """Counts by image and layer, and the keep-maps."""
        images = range(len(self.inside.images))

        def count(present: torch.Tensor) -> torch.Tensor:
            return torch.stack([(self.owner[present] == image).sum() for image in images]).cpu()

        read = torch.stack([count(present) for present in self.present_at], dim=1).tolist()
        cached = [[row[-1]] * len(row) for row in read] if self.inside.reducer.trims_cache else read
        return LayerReport(
            read=tuple(map(tuple, read)),
            cached=tuple(map(tuple, cached)),
            keep_maps=tuple(
                tuple(maps) or (self._untouched(image),)
                for maps, image in zip(self.maps, self.inside.images, strict=True)
            ),
        )

    def _untouched(self, image: InsideImage) -> KeepMap:
        """The record of an image that no layer drops anything of."""
        return KeepMap(
            grid=image.grid, kept=image.ids, asked=image.asked, reason=image.reason, method=image.method
        )
