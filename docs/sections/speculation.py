"""What guesses gain."""

from __future__ import annotations

from collections.abc import Callable

from sections.markdown import ROOT, percent, read, spread, table

_RUNS = {
    "speculation-wide-nano-bfloat16-head": "SmolVLM-256M's weight, bfloat16, the head",
    "speculation-wide-nano-float32-head": "SmolVLM-256M's weight, float32, the head",
    "speculation-fovea-nano-float32-head": "fovea-nano, float32, the head",
    "speculation-wide-nano-bfloat16-ngram": "SmolVLM-256M's weight, bfloat16, n-grams",
}


def speed() -> str:
    """A line for each target and batch size that was measured."""
    lines, commands = [], []
    for name, title in _RUNS.items():
        path = f"results/benchmarks/{name}.json"
        if not (ROOT / path).is_file():
            continue
        result = read(path)
        commands.append(f"`{result['command']}`")
        for batch, row in result["rows"]["batches"].items():
            fixed, adaptive = row["fixed"], row["adaptive"]
            cells = (
                spread(fixed),
                spread(adaptive),
                f"{fixed['accepted_length']:.2f}",
                percent(row["identical"]),
            )
            lines.append((title, batch, *cells))
    header = (
        "target",
        "requests at once",
        "always as deep",
        "as deep as pays",
        "tokens a pass",
        "same answers",
    )
    return f"{table(header, lines)}\n\n{'; '.join(commands)}."


def short() -> str:
    """A sentence for the front page."""
    batches = read("results/benchmarks/speculation-wide-nano-bfloat16-head.json")["rows"]["batches"]
    gains = ", ".join(f"{spread(row['adaptive'])} at {batch}" for batch, row in batches.items())
    return (
        "Decoding over plain decoding by requests at once, fovea-nano's listings in a body as heavy as "
        f"SmolVLM-256M's, bfloat16 on two cores: {gains}."
    )


SECTIONS: dict[str, Callable[[], str]] = {"speculation-speed": speed, "speculation-short": short}
