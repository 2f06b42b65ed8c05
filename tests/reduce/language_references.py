"""Methods inside the language model again: plain transformers with full attention maps, and plain loops.

Shares no code with `foveate.reduce`. `choose` of a method takes what it sees of one image as NumPy arrays: map [H,
n, n] (of the layer looked at), keys [G, n, d] as attention multiplies them, hidden [n, D], image and text (lists of
places), ids (which of the image's tokens), count (of tokens the image came with), raters (places in text), salience
[N], k. It returns {place: output [D]}.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from references import cosine, descending

View = dict[str, Any]


def mean_row(view: View, row: int) -> dict[int, float]:
    """Attention of one token to the image's, mean over heads."""
    heads = view["map"]
    return {place: sum(one[row][place] for one in heads) / len(heads) for place in view["image"]}


def as_they_are(view: View, places: list[int]) -> dict[int, np.ndarray]:
    return {place: view["hidden"][place] for place in places}


def by_last_token(view: View) -> dict[int, np.ndarray]:
    scores = mean_row(view, len(view["hidden"]) - 1)
    return as_they_are(view, descending(view["image"], scores)[: view["k"]])


def dart(view: View) -> dict[int, np.ndarray]:
    norm = {place: np.abs(view["keys"][:, place]).sum() for place in [*view["image"], *view["text"]]}
    visual = descending(view["image"], norm)[: min(4, view["k"])]
    pivots = visual + descending(view["text"], norm)[:4]
    taken = list(visual)
    left = view["k"] - len(visual)
    for index, pivot in enumerate(pivots):
        share = left // len(pivots) + (1 if index < left % len(pivots) else 0)
        unlike = {
            place: -cosine(view["normed"][pivot], view["normed"][place])
            for place in view["image"]
            if place not in taken
        }
        taken += descending(list(unlike), unlike)[:share]
    return as_they_are(view, taken)


def mustdrop(view: View) -> dict[int, np.ndarray]:
    rows = [mean_row(view, row) for row in view["text"]]
    sums = {place: sum(row[place] for row in rows) for place in view["image"]}
    total = sum(sums.values())
    score = {
        place: max(sums[place] / (0.001 * total), max(row[place] for row in rows) / 0.001)
        for place in view["image"]
    }
    by_salience = descending(list(range(view["count"])), view["salience"])
    protected = by_salience[: int(0.08 * view["count"])]
    place_of = dict(zip(view["ids"], view["image"], strict=True))
    first = descending([place_of[i] for i in view["ids"] if i in protected], score)
    rest = descending([place for place in view["image"] if place not in first], score)
    return as_they_are(view, (first + rest)[: view["k"]])


def find_raters(image: np.ndarray, text: np.ndarray) -> list[int]:
    """Which of the text's tokens are like the image above the average."""
    relevance = np.zeros(len(text))
    for one in image:
        products = np.array([one @ word for word in text])
        weights = np.exp(products - products.max())
        relevance += weights / weights.sum() / len(image)
    above = [index for index, value in enumerate(relevance) if value > relevance.mean()]
    return above or list(range(len(text)))


def sparsevlm(view: View) -> dict[int, np.ndarray]:
    rows = [mean_row(view, view["text"][rater]) for rater in view["raters"]]
    score = {place: sum(row[place] for row in rows) / len(rows) for place in view["image"]}
    order, k = descending(view["image"], score), view["k"]

    def recycled(survivors: int) -> tuple[int, int]:
        pruned = len(order) - survivors
        pool = min(pruned, math.floor(0.3 * pruned + 1e-9) + 1)
        return pool, pool // 10 + 1

    fitting = [count for count in range(1, k) if count + recycled(count)[1] == k]
    if not fitting:
        return as_they_are(view, order[:k])
    stay = fitting[-1]
    pool = order[stay : stay + recycled(stay)[0]]
    result = as_they_are(view, order[:stay])
    for centre, members in density_peaks(view["hidden"], pool, k - stay).items():
        result[centre] = np.mean([view["hidden"][member] for member in members], axis=0)
    return result


def density_peaks(hidden: np.ndarray, pool: list[int], count: int) -> dict[int, list[int]]:
    """Centre -> members, of the tokens at the places of `pool`."""
    width = hidden.shape[1]

    def apart(one: int, other: int) -> float:
        return float(np.linalg.norm(hidden[one] - hidden[other]) / math.sqrt(width))

    density = {}
    for one in pool:
        near = sorted(apart(one, other) for other in pool if other != one)[:5]
        density[one] = math.exp(-sum(value**2 for value in near) / len(near)) if near else 1.0
    ranked = descending(pool, density)
    furthest = max(apart(one, other) for one in pool for other in pool)
    separation = {ranked[0]: furthest}
    for index, one in enumerate(ranked[1:], start=1):
        separation[one] = min(apart(one, other) for other in ranked[:index])
    product = {one: density[one] * separation[one] for one in pool}
    centres = descending(pool, product)[:count]
    clusters: dict[int, list[int]] = {centre: [] for centre in centres}
    for one in pool:
        nearest = one if one in centres else min(centres, key=lambda centre: apart(one, centre))
        clusters[nearest].append(one)
    return clusters


REFERENCES: dict[str, Callable[[View], dict[int, np.ndarray]]] = {
    "fastv": by_last_token,
    "pyramiddrop": by_last_token,
    "sparsevlm": sparsevlm,
    "dart": dart,
    "mustdrop": mustdrop,
    "vscan_stage2": by_last_token,
}
LOOKS_AT_ITS_OWN_LAYER = ("pyramiddrop", "vscan_stage2")


class SlowRun:
    """One prompt and its answer on plain transformers (eager attention), tokens dropped as `cuts` say.

    Args:
        theirs: the checkpoint as transformers loads it.
        cuts: layer -> image -> tokens that stay.
        images: for each, the places of its tokens in the prompt, and which of them are separators.
        repack: whether gaps in positions close up.
        levels: deepstack features [N, D] of all images, one a layer.
    """

    def __init__(
        self,
        theirs: Any,
        name: str,
        *,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        cuts: dict[int, dict[int, int]],
        images: list[tuple[list[int], list[int]]],
        text: list[list[int]],
        salience: list[Any],
        repack: bool,
        levels: list[torch.Tensor],
    ) -> None:
        core = theirs.model
        self.core = core.language_model if hasattr(core, "language_model") else core.text_model
        self.head = theirs.lm_head
        self.name, self.cuts, self.images, self.text = name, cuts, images, text
        self.repack, self.levels, self.salience = repack, levels, salience
        self.embeds, self.positions = embeds, positions
        self.owner = {place: index for index, (own, _) in enumerate(images) for place in own}
        self.tokens = list(range(embeds.shape[1]))
        self.cache = transformers.DynamicCache()
        self.kept: list[dict[int, list[int]]] = []  # by cut: image -> prompt indices
        self.tokens_at: list[list[int]] = []
        vectors = embeds[0].double().numpy()
        self.raters = [
            find_raters(vectors[own], vectors[words]) for (own, _), words in zip(images, text, strict=True)
        ]

    def full_map(
        self, layer: Any, hidden: torch.Tensor, positions: torch.Tensor, *, rotary: bool = True
    ) -> np.ndarray:
        """[H, n, n] of a layer on its input, whatever happened before."""
        cosine, sine = self.core.rotary_emb(hidden, positions)
        if not rotary:
            cosine, sine = torch.ones_like(cosine), torch.zeros_like(sine)
        _, weights = layer.self_attn(
            hidden_states=layer.input_layernorm(hidden),
            attention_mask=self.mask(hidden.shape[1]),
            position_embeddings=(cosine, sine),
        )
        return weights[0].double().numpy()

    @staticmethod
    def mask(count: int) -> torch.Tensor:
        return torch.full((count, count), float("-inf")).triu(1)[None, None]

    @torch.inference_mode()
    def prefill(self) -> torch.Tensor:
        """[T', V] logits of the tokens that reach the last layer."""
        hidden, positions = self.embeds, self.positions
        previous = None
        for index, layer in enumerate(self.core.layers):
            if 0 < index <= len(self.levels):
                visual = sorted(self.owner)
                hidden = hidden.clone()
                for row, token in enumerate(self.tokens):
                    if token in self.owner:
                        hidden[0, row] += self.levels[index - 1][visual.index(token)]
            if index in self.cuts:
                looked = previous
                if self.name in LOOKS_AT_ITS_OWN_LAYER:
                    m_rope = positions.ndim == 3
                    rotary = not (self.name == "vscan_stage2" and m_rope)
                    looked = self.full_map(layer, hidden, positions, rotary=rotary)
                hidden, positions = self.cut(index, looked, hidden, positions)
            self.tokens_at.append(list(self.tokens))
            previous = self.full_map(layer, hidden, positions)
            hidden = layer(
                hidden,
                attention_mask=self.mask(hidden.shape[1]),
                position_embeddings=self.core.rotary_emb(hidden, positions),
                past_key_values=self.cache,
            )
        if self.name == "mustdrop":
            for index, tokens in enumerate(self.tokens_at):
                rows = [row for row, token in enumerate(tokens) if token in self.tokens]
                stored = self.cache.layers[index]
                stored.keys, stored.values = stored.keys[:, :, rows], stored.values[:, :, rows]
        return self.head(self.core.norm(hidden))[0]

    def cut(
        self, layer: int, looked: Any, hidden: torch.Tensor, positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, chosen = hidden.clone(), {}
        vectors = hidden[0].double().numpy()
        normed = self.core.norm(hidden)[0].double().numpy()
        gone: set[int] = set()
        for index, kept in self.cuts[layer].items():
            own, separators = self.images[index]
            places = [row for row, token in enumerate(self.tokens) if token in own]
            if len(places) == kept:
                chosen[index] = [self.tokens[row] for row in places]
                continue
            places = [row for row in places if self.tokens[row] not in separators]
            view = {
                "map": looked,
                "keys": self.cache.layers[layer - 1].keys[0].double().numpy(),
                "hidden": vectors,
                "normed": normed,
                "image": places,
                "text": [self.tokens.index(token) for token in self.text[index]],
                "ids": [own.index(self.tokens[row]) for row in places],
                "count": len(own),
                "raters": self.raters[index],
                "salience": self.salience[index],
                "k": kept,
            }
            result = REFERENCES[self.name](view) if kept < len(places) else as_they_are(view, places)
            for place, output in result.items():
                hidden[0, place] = torch.from_numpy(output).to(hidden)
            chosen[index] = [self.tokens[row] for row in sorted(result)]
            gone |= {self.tokens[row] for row in range(len(self.tokens)) if self.tokens[row] in own}
            gone -= set(chosen[index])
        self.kept.append(chosen)
        rows = [row for row, token in enumerate(self.tokens) if token not in gone]
        self.tokens = [self.tokens[row] for row in rows]
        hidden = hidden[:, rows]
        if self.repack:
            first = int(self.positions.min())
            return hidden, torch.arange(first, first + len(rows))[None]
        return hidden, positions[..., rows]

    @torch.inference_mode()
    def answer(self, embedding: Any, first: int, following: int, count: int) -> list[int]:
        """`count` greedy tokens, the first of which the prefill gave."""
        tokens = [first]
        for step in range(count - 1):
            hidden = embedding(torch.tensor([[tokens[-1]]]))
            for index, layer in enumerate(self.core.layers):
                shift = self.embeds.shape[1] - len(self.tokens_at[index]) if self.repack else 0
                position = torch.full((*self.positions.shape[:-1], 1), following + step - shift)
                hidden = layer(
                    hidden,
                    attention_mask=None,
                    position_embeddings=self.core.rotary_emb(hidden, position),
                    past_key_values=self.cache,
                )
            tokens.append(int(self.head(self.core.norm(hidden))[0, -1].argmax()))
        return tokens
