"""The ways in which models write boxes, by name: what a coordinate counts and what stands around it.

Which one a model uses is its prompt style's business. Reading and writing are in `boxes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.errors import nearest
from foveate.evaluate.contract import EvaluationError

Notation = Literal["brackets", "json", "tags", "locations", "angles"]


@dataclass(frozen=True, kw_only=True)
class BoxFormat:
    """How a model writes a box.

    Attributes:
        divisor: of a coordinate, to get a fraction of the picture; None: pixels, divided by width and height.
        whole: coordinates are whole numbers; decimals are then unreadable, not rounded.
        notation: what stands around the numbers; polygons are JSON in JSON formats, else in brackets.
        upright: y before x, as PaliGemma and Gemini have it (boxes only).
        key: of a box in an object of JSON.
        example: the shape of a reply, for the instruction.
    """

    divisor: int | None
    whole: bool = True
    notation: Notation = "brackets"
    upright: bool = False
    key: str = "bbox_2d"
    example: str = "label [left, top, right, bottom]"


_JSON_EXAMPLE = '[{"bbox_2d": [left, top, right, bottom], "label": "..."}]'
FORMATS: dict[str, BoxFormat] = {
    "hundredths": BoxFormat(divisor=100),  # the world's own: [12, 40, 31, 62]
    "thousandths": BoxFormat(divisor=1000),
    "pixels": BoxFormat(divisor=None, whole=False),
    "unit": BoxFormat(divisor=1, whole=False),
    "json-hundredths": BoxFormat(divisor=100, notation="json", example=_JSON_EXAMPLE),
    "json-thousandths": BoxFormat(divisor=1000, notation="json", example=_JSON_EXAMPLE),  # Qwen3-VL
    "json-pixels": BoxFormat(divisor=None, whole=False, notation="json", example=_JSON_EXAMPLE),  # Qwen2.5-VL
    "json-unit": BoxFormat(divisor=1, whole=False, notation="json", example=_JSON_EXAMPLE),
    "gemini": BoxFormat(
        divisor=1000, notation="json", upright=True, key="box_2d",
        example='[{"box_2d": [top, left, bottom, right], "label": "..."}]',
    ),
    "qwen": BoxFormat(
        divisor=1000, notation="tags", example="<ref>label</ref><box>(left,top),(right,bottom)</box>"
    ),
    "paligemma": BoxFormat(
        divisor=1024, notation="locations", upright=True,
        example="<loc0000><loc0000><loc0000><loc0000> label, as top, left, bottom, right",
    ),
    "minigpt": BoxFormat(divisor=100, notation="angles", example="label {<left><top><right><bottom>}"),
}  # fmt: skip


def get_format(name: str) -> BoxFormat:
    """The format of this name.

    Raises:
        EvaluationError: no such format, naming the nearest.
    """
    if name not in FORMATS:
        raise EvaluationError(f"There is no box format {name!r}", fix=nearest(name, FORMATS))
    return FORMATS[name]


def instruction(name: str, *, polygons: bool = False) -> str:
    """What to tell a model that shall write in this format."""
    kind = get_format(name)
    unit = {None: "pixels", 1: "fractions from 0 to 1"}.get(
        kind.divisor, f"whole numbers from 0 to {kind.divisor}"
    )
    if polygons:
        example = (
            '[{"polygon": [[x, y], ...], "label": "..."}]'
            if kind.notation == "json"
            else "label [[x, y], ...]"
        )
        return f"Write each outline as {example}, in {unit} of the image's width and height."
    return f"Write each box as {kind.example}, in {unit} of the image's width and height."
