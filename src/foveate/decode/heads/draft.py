"""A head as the engine's draft: it reads what the target made of decided tokens and grows trees or chains of guesses.

Owns the order of things in a step: rows of newly decided tokens are read with the target's states, for all answers in
one flat batch; then the tree grows a layer a call, each node on the head's own state of its parent; then the nodes'
keys are forgotten (EAGLE-2, Li et al. 2024, arXiv 2406.16858). Rows of accepted guesses are read anew with the states
the target has for them. Knows no engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from foveate.decode.drafts.base import Draft, DraftRequest, Observation
from foveate.decode.heads.cache import FlatAttention, Part, RowCache, causal, extended, layer_part
from foveate.decode.heads.layout import layout_of
from foveate.decode.heads.reading import Reading, joined
from foveate.decode.heads.remembered import Remembered
from foveate.decode.heads.words import Words
from foveate.decode.tree import DraftTree, TreeGrower, TreeShape

if TYPE_CHECKING:
    from foveate.decode.heads.model import DraftHead, Project
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import Prompt

SHAPE = TreeShape(width=4, depth=8, nodes=8)
# Shares of a pass of the target: what trying one node costs, and what guessing another layer does. A guess that is
# less likely than it costs does not pay. On a CPU, of a target of 6 layers; of larger ones a layer costs less.
NODE, LAYER = 0.05, 0.2
REMEMBERED = 1 << 26  # bytes
UNKNOWN = -1  # a token of an answer that was found in the prefix cache
PIECE = 256  # rows of an identity that an output head is asked for at a time


class HeadDraft(Draft):
    """Trees of a draft head for one target.

    Args:
        head: of this target (`load_head`), in its dtype.
        shape: EAGLE-2's K, and D and N where nobody asks for others. Where no more nodes than layers are asked for, a
            chain is grown; that is the default, for on a CPU a guess beside the likeliest costs about as much as one
            behind it, and is right less often.
    """

    name = "head"
    observes = True

    def __init__(
        self,
        head: DraftHead,
        target: VisionLanguageModel,
        *,
        shape: TreeShape = SHAPE,
        least_node: float = NODE,
        least_layer: float = LAYER,
        remembered: int = REMEMBERED,
    ) -> None:
        self._head, self._target, self._shape = head, target, shape
        self._least_layer = least_layer
        self._least_value = math.log(least_node) if least_node > 0 else -math.inf
        self._words = Words(head, target.hf_model.get_input_embeddings(), target.device)
        self._visual = target.visual_token_ids
        self._project: Project = target.head
        self._token_ids: torch.Tensor | None = None
        if head.token_ids is not None:
            self._token_ids = head.token_ids
            self._project = _rows_of_output(target, head.token_ids)
        self._readings: dict[int, Reading] = {}
        self._remembered = Remembered(remembered)
        self.tap_layers = head.config.taps
        self.depth, self.nodes = shape.depth, max(shape.nodes, shape.depth)

    # -- what the target made of decided tokens ------------------------------------------------------------

    def observe(self, observations: Sequence[Observation]) -> None:
        with torch.inference_mode():
            for one in observations:
                reading = self._readings.get(one.key)
                if reading is None or not reading.goes_on_at(one.start):
                    reading = self._readings[one.key] = self._begin(one.prompt, one.start)
                reading.add(one, self._features(one))

    def _begin(self, prompt: Prompt, start: int) -> Reading:
        found = self._remembered.begin(prompt, start, self._readings.values())
        if found is not None:
            return found
        config, target = self._head.config, self._target
        cache = RowCache(config.key_value_heads, config.head_dim, dtype=target.dtype, device=target.device)
        tokens = [*prompt.token_ids[:start], *[UNKNOWN] * (start - len(prompt.token_ids))]
        return Reading(prompt=prompt, cache=cache, first=start, seen=start, tokens=tokens)

    def _features(self, one: Observation) -> torch.Tensor:
        if not self.tap_layers:
            return one.hidden
        return torch.cat([one.taps[layer] for layer in self.tap_layers], dim=-1)

    def clone(self, source: int, target: int) -> None:
        reading = self._readings[source]
        with torch.inference_mode():
            if not reading.read:
                self._read_first(reading, [])  # once, for both
            self._readings[target] = reading.copy()

    def forget(self, key: int) -> None:
        reading = self._readings.pop(key, None)
        if reading is not None:
            self._remembered.keep(key, reading)

    # -- guesses -------------------------------------------------------------------------------------------

    def propose(self, requests: Sequence[DraftRequest]) -> list[DraftTree]:
        if not requests:
            return []
        with torch.inference_mode():
            states = self._catch_up(requests)
            caches = [self._readings[request.key].cache for request in requests]
            glances = self._told(requests)
            shapes = [self._shape_for(request) for request in requests]
            if all(shape.width == 1 for shape in shapes):
                return self._chains(shapes, caches, states, glances)
            return self._trees(shapes, caches, states, glances)

    def _shape_for(self, request: DraftRequest) -> TreeShape:
        if request.nodes <= request.depth:
            return TreeShape(width=1, depth=request.nodes, nodes=request.nodes)
        return TreeShape(width=self._shape.width, depth=request.depth, nodes=request.nodes)

    def _told(self, requests: Sequence[DraftRequest]) -> torch.Tensor | None:
        """[B, D] of ViSpec's adaptor; None for other heads."""
        glances = [self._readings[request.key].glance for request in requests]
        known = [one for one in glances if one is not None]
        return torch.stack(known) if known else None

    def _catch_up(self, requests: Sequence[DraftRequest]) -> torch.Tensor:
        """States [B, D] of the last decided token of each, whose rows and all before are read now."""
        states: dict[int, torch.Tensor] = {}
        later: list[tuple[DraftRequest, Reading]] = []
        for request in requests:
            reading = self._readings[request.key]
            assert reading.seen == request.length - 1, (reading.seen, request.length)
            if reading.read:
                later.append((request, reading))
            else:
                words = request.read(reading.lookup_from, request.length)
                states[request.key] = self._read_first(reading, words)[-1]
        if later:
            counts = [request.length - reading.read for request, reading in later]
            words = [one for request, reading in later for one in request.read(reading.read, request.length)]
            features = self._head.narrow(joined([joined(reading.features) for _, reading in later]))
            glances = self._told([request for request, _ in later])
            if glances is not None:
                glances = glances.repeat_interleave(torch.tensor(counts, device=glances.device), dim=0)
            inputs = self._words.inputs(words, features, glances)
            device = inputs.device
            rows = self._run(
                inputs,
                [
                    Part(reading.cache, reading.cache.rows, count, causal(reading.cache.rows, count, device))
                    for (_, reading), count in zip(later, counts, strict=True)
                ],
            )
            last = -1
            for (request, reading), count in zip(later, counts, strict=True):
                reading.settle(request.length, range(reading.read, request.length))
                last += count
                states[request.key] = rows[last]
        return torch.stack([states[request.key] for request in requests])

    def _read_first(self, reading: Reading, words: Sequence[int]) -> torch.Tensor:
        """States [R, D] of all rows of what was observed, and of the decided tokens `words` behind its embeddings."""
        length = reading.lookup_from + len(words)
        embeds = joined([*reading.embeds, self._words.embeds(words)] if words else reading.embeds)
        whole = layout_of(reading.prompt, self._visual, length=length)
        layout = whole.behind(reading.first)
        rows = self._head.rows(embeds, joined(reading.features), layout, reading.glance)
        ends = (rows.ends + reading.first).tolist()
        start, count, states = reading.cache.rows, len(ends), rows.inputs
        if count:
            mask = causal(start, count, embeds.device)
            states = self._run(rows.inputs, [Part(reading.cache, start, count, mask)])
        if rows.glances is not None:
            reading.glance = rows.glances[-1] if count else torch.zeros_like(embeds[0])
        reading.settle(length, ends)
        return states

    def _run(
        self, inputs: torch.Tensor, parts: Sequence[Part], at: Sequence[int] | None = None
    ) -> torch.Tensor:
        """States [N, D] of rows [N, D]; positions follow each other in every part, or are all `at` of the part."""
        stop = max(part.start + part.count for part in parts)
        turns = self._head.turns(stop, inputs.device)
        if at is None:
            turned = [turns[part.start : part.start + part.count] for part in parts]
        else:
            turned = [turns[one].expand(part.count, -1) for one, part in zip(at, parts, strict=True)]
        return self._head.layer(inputs[None], joined(turned)[None, None], FlatAttention(parts))[0]

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        norm = self._head.last_norm
        return self._project(states if norm is None else norm(states))

    def _named(self, columns: torch.Tensor) -> torch.Tensor:
        """The target's ids of columns of logits."""
        return columns if self._token_ids is None else self._token_ids[columns]

    # -- chains --------------------------------------------------------------------------------------------

    def _chains(
        self,
        shapes: Sequence[TreeShape],
        caches: Sequence[RowCache],
        states: torch.Tensor,
        glances: torch.Tensor | None,
    ) -> list[DraftTree]:
        """The likeliest token after the likeliest token; answers with shorter chains are cut at the end."""
        depth = max(shape.depth for shape in shapes)
        chosen: list[torch.Tensor] = []
        values: list[torch.Tensor] = []  # of the path down to each node
        while True:
            best = self._logits(states).float().log_softmax(dim=-1).max(dim=-1)
            chosen.append(self._named(best.indices))
            values.append(best.values + values[-1] if values else best.values)
            if len(chosen) == depth or math.exp(float(values[-1].max())) < self._least_layer:
                break
            inputs = self._words.inputs(chosen[-1], states, glances)
            states = self._run(inputs, [Part(cache, cache.rows + len(chosen) - 1, 1) for cache in caches])
        tokens, likely = torch.stack(chosen, dim=1).tolist(), torch.stack(values, dim=1).tolist()
        return [
            DraftTree.chain(own[: self._kept(value[: shape.depth])])
            for own, value, shape in zip(tokens, likely, shapes, strict=True)
        ]

    def _kept(self, values: Sequence[float]) -> int:
        """How many nodes of a chain stay: as many as if it had grown alone."""
        for count, value in enumerate(values):
            if value < self._least_value or (count and math.exp(values[count - 1]) < self._least_layer):
                return count
        return len(values)

    # -- trees ---------------------------------------------------------------------------------------------

    def _trees(
        self,
        shapes: Sequence[TreeShape],
        caches: Sequence[RowCache],
        states: torch.Tensor,
        glances: torch.Tensor | None,
    ) -> list[DraftTree]:
        """Layer by layer. Nodes are written behind the rows that count and see those, and their own path."""
        growers = [TreeGrower(shape) for shape in shapes]
        growing = list(range(len(growers)))  # those whose frontier is not empty, in the order of `states`
        paths = [torch.zeros(1, 0, dtype=torch.bool, device=states.device) for _ in growers]
        width, depth = max(shape.width for shape in shapes), 0
        while True:
            ahead = self._logits(states).float().log_softmax(dim=-1)
            best = ahead.topk(min(width, ahead.shape[1]), dim=-1)
            tokens, values = self._named(best.indices).tolist(), best.values.tolist()
            words: list[int] = []
            above: list[int] = []  # rows of `states` that the next layer stands on
            parts, owners, begin, still = [], [], 0, []
            for index in growing:
                grower, before = growers[index], growers[index].frontier
                rows = slice(begin, begin + len(before))
                grower.add(tokens[rows], values[rows])
                if grower.frontier and grower.hope >= self._least_layer:
                    parents = [before.index(grower.parents[node]) for node in grower.frontier]
                    words += [grower.tokens[node] for node in grower.frontier]
                    above += [begin + parent for parent in parents]
                    paths[index] = extended(paths[index], parents)
                    parts.append(layer_part(caches[index], paths[index]))
                    owners += [index] * len(parents)
                    still.append(index)
                begin = rows.stop
            if not still:
                return [grower.tree(self._least_value) for grower in growers]
            growing = still
            told = None if glances is None else glances[owners]
            inputs = self._words.inputs(words, states[above], told)
            states = self._run(inputs, parts, at=[caches[index].rows + depth for index in growing])
            depth += 1

    def describe(self) -> str:
        config = self._head.config
        pictures = {"full": "whole", "text": "not at all"}.get(config.visual)
        if pictures is None:
            assert config.compressor is not None
            pictures = f"by {config.compressor.text}"
        size = self._head.parameter_count / 1e6
        return f"{config.kind} head of {size:.1f} M parameters that reads pictures {pictures}"


def _rows_of_output(target: VisionLanguageModel, token_ids: torch.Tensor) -> nn.Module:
    """A linear layer with the rows of the target's output head that these tokens have.

    They are what the head makes of an identity, for it may be packed or quantised. A cap on logits, which changes the
    order of none, is left out.
    """
    width = int(target.text_config.hidden_size)
    identity = torch.eye(width, dtype=target.dtype, device=target.device)
    with torch.inference_mode():
        columns = [target.hf_model.lm_head(piece)[:, token_ids] for piece in identity.split(PIECE)]
    linear = nn.Linear(width, len(token_ids), bias=False, device="meta")
    linear.weight = nn.Parameter(torch.cat(columns).T.contiguous(), requires_grad=False)
    return linear
