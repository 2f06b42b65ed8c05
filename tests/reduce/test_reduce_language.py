"""Methods inside the language model: choices equal slow references, budgets are met, text is never dropped."""

from __future__ import annotations

import importlib
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from language_references import REFERENCES, find_raters
from made import image as made_image
from made import raster

from foveate.errors import ReductionError
from foveate.models.attention import KeyValueCache
from foveate.reduce import get_reducer, list_reducers, reducer
from foveate.reduce import registry as registry_module
from foveate.reduce.language.attention import attention_rows, unrotated
from foveate.reduce.language.base import LanguageReducer
from foveate.reduce.language.rows import LANGUAGE_METHODS
from foveate.reduce.language.schedule import cut_layers, schedule
from foveate.reduce.language.sparsevlm import clusters, pool_size, survivors
from foveate.reduce.language.view import View
from foveate.reduce.registry import METHODS, methods_for, reducer_class
from foveate.reduce.tokens import Choice

NAMES = [info.name for info in LANGUAGE_METHODS]
HEADS, GROUPS, WIDTH, HIDDEN = 4, 2, 6, 10


def full_maps(query: torch.Tensor, key: torch.Tensor, scale: float) -> np.ndarray:
    """[H, n, n] one entry at a time."""
    maps = np.zeros((query.shape[0], query.shape[1], query.shape[1]))
    for head, own in enumerate(query.double().numpy()):
        keys = key[head * key.shape[0] // query.shape[0]].double().numpy()
        for row, asking in enumerate(own):
            logits = np.array([scale * asking @ seen for seen in keys[: row + 1]])
            weights = np.exp(logits - logits.max())
            maps[head, row, : row + 1] = weights / weights.sum()
    return maps


def view_of(before: int, m: int, behind: int, seed: int, *, ties: bool) -> tuple[View, dict[str, Any]]:
    """(what a method sees, the same for its reference): m tokens of an image of m + 3 between text."""
    generator = torch.Generator().manual_seed(seed)
    n = before + m + behind
    key = torch.randn(GROUPS, n, WIDTH, generator=generator)
    hidden = torch.randn(n, HIDDEN, generator=generator)
    if ties:  # tokens that are exactly alike
        key = key[:, torch.randint(3, (n,), generator=generator)]
        hidden = hidden[torch.randint(4, (n,), generator=generator)]
    query = torch.randn(HEADS, n, WIDTH, generator=generator)
    ids = torch.randperm(m + 3, generator=generator)[:m].sort().values
    salience = torch.rand(m + 3, generator=generator)
    image, text = torch.arange(before, before + m), torch.arange(before + m, n)
    embeds = torch.randn(m + 3, HIDDEN, generator=generator), torch.randn(behind, HIDDEN, generator=generator)
    maps = full_maps(query, key, 0.5)
    shared = {
        "map": maps,
        "keys": key.double().numpy(),
        "hidden": hidden.double().numpy(),
        "normed": hidden.double().numpy() * 2,
        "image": image.tolist(),
        "text": text.tolist(),
        "ids": ids.tolist(),
        "count": m + 3,
        "raters": find_raters(embeds[0].double().numpy(), embeds[1].double().numpy()),
        "salience": salience.tolist(),
        "embeds": embeds,
    }
    view = View(
        hidden=hidden,
        query=query,
        key=key,
        scale=0.5,
        rotation=(torch.ones(n, WIDTH), torch.zeros(n, WIDTH)),
        m_rope=False,
        image=image,
        ids=ids,
        text=text,
        prepared=None,
        normalise=lambda states: states * 2,
    )
    return view, shared


@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("name", NAMES)
def test_choice_equals_the_reference(name: str, ties: bool) -> None:
    """Exactly k, ascending once sorted, unique, and the same tokens and mixtures as plain loops give."""
    method = get_reducer(name)
    for seed, (before, m, behind) in enumerate([(2, 2, 1), (1, 7, 3), (3, 13, 2), (2, 40, 5), (1, 61, 7)]):
        view, shared = view_of(before, m, behind, seed, ties=ties)
        prepared = method.prepare(*shared["embeds"], torch.tensor(shared["salience"]))
        view = replace(view, prepared=prepared)
        for k in sorted({k for k in (1, 2, 3, 5, 9, m // 3, m // 2 + 1, m - 1) if 1 <= k < m}):
            choice = method.choose_inside(view, k)
            expected = REFERENCES[name]({**shared, "k": k})
            kept = view.image[choice.kept[0]]
            assert kept.sort().values.tolist() == sorted(expected), (m, k)
            assert len(expected) == k
            outputs = view.hidden.clone()
            if choice.merge is not None:
                into, sources = view.image[choice.merge.into[0]], view.image[choice.merge.sources[0]]
                outputs[into] = 0
                outputs.index_add_(0, into, choice.merge.weights[0][:, None] * view.hidden[sources])
            for place, output in expected.items():
                np.testing.assert_allclose(outputs[place].numpy(), output, rtol=1e-4, atol=1e-5)


def test_every_method_has_a_reference_and_an_entry_that_is_what_its_class_says() -> None:
    assert {*NAMES} == {*REFERENCES}
    for info in LANGUAGE_METHODS:
        cls = reducer_class(info.name)
        assert (cls.name, cls.needs, cls.stage) == (info.name, info.needs, info.stage)
        assert info.needs.question and info.needs.language
        assert info.arxiv in importlib.import_module(cls.__module__).__doc__
        assert info in list_reducers()
        assert info.instead[0] in [one.name for one in METHODS]
        near = methods_for("cls", True, near=info.name)
        assert near[0] == info.instead[0]
        assert not {*near} & {*NAMES}


def test_rows_are_rows_of_the_full_map() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(heads, 9, 6, generator=generator) for heads in (4, 2))
    rows = torch.tensor([0, 3, 8])
    expected = full_maps(query, key, 0.3).mean(axis=0)[rows.numpy()]
    np.testing.assert_allclose(attention_rows(query, key, rows, 0.3).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_rotation_is_undone() -> None:
    """Also where only a part of each head is turned, and where long contexts scale the turned part."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 9, 8, generator=generator)
    angles = torch.randn(9, 3, generator=generator)
    turned = torch.cat([angles, angles], dim=-1)
    cosine, sine = 1.3 * turned.cos(), 1.3 * turned.sin()
    first, second = vectors[..., :3], vectors[..., 3:6]
    rotated = vectors.clone()
    rotated[..., :3] = first * cosine[:, :3] - second * sine[:, :3]
    rotated[..., 3:6] = second * cosine[:, :3] + first * sine[:, :3]
    assert not torch.allclose(rotated, vectors, atol=0.1)
    torch.testing.assert_close(unrotated(rotated, cosine, sine), vectors)


# -- layers and counts --------------------------------------------------------------------------------------


def cuts_of(name: str, total: int, k: int, layers: int = 32, **settings: Any) -> list[tuple[int, int]]:
    cuts = get_reducer(name, **settings).cuts_for(total, total, k, layers)
    return [(cut.layer, cut.kept) for cut in cuts]


def test_counts_are_the_papers() -> None:
    """FastV's 192 of 576 are 166 behind two layers; PyramidDrop's halves are a mean of 270; VScan's 96 and 32 of 64."""
    assert cuts_of("fastv", 576, 192) == [(2, 166)]
    assert cuts_of("pyramiddrop", 576, 270) == [(8, 288), (16, 144), (24, 72)]
    assert cuts_of("vscan_stage2", 96, 64) == [(16, 32)]
    assert [layer for layer, _ in cuts_of("sparsevlm", 576, 192)] == [3, 7, 16]
    assert [layer for layer, _ in cuts_of("mustdrop", 576, 192)] == [3, 7, 11, 15]
    assert [layer for layer, _ in cuts_of("dart", 576, 192)] == [3]


@pytest.mark.parametrize("counting", ["average", "final"])
@pytest.mark.parametrize("name", NAMES)
def test_schedules_meet_the_budget(name: str, counting: str) -> None:
    for layers in (2, 3, 6, 24, 28, 30, 40):
        for total in (1, 7, 64, 577):
            for k in {1, 2, total // 2, total - 1} - {0}:
                if k >= total:
                    continue
                try:
                    cuts = cuts_of(name, total, k, layers, counting=counting)
                except ReductionError as error:
                    least = int(error.fix.removeprefix("Ask for ").split()[0])
                    assert counting == "average" and k < least <= total
                    if least < total:
                        cuts_of(name, total, least, layers)  # what the message asks for is granted
                    continue
                counts = [kept for _, kept in cuts]
                assert counts == sorted(counts, reverse=True) and counts[-1] >= 1
                read = [
                    next((kept for cut, kept in reversed(cuts) if cut <= layer), total)
                    for layer in range(layers)
                ]
                if counting == "final":
                    assert counts[-1] == k
                else:
                    mean = sum(read) / layers
                    assert mean <= k
                    # The first cut could not keep one more, all else equal.
                    longest = layers - cuts[0][0]
                    assert mean + longest / layers * len(cuts) + 1 > k or counts[0] == total


def test_layers_are_those_asked_for_or_refused() -> None:
    assert cuts_of("fastv", 100, 60, 6, cuts=(2,)) == [(2, 40)]
    assert cuts_of("pyramiddrop", 100, 10, 6, cuts=(1, 5), counting="final") == [(1, 32), (5, 10)]
    for name, settings, words in (
        ("fastv", {"cuts": (0,)}, "layer 0 reads all"),
        ("fastv", {"cuts": (6,)}, "layers 0 to 5"),
    ):
        with pytest.raises(ReductionError, match=words):
            cuts_of(name, 100, 60, 6, **settings)
    with pytest.raises(ReductionError, match="has 1"):
        cuts_of("fastv", 100, 60, 1)
    with pytest.raises(ReductionError, match=r"mean is 34 at least.*counting=\"final\""):
        cuts_of("fastv", 100, 10, 3)
    assert cut_layers((), (1, 2), 3, "any") == (1, 2)
    # Separators are read before the first cut and never kept.
    assert schedule(12, 9, 9, layers=4, cuts=(1,), counting="average", name="any")[0].kept == 8


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fastv", {"cuts": (3, 2)}),
        ("fastv", {"counting": "mean"}),
        ("vscan_stage2", {"rotary": "perhaps"}),
        ("mustdrop", {"largest": 0}),
        ("mustdrop", {"protected": 1.5}),
        ("fastv", {"tiles": "uniform"}),
        ("fastv", {"layer": 2}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ReductionError):
        get_reducer(name, **settings)


def test_survivors_and_clusters_are_exactly_k() -> None:
    for count in range(2, 130):
        for k in range(1, count):
            stay = survivors(count, k)
            assert stay == k or stay + clusters(pool_size(count - stay)) == k
            if k >= 8:
                assert stay < k, "nothing was recycled"


def test_features_cannot_be_reduced_by_a_method_of_the_language_model() -> None:
    method, grid = get_reducer("fastv"), raster(3, 3)
    with pytest.raises(ReductionError, match="between the layers"):
        method.select(made_image(grid, 0), method.plan(grid, 4))
    fake = SimpleNamespace(ref="here", family="fake", salience_kind="cls", resizes=True, plain_decoder=False)
    with pytest.raises(ReductionError, match=r"sliding windows.*Use fastervlm"):
        method.check(fake)


def test_a_method_of_a_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What every method of this kind needs is asked for though the class declares nothing."""
    monkeypatch.setattr(registry_module, "_own", {})
    monkeypatch.setattr(registry_module, "_own_classes", {})

    @reducer("first_ones", paper="none: an example")
    class FirstOnes(LanguageReducer):
        cut_shares = (Fraction(1, 2),)

        def choose_inside(self, view: View, k: int) -> Choice:
            return Choice(kept=torch.arange(k)[None])

    method = get_reducer("first_ones", counting="final")
    assert isinstance(method, FirstOnes) and cuts_of("first_ones", 9, 6, 4) == [(2, 3)]
    fake = SimpleNamespace(ref="here", family="fake", salience_kind="cls", resizes=True, plain_decoder=False)
    with pytest.raises(ReductionError, match="sliding windows"):
        method.check(fake)
    plan = method.plan(raster(3, 3), 4)
    assert method.cache_key(plan, question="one") != method.cache_key(plan, question="other")
    with pytest.raises(ReductionError, match="overrides choose"):
        type("Broken", (LanguageReducer,), {"choose": lambda self: None})


def test_a_cache_forgets_rows_and_goes_on() -> None:
    cache = KeyValueCache()
    first = torch.arange(5.0).reshape(1, 1, 5, 1).expand(1, 2, 5, 3)
    cache.update(0, first, 10 + first)
    cache.select(0, torch.tensor([1, 4]))
    keys, values = cache.update(0, torch.full((1, 2, 1, 3), 9.0), torch.full((1, 2, 1, 3), 19.0))
    assert keys[0, 0, :, 0].tolist() == [1, 4, 9] and values[0, 1, :, 2].tolist() == [11, 14, 19]
    assert cache.length(0) == 3
