"""The perturbation axes by name, the variants that each tries, and what `--variants` takes.

An axis is a property of how questions are asked that a score should not depend on. Every axis is compared with the
one baseline. Knows no runner: a variant says what to change (see `variant`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError
from foveate.evaluate.perturb.markers import DEFAULT_LOOK, LOOKS, marker_look
from foveate.evaluate.perturb.pictures import Codec, Resize
from foveate.evaluate.perturb.variant import BASELINE, Variant
from foveate.evaluate.styles import get_style

HOW = "Write axes with commas, and variants of one after a colon: markers,codec:jpeg-85+webp-80."


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One property that is varied.

    Attributes:
        name: what `--variants` takes.
        description: what is varied, in a few words.
        points: names of the variants that are tried where none are named.
        pattern: how others can be named; empty where there are none.
        make: the variant of a name. Raises EvaluationError where there is none.
    """

    name: str
    description: str
    points: tuple[str, ...]
    pattern: str
    make: Callable[[str], Variant]

    def variants(self) -> tuple[Variant, ...]:
        """Those of `points`."""
        return tuple(self.make(point) for point in self.points)


def _marker(name: str) -> Variant:
    marker_look(name)
    return Variant(name=name, axis="markers", task_settings={"marker_style": name})


def _codec(name: str) -> Variant:
    found = re.fullmatch(r"([a-z]+)(?:-(\d+))?", name)
    if found is None:
        raise _unknown("codec", name)
    codec = Codec(name=found[1], quality=int(found[2]) if found[2] else None)
    return Variant(name=name, axis="codec", picture=codec, control=name == "png")


def _resize(name: str) -> Variant:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)x-([a-z]+)", name)
    if found is None:
        raise _unknown("resize", name)
    return Variant(name=name, axis="resize", picture=Resize(factor=float(found[1]), filter=found[2]))


def _tokens(name: str) -> Variant:
    """A method and a budget; both are checked here, before a long run begins."""
    from foveate.reduce.budget import Budget
    from foveate.reduce.registry import reducer_class

    method, dash, budget = name.rpartition("-")
    if not dash:
        raise _unknown("tokens", name)
    reducer_class(method)
    Budget.parse(budget)
    return Variant(name=name, axis="tokens", parameters={"reducer": method, "visual_budget": budget})


def _options(name: str) -> Variant:
    found = re.fullmatch(r"shift-([1-9]\d?)", name)
    if found is None:
        raise _unknown("options", name)
    return Variant(name=name, axis="options", task_settings={"option_shift": int(found[1])})


def _style(name: str) -> Variant:
    get_style(name)
    return Variant(name=f"style-{name}", axis="style", style=name)


def _axis(
    name: str, description: str, points: Iterable[str], pattern: str, make: Callable[[str], Variant]
) -> Axis:
    return Axis(name=name, description=description, points=tuple(points), pattern=pattern, make=make)


_METHODS = ("fastervlm", "divprune", "random", "downsample")
AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        _axis(
            "markers",
            "how marked points look: VPBench's 16 changes of one factor",
            (look for look in LOOKS if look != DEFAULT_LOOK),
            "",
            _marker,
        ),
        _axis(
            "codec",
            "how pictures are written and read back before the model sees them",
            ("png", "jpeg-95", "jpeg-90", "jpeg-85", "jpeg-80", "jpeg-70", "webp-80"),
            "jpeg-QUALITY, webp-QUALITY",
            _codec,
        ),
        _axis(
            "resize",
            "the size at which pictures are handed over, and the filter",
            ("0.5x-bicubic", "0.75x-bicubic", "0.75x-nearest", "1.5x-bicubic", "1.5x-bilinear"),
            "FACTORx-FILTER",
            _resize,
        ),
        _axis(
            "tokens",
            "which visual tokens are kept",
            (f"{method}-{budget}" for budget in ("50%", "25%") for method in _METHODS),
            "METHOD-BUDGET",
            _tokens,
        ),
        _axis(
            "options",
            "the order of a question's options, moved on in a circle",
            ("shift-1", "shift-2", "shift-3"),
            "shift-N",
            _options,
        ),
        _axis(
            "style",
            "the prompt style, beside that of the run",
            ("plain", "instruct", "instruct-before", "polite"),
            "any other prompt style",
            _style,
        ),
    )
}


def parse_variants(text: str) -> tuple[Variant, ...]:
    """The baseline, then the variants of a command line: "markers,codec:jpeg-85+webp-80"; each once, in that order.

    Raises:
        EvaluationError: an axis or a variant that does not exist (nearest named), or an empty part.
        ReductionError: a method or budget of the axis "tokens" that does not exist.
    """
    found = {BASELINE.name: BASELINE}
    for part in text.split(","):
        name, colon, points = part.strip().partition(":")
        if not name or (colon and not all(point.strip() for point in points.split("+"))):
            raise EvaluationError(f"The variants {text!r} hold an empty name", fix=HOW)
        if name not in AXES:
            raise EvaluationError(
                f"There is no perturbation axis {name!r}", fix=f"{nearest(name, AXES)} {HOW}"
            )
        axis = AXES[name]
        chosen = [axis.make(point.strip()) for point in points.split("+")] if colon else axis.variants()
        found |= {variant.name: variant for variant in chosen}
    return tuple(found.values())


def _unknown(axis: str, name: str) -> EvaluationError:
    own = AXES[axis]
    known = ", ".join(own.points) + (f", or {own.pattern}" if own.pattern else "")
    return EvaluationError(f"The axis {axis!r} has no variant {name!r}", fix=f"It has {known}.")
