"""The methods by name: where each is, which paper it is from, what it needs.

Owns the lazy table, files of a user's own (`@reducer`, entry points of the group `foveate.reducers`) and the
nearest name for a word that is none. Imports no torch until a method is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.errors import ReductionError, nearest
from foveate.reduce.info import ReducerInfo
from foveate.reduce.language.rows import LANGUAGE_METHODS
from foveate.reduce.needs import Needs
from foveate.reduce.video.rows import VIDEO_METHODS

if TYPE_CHECKING:
    from foveate.reduce.base import Reducer

ENTRY_POINT_GROUP = "foveate.reducers"


def _ours(name: str, attribute: str, **facts: Any) -> ReducerInfo:
    return ReducerInfo(name=name, home=f"foveate.reduce.methods.{name}:{attribute}", **facts)


METHODS: tuple[ReducerInfo, ...] = (
    _ours("random", "RandomTokens", paper="baseline", rule="k at random, the same for the same picture"),
    _ours("strided", "Strided", paper="baseline", rule="k at even distances in raster order"),
    _ours("average_pool", "AveragePool", paper="baseline", rule="means of the cells of a smaller raster"),
    _ours(
        "pixel_shuffle",
        "PixelShuffle",
        paper="baseline",
        rule="s × s tokens become one, each channel from one of them",
    ),
    _ours(
        "downsample",
        "Downsample",
        paper="baseline",
        rule="a smaller picture goes into the tower",
        needs=Needs(resizing=True),
        instead=("average_pool",),
        stage="input",
    ),
    _ours(
        "tome",
        "ToMe",
        paper="Token Merging: Your ViT But Faster, Bolya et al. 2022",
        arxiv="2210.09461",
        rule="the most similar of alternate tokens merge, by keys",
        headline="ViT-L at 384 pixels: twice the images a second at 0.8 points of ImageNet",
        needs=Needs(keys=True),
    ),
    _ours(
        "hired",
        "HiRED",
        paper="HiRED, Arif et al. 2024",
        arxiv="2408.10945",
        rule="tiles share the budget by where the overview's early CLS row looks; top k by the late one",
        headline="LLaVA-NeXT-7B at 20 % of tokens: 0.49 to 2.30 tokens/s on a P40, DocVQA 73.4 to 60.8",
        needs=Needs(salience="cls", shallow=0.0),
        instead=("fastervlm",),
    ),
    _ours(
        "fastervlm",
        "FasterVLM",
        paper="FasterVLM, Zhang et al. 2024",
        arxiv="2412.01818",
        rule="top k by the CLS row",
        headline="LLaVA-1.5-7B keeps about 90 % of its score at 5 % of tokens",
        needs=Needs(salience="any"),
    ),
    _ours(
        "vispruner",
        "VisPruner",
        paper="VisPruner, Zhang et al. 2024",
        arxiv="2412.01818",
        rule="half by salience, half by thinning out similar ones",
        headline="LLaVA-1.5-7B keeps 91.7 % at 64 of 576 tokens",
        needs=Needs(salience="any", features=True),
    ),
    _ours(
        "visionzip",
        "VisionZip",
        paper="VisionZip, Yang et al. 2024",
        arxiv="2412.04467",
        rule="the most salient stay, the others merge into strided anchors by keys",
        headline="about 95 % of the score at 10 % of tokens",
        needs=Needs(salience="any", keys=True),
    ),
    _ours(
        "prumerge_plus",
        "PruMergePlus",
        paper="LLaVA-PruMerge, Shang et al. 2024",
        arxiv="2403.15388",
        rule="outliers of the CLS row and strided tokens, neighbours merged in; capped to k",
        headline="LLaVA-1.5-7B keeps 83.0 to 86.5 % at 64 tokens (later papers' tables, PruMerge)",
        needs=Needs(salience="cls", keys=True),
        instead=("visionzip",),
    ),
    _ours(
        "divprune",
        "DivPrune",
        paper="DivPrune, Alvar et al. 2025",
        arxiv="2503.02175",
        rule="the k least alike, by maximal minimal distance",
        headline="LLaVA-1.5-7B keeps 94.8 % at 64 tokens",
        needs=Needs(features=True),
    ),
    _ours(
        "holov",
        "HoloV",
        paper="HoloV, Zou et al. 2025",
        arxiv="2510.02912",
        rule="stretches of the raster get quotas by attention and variety",
        headline="LLaVA-1.5-7B keeps 95.8 % at 11.1 % of tokens",
        needs=Needs(salience="any", features=True),
    ),
    _ours(
        "vscan",
        "VScan",
        paper="VScan, Zhang et al. 2025 (stage 1)",
        arxiv="2505.22654",
        rule="half by windows of an early row, half by the late row, the rest averaged in",
        headline="LLaVA-NeXT-7B keeps 95.4 % at 2.91 × prefill, with its stage 2",
        needs=Needs(salience="any", shallow=5 / 24, features=True),
    ),
)

_own: dict[str, ReducerInfo] = {}
_own_classes: dict[str, type[Reducer]] = {}
Class = TypeVar("Class", bound="type[Reducer]")


def reducer(
    name: str, *, paper: str, arxiv: str = "", rule: str = "", headline: str = ""
) -> Callable[[Class], Class]:
    """Registers a method of a user's own: `@reducer("mine", paper="...")` above a subclass of `Reducer`.

    Raises:
        ReductionError: the name is taken.
    """

    def register(cls: Class) -> Class:
        taken = next((info for info in list_reducers() if info.name == name), None)
        home = f"{cls.__module__}:{cls.__qualname__}"
        if taken is not None and taken.home != home:
            raise ReductionError(
                f"The name {name!r} is taken by {taken.home}", fix="Register the method under another name."
            )
        cls.name = name
        _own[name] = ReducerInfo(
            name=name,
            home=home,
            paper=paper,
            arxiv=arxiv,
            rule=rule,
            headline=headline,
            needs=cls.needs,
            stage=cls.stage,
        )
        _own_classes[name] = cls
        return cls

    return register


def list_reducers() -> list[ReducerInfo]:
    """Every method in this process: ours for stills, video and the language model's layers, then users' files."""
    return [*METHODS, *VIDEO_METHODS, *LANGUAGE_METHODS, *_own.values()]


def find(name: str) -> ReducerInfo:
    """The entry of a name; loads entry points when it is not one of ours.

    Raises:
        ReductionError: nobody has it; says which is nearest.
    """
    by_name = {info.name: info for info in list_reducers()}
    if name not in by_name:
        for point in entry_points(group=ENTRY_POINT_GROUP):
            point.load()
        by_name = {info.name: info for info in list_reducers()}
    if name not in by_name:
        raise ReductionError(f"No method is called {name!r}", fix=nearest(name, by_name))
    return by_name[name]


def reducer_class(name: str) -> type[Reducer]:
    """The class of a method; imports it and with it torch."""
    info = find(name)
    if name in _own_classes:
        return _own_classes[name]
    module, _, attribute = info.home.partition(":")
    return getattr(importlib.import_module(module), attribute)


def get_reducer(name: str, **settings: Any) -> Reducer:
    """A method by name with its settings: `get_reducer("hired", alpha=0.3)`.

    Raises:
        ReductionError: no such method, no such setting (nearest named), or a value outside its range.
    """
    cls = reducer_class(name)
    known = [field.name for field in dataclasses.fields(cls.Config)]
    for setting in settings:
        if setting not in known:
            raise ReductionError(f"The method {name} has no setting {setting!r}", fix=nearest(setting, known))
    return cls(cls.Config(**settings))


def methods_for(salience_kind: str | None, resizes: bool, *, near: str = "") -> list[str]:
    """Names that work with such a tower (see `Needs.missing`), those most like `near` first.

    Methods over the frames of a video stand in for each other alone, and so do those for stills. Methods inside the
    language model stand in for none: they run on the reference path alone.
    """
    infos = {info.name: info for info in list_reducers()}
    wanted = infos.get(near, ReducerInfo(name=near, home="", paper=""))
    fitting = [
        info
        for info in infos.values()
        if info.name != near
        and info.stage != "language"
        and (info.stage == "video") == (wanted.stage == "video")
        and not info.needs.missing(salience_kind, resizes)
    ]

    def distance(info: ReducerInfo) -> tuple[bool, int, float]:
        unlike = sum(
            bool(getattr(info.needs, field.name)) != bool(getattr(wanted.needs, field.name))
            for field in dataclasses.fields(Needs)
        )
        return (
            info.name not in wanted.instead,
            unlike,
            -difflib.SequenceMatcher(None, info.name, near).ratio(),
        )

    return [info.name for info in sorted(fitting, key=distance)]
