"""One way of asking a task's questions that should not change its answers, and the way that it is compared with.

Owns the record only; which variants there are is in `axes`. A runner reads the four fields and applies each where it
belongs: `task_settings` to the task's constructor, `picture` to every picture before the model's preprocessing,
`parameters` over the run's own, `style` in place of the run's prompt style.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from foveate.evaluate.contract import Picture


class PictureChange(Protocol):
    """A change of pixels that takes no random numbers: the same picture always gives the same pixels."""

    def apply(self, image: Image.Image) -> Image.Image:
        """The changed picture, RGB from RGB."""
        ...

    def describe(self) -> dict[str, Any]:
        """What was done, JSON-ready: codec and quality, or factor and filter."""
        ...


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One point of a perturbation axis.

    Attributes:
        name: unique among all axes: "square", "jpeg-80", "fastervlm-25%". Run folders and reports use it.
        axis: the axis it belongs to; empty for the baseline alone, which every axis shares.
        task_settings: keyword arguments of the task's constructor.
        picture: a change of every picture's pixels; None for none.
        parameters: fields of `contract.Parameters` to set differently.
        style: the prompt style by name; None leaves the run's.
        control: it changes nothing on purpose, to show that asking in variants does not either: measured, and in no
            average over variants.
    """

    name: str
    axis: str = ""
    task_settings: Mapping[str, Any] = field(default_factory=dict)
    picture: PictureChange | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    style: str | None = None
    control: bool = False

    def describe(self) -> dict[str, Any]:
        """For run.json: only what differs from the baseline, JSON-ready."""
        facts = {
            "task_settings": dict(self.task_settings),
            "picture": self.picture.describe() if self.picture else None,
            "parameters": dict(self.parameters),
            "style": self.style,
            "control": self.control,
        }
        return {"name": self.name, "axis": self.axis} | {key: value for key, value in facts.items() if value}

    def changed(self, picture: Picture) -> Picture:
        """A picture as this variant shows it; opened no earlier than before."""
        change = self.picture
        if change is None:
            return picture
        return Picture(load=lambda: change.apply(picture.open()), name=f"{picture.name} ({self.name})")


BASELINE = Variant(name="baseline")
