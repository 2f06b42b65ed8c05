"""What is known of a method without importing it: the row of every table of methods.

Owns the record alone. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from foveate.reduce.needs import Needs

NOTHING = Needs()


@dataclass(frozen=True, kw_only=True)
class ReducerInfo:
    """One method.

    Attributes:
        name: what users write.
        home: "module:Class".
        paper: title, authors and year; "baseline" where there is none.
        arxiv: the paper's arXiv id, or "".
        rule: what it does, in a line.
        headline: what its authors report, and on what; "" for baselines.
        needs: what it reads, the same as the class declares.
        instead: what to use where a tower cannot serve it, nearest first; unlisted ones follow by needs.
        stage: where it acts, the same as the class declares; "video": over the frames of a video together;
            "language": between the layers of the language model, on the reference path alone.
    """

    name: str
    home: str
    paper: str
    arxiv: str = ""
    rule: str = ""
    headline: str = ""
    needs: Needs = NOTHING
    instead: tuple[str, ...] = ()
    stage: str = "before the language model"
