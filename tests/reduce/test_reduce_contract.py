"""What a method may not do, what the registry promises, and a user's own method in one file."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made import image, raster, tiled

from foveate.errors import ReductionError
from foveate.reduce import get_reducer, list_reducers, reducer
from foveate.reduce import registry as registry_module
from foveate.reduce.base import Reducer, ScoringReducer
from foveate.reduce.registry import METHODS, methods_for, reducer_class
from foveate.reduce.tokens import Choice, Tokens

DOCUMENT = Path(__file__).parents[2] / "docs" / "reduction.md"


@pytest.fixture
def own_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods registered in a test are gone after it."""
    monkeypatch.setattr(registry_module, "_own", {})
    monkeypatch.setattr(registry_module, "_own_classes", {})


@pytest.mark.parametrize("info", METHODS, ids=lambda info: info.name)
def test_every_entry_is_what_its_class_says(info: registry_module.ReducerInfo) -> None:
    cls = reducer_class(info.name)
    assert cls.name == info.name
    assert cls.needs == info.needs
    assert info.rule and info.paper
    assert (info.paper == "baseline") == (not info.arxiv)
    module = importlib.import_module(cls.__module__)
    assert info.arxiv in module.__doc__
    assert cls().cache_key(cls().plan(raster(3, 3), 4)).startswith(f"{info.name}.1(")


def test_importing_the_table_imports_no_torch() -> None:
    code = "import sys, foveate.reduce.registry as r; assert r.list_reducers(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", sorted(Reducer.sealed))
def test_a_method_cannot_override_the_contract(name: str) -> None:
    with pytest.raises(ReductionError, match=f"overrides {name}"):
        type("Broken", (Reducer,), {name: lambda self: None})


def test_a_ranking_cannot_override_choose() -> None:
    with pytest.raises(ReductionError, match="overrides choose"):
        type("Broken", (ScoringReducer,), {"choose": lambda self: None})


def test_a_method_that_keeps_the_wrong_tokens_is_caught() -> None:
    class Twice(Reducer):
        name = "twice"

        def choose(self, tokens: Tokens, k: int) -> Choice:
            return Choice(kept=torch.zeros(tokens.batch, k, dtype=torch.long))

    class TooFew(Reducer):
        name = "too_few"

        def choose(self, tokens: Tokens, k: int) -> Choice:
            return Choice(kept=torch.zeros(tokens.batch, 1, dtype=torch.long))

    grid = raster(3, 3)
    for cls, words in ((Twice, "chosen twice"), (TooFew, "1 tokens kept where 4 were planned")):
        with pytest.raises(AssertionError, match=words):
            cls().select(image(grid, 0), cls().plan(grid, 4))


def test_unknown_names_and_settings_are_refused_with_the_nearest() -> None:
    with pytest.raises(ReductionError, match="Did you mean 'fastervlm'"):
        get_reducer("fastvlm")
    with pytest.raises(ReductionError, match="Did you mean 'alpha'"):
        get_reducer("hired", alfa=0.3)
    for setting in ({"alpha": 1.5}, {"positions": "move"}, {"tiles": "none"}):
        with pytest.raises(ReductionError):
            get_reducer("hired", **setting)
    for name, setting in (
        ("vispruner", {"ratio": -1}),
        ("vispruner", {"step": 0}),
        ("visionzip", {"dominant": 0}),
        ("holov", {"stretches": 0}),
        ("vscan", {"window": 0}),
    ):
        with pytest.raises(ReductionError):
            get_reducer(name, **setting)


def fake(salience_kind: str, *, resizes: bool = False) -> SimpleNamespace:
    return SimpleNamespace(ref="here", family="fake", salience_kind=salience_kind, resizes=resizes)


def test_a_tower_without_cls_is_refused_with_alternatives_or_falls_back() -> None:
    with pytest.raises(ReductionError, match=r"scores with the CLS row.*column mean") as caught:
        get_reducer("hired").check(fake("column"))
    assert caught.value.fix.startswith("Use fastervlm, ")
    assert "column_fallback" in caught.value.fix
    get_reducer("hired").check(fake("cls"))
    get_reducer("hired", column_fallback=True).check(fake("column"))
    get_reducer("fastervlm").check(fake("column"))
    with pytest.raises(ReductionError, match=r"tiles of one size.*Use average_pool"):
        get_reducer("downsample").check(fake("cls"))
    get_reducer("downsample").check(fake("cls", resizes=True))
    assert "hired" not in methods_for("column", False)


def test_features_without_what_the_method_reads_are_refused() -> None:
    grid = raster(3, 3)
    for name, field in (("fastervlm", "salience"), ("tome", "keys"), ("vscan", "shallow_salience")):
        item = image(grid, 0)
        setattr(item, field, None)
        method = get_reducer(name)
        with pytest.raises(ReductionError, match=r"request\(\)"):
            method.select(item, method.plan(grid, 4))
    with pytest.raises(ReductionError, match="before the tower"):
        get_reducer("downsample").select(image(grid, 0), get_reducer("downsample").plan(grid, 4))


def test_cache_names_tell_apart_what_gives_other_features() -> None:
    grid = tiled(4, 2, 2)

    def key(name: str, budget: str, **settings: object) -> str:
        method = get_reducer(name, **settings)
        return method.cache_key(method.plan(grid, budget))

    keys = [
        key("hired", "20"),
        key("hired", "21"),
        key("hired", "20", alpha=0.3),
        key("hired", "20", positions="keep"),
        key("fastervlm", "20"),
        key("fastervlm", "20", tiles="salience"),
        key("random", "20"),
        key("random", "20", seed=1),
    ]
    assert len(set(keys)) == len(keys)
    assert key("hired", "25%") == key("hired", str(grid.tokens // 4)), "the same plan, the same features"
    assert key("hired", "full") == key("random", "100%") == "full"


def test_a_method_that_reads_the_question_is_cached_by_it(own_methods: None) -> None:
    from foveate.reduce.needs import Needs

    @reducer("first_letter", paper="of this test")
    class FirstLetter(ScoringReducer):
        needs = Needs(question=True)

        def score(self, tokens: Tokens) -> torch.Tensor:
            offsets = torch.tensor([len(question) for question in tokens.questions])
            return -(torch.arange(tokens.count)[None] - offsets[:, None]).abs().float()

    method, grid = get_reducer("first_letter"), raster(3, 4)
    plan = method.plan(grid, 1)
    assert method.select(image(grid, 0), plan, question="four").kept.tolist() == [4]
    assert method.select(image(grid, 0), plan, question="sixsix").kept.tolist() == [6]
    assert method.cache_key(plan, question="four") != method.cache_key(plan, question="sixsix")


def test_the_example_of_the_documentation_runs(own_methods: None) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(# brightest\.py.*?)```", text, flags=re.DOTALL)
    exec(compile(code, "brightest.py", "exec"), {"__name__": "brightest"})
    assert "brightest" in [info.name for info in list_reducers()]
    item = image(raster(4, 4), 0)
    method = get_reducer("brightest")
    keep = method.select(item, method.plan(item.grid, "25%"))
    longest = item.features.norm(dim=1).argsort(descending=True)[:4].sort().values
    assert torch.equal(keep.kept, longest)
    with pytest.raises(ReductionError, match="is taken"):
        reducer("random", paper="mine")(reducer_class("brightest"))


def test_an_entry_point_is_found_by_name(own_methods: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        @reducer("from_elsewhere", paper="of this test")
        class Elsewhere(ScoringReducer):
            def score(self, tokens: Tokens) -> torch.Tensor:
                return torch.zeros(tokens.batch, tokens.count)

    groups = []

    def entry_points(group: str) -> list[SimpleNamespace]:
        groups.append(group)
        return [SimpleNamespace(load=load)]

    monkeypatch.setattr(registry_module, "entry_points", entry_points)
    assert get_reducer("from_elsewhere").name == "from_elsewhere"
    assert groups == ["foveate.reducers"]
