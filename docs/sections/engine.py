"""The engine: backends, figures and speed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from foveate.engine.attention import BACKENDS
from foveate.engine.statistics import EngineStatistics, RequestStatistics
from sections.markdown import ROOT, percent, read, spread, table

# What is compared, where its ratio is found (part, key, key), and the target.
_ENGINE_RATIOS = (
    ("throughput over `generate`, one by one", ("throughput", "ratios", "sequential"), 5.0),
    ("throughput over its best static batches", ("throughput", "ratios", "static"), 1.8),
    ("throughput over vLLM on CPU", ("throughput", "ratios", "vllm"), 1.0),
    ("throughput over OpenVINO GenAI (LLaVA's shape)", ("openvino", "ratios", "openvino"), 1.0),
    ("one request: decoding over a loop with a static cache", ("decode", "ratios", "static cache"), 0.95),
    ("one request: decoding over a loop with a dynamic cache", ("decode", "ratios", "dynamic cache"), None),
    ("one request: decoding, int8 weights over full precision", ("decode", "int8_over_full_precision"), 1.6),
    ("first token: new picture over the same again", ("repeated_image", "ratios", "same question"), 5.0),
    ("first token: ... with another question", ("repeated_image", "ratios", "other question"), 5.0),
)
_ENGINE_RESULT = "results/benchmarks/engine.json"
_FASTEST = "cpu-native"
_ENGINE_PICTURE = "docs/images/engine.png"


def _at(figures: dict[str, Any], keys: Sequence[str]) -> dict[str, Any] | None:
    """What stands under the keys; None where it was not measured."""
    found: Any = figures
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _ratio(figures: dict[str, Any], keys: Sequence[str]) -> str:
    found = _at(figures, keys)
    if found is None:  # with the reason where the result file has one: not installed, failed
        return str(figures.get(keys[0], {}).get("not_measured", "not measured")).split(":")[0]
    return spread(found)


def _agreement(figures: dict[str, Any]) -> str:
    rows = [
        f"{name} {percent(row['identical'])}"
        for part in ("throughput", "openvino")
        for name, row in (_at(figures, (part, "agreement")) or {}).items()
    ]
    return ", ".join(rows) or "not measured"


def _latencies(kind: str, figures: dict[str, Any]) -> list[list[str]]:
    found = _at(figures, ("poisson",))
    if found is None or "foveate" not in found:
        return []
    return [
        [
            f"{kind}, {name}",
            *(
                f"{found[name][what][share]:.2f} s"
                for what in ("first_token", "end")
                for share in ("p50", "p95")
            ),
        ]
        for name in ("foveate", "sequential")
    ]


def engine_short() -> str:
    """The comparisons with others, for the dtype each was measured in."""
    shown = {
        "throughput": "bfloat16",
        "openvino": "float32",
        "decode": "bfloat16",
        "repeated_image": "bfloat16",
    }
    figures = read(_ENGINE_RESULT)["rows"]["smolvlm"]
    rows = [
        (what, shown[keys[0]], _ratio(figures[shown[keys[0]]], keys))
        for what, keys, _ in _ENGINE_RATIOS
        if "int8" not in what and "dynamic" not in what
    ]
    return table(("SmolVLM-256M's shape on two cores", "dtype", "times, median (spread)"), rows)


def engine_speed(path: str = _ENGINE_RESULT) -> str:
    """Ratios with their spread and latencies, a column for each model and dtype that was measured."""
    if not (ROOT / path).is_file():
        return "Not measured yet: `python benchmarks/engine.py --json` writes the figures."
    measured = {
        f"{model}, {dtype}": figures
        for model, by_dtype in read(path)["rows"].items()
        for dtype, figures in by_dtype.items()
    }
    rows = [
        [
            what,
            *(_ratio(figures, keys) for figures in measured.values()),
            "" if target is None else f"{target}",
        ]
        for what, keys, target in _ENGINE_RATIOS
    ]
    rows.append(["answers identical to", *(_agreement(figures) for figures in measured.values()), ""])
    parts = [table(("ratio: median (spread)", *measured, "target"), rows)]
    latencies = [row for kind, figures in measured.items() for row in _latencies(kind, figures)]
    if latencies:
        header = ("random arrivals", "first token: p50", "p95", "end: p50", "p95")
        parts.append(table(header, latencies))
    if (ROOT / _ENGINE_PICTURE).is_file():
        parts.append("![Tokens a second and latency](images/engine.png)")
    abouts = [part["measured"] for figures in measured.values() for part in figures.values()]
    machines = sorted({f"{about['threads']} threads of {about['processor']}" for about in abouts})
    return "\n\n".join([*parts, f"`python benchmarks/engine.py`, {'; '.join(machines)}."])


def attention_speed() -> str:
    """Milliseconds of the first backend, and how many times as long the others take."""
    rows = [
        [
            row["dtype"],
            str(row["sequences"]),
            str(row["tokens"]),
            f"{row['milliseconds'][_FASTEST]['median']:.1f} ms",
            *(
                f"{over['median']:.2f} ({over['minimum']:.2f} to {over['maximum']:.2f})"
                for over in row["over"].values()
            ),
        ]
        for row in read("results/benchmarks/attention.json")["rows"]
        if row["tokens"] in (256, 2048)
    ]
    others = list(read("results/benchmarks/attention.json")["rows"][0]["over"])
    header = ("dtype", "sequences", "tokens each", _FASTEST, *(f"{name}: times as long" for name in others))
    return table(header, rows)


def preprocessing() -> str:
    result = read("results/benchmarks/preprocessing.json")
    [row] = result["rows"]
    times = {name: arm["median_milliseconds"] for name, arm in row["time_to_first_token"].items()}
    sooner = row["in_line_over_threads"]
    width, height = row["pixels"]
    spread = f"{sooner['median']:.0f} times as long, {sooner['minimum']:.0f} to {sooner['maximum']:.0f}"
    return (
        f"A text request that comes right after {row['pictures']} pictures of {width} × {height} gets its first token "
        f"after {times['threads']:.0f} ms; after {times['alone']:.0f} ms without the pictures, and after "
        f"{times['in line']:.0f} ms where the loop prepares them itself ({spread}; `{result['command']}`)."
    )


def attention_backends() -> str:
    """In order of preference."""
    rows = [
        (
            f"`{name}`",
            f"`attention/{backend.__module__.rpartition('.')[2]}.py`",
            backend.purpose,
            backend.where,
        )
        for name, backend in BACKENDS.items()
    ]
    return table(("name", "file", "what it does", "where"), rows)


def _attributes(record: type) -> str:
    """A record's attributes as its docstring tells them."""
    text = inspect.cleandoc(record.__doc__ or "").split("Attributes:\n", 1)[1]
    rows = [
        (", ".join(f"`{name}`" for name in names.split(", ")), " ".join(meaning.split()))
        for names, meaning in re.findall(
            r"^    (\w[\w, ]*): (.*?)(?=^    \w|\Z)", text, re.DOTALL | re.MULTILINE
        )
    ]
    return table(("figure", "meaning"), rows)


SECTIONS: dict[str, Callable[[], str]] = {
    "attention-backends": attention_backends,
    "attention-speed": attention_speed,
    "engine-short": engine_short,
    "engine-speed": engine_speed,
    "preprocessing": preprocessing,
    "engine-statistics": lambda: _attributes(EngineStatistics),
    "request-statistics": lambda: _attributes(RequestStatistics),
}
