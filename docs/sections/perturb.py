"""The perturbation axes, from their registry."""

from __future__ import annotations

from collections.abc import Callable

from foveate.evaluate.perturb.axes import AXES
from sections.markdown import table


def axes() -> str:
    lines = [
        (
            f"`{axis.name}`",
            axis.description,
            ", ".join(f"`{point}`" for point in axis.points),
            axis.pattern or "-",
        )
        for axis in AXES.values()
    ]
    return table(("axis", "what is varied", "variants", "others by name"), lines)


SECTIONS: dict[str, Callable[[], str]] = {"perturbation-axes": axes}
