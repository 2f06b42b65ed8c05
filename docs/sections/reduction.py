"""Methods of visual-token reduction: their tables, and what was measured of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from foveate.claims import registry, systems
from foveate.evaluate.bench import tables
from foveate.models.registry import FAMILIES
from foveate.reduce.info import ReducerInfo
from foveate.reduce.language.rows import LANGUAGE_METHODS
from foveate.reduce.registry import METHODS
from foveate.reduce.table import families_table, language_table, methods_table, supported, video_table
from foveate.reduce.video.rows import VIDEO_METHODS
from sections.bench import RESULT as BENCH
from sections.claims import CLAIMS
from sections.markdown import read, table

BUDGET = "10%"
_BY_CLAIM = ((VIDEO_METHODS, "video-methods"), (LANGUAGE_METHODS, "language-methods"))


def _points(low: float, value: float, high: float) -> str:
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _verdict(low: float, high: float) -> str:
    """What an interval of a difference from random tokens says."""
    if low > 0:
        return "more than random"
    return "less than random" if high < 0 else "undecided"


def _row(info: ReducerInfo, measured: str, verdict: str) -> tuple[str, ...]:
    paper = f"[{info.paper}](https://arxiv.org/abs/{info.arxiv})" if info.arxiv else info.paper
    families = sum(not supported(info, family) for family in FAMILIES)
    own = registry.of_system(info.paper.split(",")[0])
    states = [f"{name}: {systems.claim_state(name, CLAIMS)}" for name in own]
    return (
        f"`{info.name}`",
        paper,
        f"{families} of {len(FAMILIES)}",
        measured,
        "; ".join([verdict, *states]),
    )


def _by_bench() -> Iterable[tuple[str, ...]]:
    """Methods before the language model: right answers less random tokens', Holm-corrected."""
    summary: Mapping[str, Any] = read(f"{BENCH}/summary.json")
    for info in METHODS:
        name = f"{info.name}@{BUDGET}"
        row = tables.compared(summary, name, "random")
        if row is None:
            yield _row(info, summary["refused"].get(name, ""), "is what others are compared with")
            continue
        low, high = row["interval"]
        verdict = _verdict(low, high) if row["holm"] <= 0.05 else "undecided"
        yield _row(info, _points(low, row["difference"], high), verdict)


def _by_claim(infos: Iterable[ReducerInfo], claim: str) -> Iterable[tuple[str, ...]]:
    """Methods over frames and inside the language model: the margin of each in its claim."""
    estimates = read(f"results/claims/{claim}.json")["verdict"]["estimates"]
    for info in infos:
        [found] = [found for found in estimates if found["quantity"].endswith(f" {info.name} - random")]
        low, high = found["interval"]
        yield _row(info, _points(low, found["value"], high), _verdict(low, high))


def verdicts() -> str:
    """A row for every method: paper, families, and the verdict of what was measured."""
    rows = list(_by_bench())
    for infos, claim in _BY_CLAIM:
        rows += _by_claim(infos, claim)
    return table(("method", "paper", "families", "points above random (95 % interval)", "verdict"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "reduce-families": families_table,
    "reduce-language": language_table,
    "reduce-methods": methods_table,
    "reduce-verdicts": verdicts,
    "reduce-video": video_table,
}
