"""The server's safety: every limit with its reason, refusals by name, what the watch on answers was measured to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foveate.serve.safety.digests import DigestSettings
from foveate.serve.safety.energy import WatchSettings
from foveate.serve.safety.limits import limits_table
from foveate.serve.safety.policy import REASONS, MediaPolicy
from foveate.serve.safety.quotas import KeyLimits
from sections.markdown import read, table

_WATCHED = "results/benchmarks/output_watch.json"


def reasons() -> str:
    return table(("reason", "meaning"), [(f"`{name}`", meaning) for name, meaning in REASONS.items()])


def _watched(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{row['texts']:,}",
        f"{row['tokens']:,}",
        str(row["alarms"]),
        f"{row.get('tokens_saved', 0):,}",
    )


def watched() -> str:
    """False alarms, what is ended where a model runs on, and pictures sent again and again."""
    result = read(_WATCHED)
    rows, header = result["rows"], ("text", "answers", "tokens", "ended", "tokens saved")
    texts = [_watched(f"this repository's {name}", row) for name, row in rows["texts"].items()]
    texts.append(_watched("fovea-nano's answers", rows["answers"]))
    texts.append(_watched("fovea-nano with its end token forbidden", rows["running_on"]))
    pictures = [
        (
            name,
            f"{row['alarms']} of {row['ordinary_requests']:,}",
            f"{row['replays']['allow']}, {row['replays']['cap']}, {row['replays']['throttle']}",
            f"{row['tokens_written']:,} of {row['tokens_asked']:,}",
        )
        for name, row in rows["pictures"].items()
    ]
    asked = (
        "traffic",
        "ordinary requests capped",
        "20 replays: let through, capped, refused",
        "tokens the replays got",
    )
    cost = f"A token costs {rows['microseconds_per_token']} µs of CPU, whatever came before it."
    source = f"`{result['command']}`, one thread of {result['machine']['processor']}."
    return "\n\n".join([table(header, texts), table(asked, pictures), f"{cost} {source}"])


SECTIONS: dict[str, Callable[[], str]] = {
    "safety-media": lambda: limits_table(MediaPolicy),
    "safety-reasons": reasons,
    "safety-keys": lambda: limits_table(KeyLimits),
    "safety-watch": lambda: limits_table(WatchSettings),
    "safety-pictures": lambda: limits_table(DigestSettings),
    "safety-measured": watched,
}
