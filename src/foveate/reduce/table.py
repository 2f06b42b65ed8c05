"""The tables of docs/reduction.md: methods, and method x family with the reason where a cell is refused.

Knows the registries of methods and families only; imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from foveate.models.registry import CLS_ROW, FAMILIES, FamilyInfo
from foveate.reduce.info import ReducerInfo
from foveate.reduce.language.rows import LANGUAGE_METHODS
from foveate.reduce.registry import METHODS
from foveate.reduce.video.rows import VIDEO_METHODS


def supported(method: ReducerInfo, family: FamilyInfo) -> str:
    """Why a method does not work on a family; empty if it does."""
    salience = "cls" if family.salience == CLS_ROW else "column"
    return method.needs.missing(salience, family.resizes, plain_decoder=family.plain_decoder)


def methods_table() -> str:
    """Name, rule, what it reads, paper, what its authors report."""
    return _rows(METHODS)


def video_table() -> str:
    """The same of the methods over frames."""
    return _rows(VIDEO_METHODS)


def language_table() -> str:
    """The same of the methods inside the language model."""
    return _rows(LANGUAGE_METHODS)


def _rows(infos: Iterable[ReducerInfo]) -> str:
    lines = ["| method | rule | reads | paper | reported |", "|---|---|---|---|---|"]
    for info in infos:
        paper = f"{info.paper}, arXiv {info.arxiv}" if info.arxiv else info.paper
        lines.append(
            f"| `{info.name}` | {info.rule} | {info.needs.describe()} | {paper} | {info.headline or '-'} |"
        )
    return "\n".join(lines)


def families_table() -> str:
    """A row a method, a column a family; numbers refer to the reasons below the table."""
    reasons: list[str] = []
    lines = [
        "| method | " + " | ".join(family.name for family in FAMILIES) + " |",
        "|---|" + "---|" * len(FAMILIES),
    ]
    for info in (*METHODS, *VIDEO_METHODS, *LANGUAGE_METHODS):
        cells = []
        for family in FAMILIES:
            reason = supported(info, family)
            if reason and reason not in reasons:
                reasons.append(reason)
            cells.append(f"refused ({reasons.index(reason) + 1})" if reason else "yes")
        lines.append(f"| `{info.name}` | " + " | ".join(cells) + " |")
    notes = [f"{index}. {reason}." for index, reason in enumerate(reasons, start=1)]
    return "\n".join([*lines, "", *notes])
