"""One request at a time: speed of decoding, with and without 8-bit weights, and the second look at a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from engine_parts.figures import agreement, ratios, spread
from engine_parts.ledger import Ledger
from engine_parts.workload import Item

INT8 = "foveate int8"
Alone = Callable[[Item], dict[str, Any]]


def decode(ledger: Ledger, items: Sequence[Item], arms: Mapping[str, Alone]) -> dict[str, Any]:
    """Tokens per second after the first token. One item per repetition; arms in turning order.

    Args:
        arms: "foveate" and those it is compared with; each returns "seconds" of decoding and "token_ids".
    """
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    names = list(arms)
    for repetition, item in enumerate(items):
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            key = f"decode/{repetition}/{name}"
            measured[name].append(ledger.measure(key, partial(arms[name], item)))
    speeds = {
        name: [(item.output_tokens - 1) / row["seconds"] for item, row in zip(items, rows, strict=True)]
        for name, rows in measured.items()
    }
    answers = {name: [row["token_ids"] for row in rows] for name, rows in measured.items()}
    others = [name for name in names if name != "foveate"]
    result: dict[str, Any] = {
        "tokens_per_second": {name: spread(values, 2) for name, values in speeds.items()},
        "ratios": {name: ratios(speeds["foveate"], speeds[name]) for name in others if name != INT8},
        "agreement": {name: agreement(answers["foveate"], answers[name]) for name in others},
    }
    if INT8 in speeds:
        result["int8_over_full_precision"] = ratios(speeds[INT8], speeds["foveate"])
    return result


def repeated_image(ledger: Ledger, pairs: Sequence[tuple[Item, Item]], alone: Alone) -> dict[str, Any]:
    """Seconds to the first token: a new picture, the same again, and with another question.

    Args:
        pairs: two requests with one picture and two questions, one pair per repetition.
    """
    rows = []
    for repetition, (item, other) in enumerate(pairs):

        def ask(item: Item = item, other: Item = other) -> list[float]:
            return [alone(request)["first_token"] for request in (item, item, other)]

        rows.append(ledger.measure(f"repeated image/{repetition}", ask))
    first, same, another = zip(*rows, strict=True)
    return {
        "seconds": {
            "new picture": spread(first),
            "same picture, same question": spread(same),
            "same picture, other question": spread(another),
        },
        "ratios": {"same question": ratios(first, same), "other question": ratios(first, another)},
    }
