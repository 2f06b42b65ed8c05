"""Asks one cell's questions through an engine of its own and notes what came back and what it took.

Cells share no cache, so none profits from another; within a cell the engine's caches work as in serving, so a
second turn finds the first one's prefix. Knows no grid and no statistics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from foveate.engine import Engine, EngineConfig, RequestError, SamplingParameters, VisualBudget
from foveate.evaluate.bench.folder import RunFolder
from foveate.evaluate.bench.grid import FULL, NO_IMAGE, Cell
from foveate.evaluate.bench.items import Item
from foveate.evaluate.nano import outcome
from foveate.evaluate.run_files import Row
from foveate.reduce.registry import get_reducer, reducer_class

if TYPE_CHECKING:
    from foveate.engine import RequestStatistics
    from foveate.models.base import VisionLanguageModel
    from foveate.reduce.keep_map import KeepMap

LONGEST_ANSWER = 160  # tokens: a listing of nine objects
_CONVERSATION = 8192  # tokens that the cache holds of each conversation, where the model's context is longer
GREEDY = SamplingParameters(max_tokens=LONGEST_ANSWER)
Messages = list[dict[str, Any]]


def engine_for(model: VisionLanguageModel, concurrency: int, clock: Callable[[], float]) -> Engine:
    """An engine with room for this many conversations: no larger, so that resident memory means something."""
    tokens = min(model.context_length, _CONVERSATION)
    blocks = concurrency * -(-tokens // EngineConfig().block_size)
    return Engine(model, EngineConfig(kv_blocks=blocks, max_sequences=concurrency), clock=clock)


def visual_budget(cell: Cell, question: str, folder: RunFolder) -> VisualBudget | None:
    """What a request of this cell asks for; None for the two ends."""
    if cell.method in (FULL, NO_IMAGE):
        return None
    equally = cell.name in folder.run["equal_tiles"]
    reducer = get_reducer(cell.method, tiles="uniform") if equally else cell.method
    return VisualBudget(budget=cell.budget, reducer=reducer, question=question)


def user_turn(text: str, *, with_image: bool) -> dict[str, Any]:
    """A message of the user's."""
    parts: list[dict[str, str]] = [{"type": "text", "text": text}]
    return {"role": "user", "content": [{"type": "image"}, *parts] if with_image else parts}


def resident_bytes() -> int | None:
    """Memory of this process that is in use now; None where the system does not tell."""
    table = Path("/proc/self/statm")
    if not table.exists():
        return None
    return int(table.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Asking:
    """One cell at work."""

    def __init__(self, model: VisionLanguageModel, cell: Cell, clock: Callable[[], float]) -> None:
        self.cell = cell
        self.engine = engine_for(model, 1, clock)

    def ask(self, item: Item, picture: Image.Image, folder: RunFolder) -> list[Row]:
        """Rows of the item's turns; a turn sees the questions and the model's own answers before it.

        Where the engine does not take the method's own way of sharing a budget among tiles (text stands between them,
        so each one's tokens must be known beforehand), the cell goes on with equal shares and the folder says so.

        Raises:
            FoveateError: the model or the engine does not take this method or budget.
        """
        try:
            return self._turns(item, picture, folder)
        except RequestError:
            if self.cell.name in folder.run["equal_tiles"] or not self._could_share_equally():
                raise
        folder.share_tiles_equally(self.cell.name)
        return self._turns(item, picture, folder)

    def _could_share_equally(self) -> bool:
        """Whether equal shares are another way for this method."""
        if self.cell.method in (FULL, NO_IMAGE):
            return False
        kind = reducer_class(self.cell.method)
        return kind.default_tiles != "uniform" and "uniform" in kind.tile_rules

    def _turns(self, item: Item, picture: Image.Image, folder: RunFolder) -> list[Row]:
        rows: list[Row] = []
        messages: Messages = []
        for number, question in enumerate(item.turns, start=1):
            seen = number == 1 and self.cell.method != NO_IMAGE
            messages.append(user_turn(question.text, with_image=seen))
            visual = visual_budget(self.cell, question.text, folder)
            reply, facts, keep = self._answer(messages, picture, visual)
            rows.append(
                {
                    "cell": self.cell.name,
                    "item": item.id,
                    "turn": number,
                    "reply": reply,
                    "outcome": outcome(question, reply),
                    **facts,
                    **_drawn(keep, folder),
                }
            )
            messages.append({"role": "assistant", "content": [{"type": "text", "text": reply}]})
        return rows

    def _answer(
        self, messages: Messages, picture: Image.Image, visual: VisualBudget | None
    ) -> tuple[str, Row, KeepMap | None]:
        request = self.engine.add_request(
            messages,
            GREEDY,
            images=[] if self.cell.method == NO_IMAGE else [picture],
            visual=visual,
        )
        (answer,) = self.engine.run_to_completion()[request]
        found = self.engine.request_statistics(request)
        assert found is not None, "the engine remembers a request that has just ended"
        facts = {
            "kept": found.image_tokens_kept,
            "total": found.image_tokens,
            "prompt": found.prompt_tokens,
            "cached": found.cached_tokens,
            "generated": found.generated_tokens,
            "seconds": _seconds(found),
            "blocks": self.engine.statistics().most_blocks_in_use,
            "block_bytes": self.engine.memory.block_bytes,
            "resident": resident_bytes(),
        }
        return answer.text, facts, next(iter(self.engine.keep_maps(request)), None)


def _seconds(found: RequestStatistics) -> dict[str, float]:
    """Stages of one request; it has ended, so all of them have."""
    stages = {
        "prepare": found.preprocess_seconds,
        "encode": found.encode_seconds,
        "prefill": found.prefill_seconds,
        "decode": found.decode_seconds,
        "first_token": found.time_to_first_token,
    }
    return {name: round(value, 6) for name, value in stages.items() if value is not None}


def _drawn(keep: KeepMap | None, folder: RunFolder) -> Row:
    """What an overlay needs: the kept tokens as bits, first token first, and the number of the picture's layout."""
    if keep is None:
        return {}
    bits = "".join("1" if kept else "0" for kept in keep.mask().tolist())
    layout = json.loads(json.dumps(asdict(keep.grid)))
    return {"mask": f"{int(bits, 2):x}", "layout": folder.layout_number(layout), "stage": keep.stage}
