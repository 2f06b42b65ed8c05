"""Writes the generated parts of README.md and docs/*.md from code and committed result files.

`python docs/generate.py` rewrites what stands between `<!-- begin NAME -->` and `<!-- end -->`; with `--check` it
only compares, names the files that are out of step and exits with 1. `make docs` runs it; a test checks it.
"""

from __future__ import annotations

import inspect
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from foveate.claims import registry, results, systems
from foveate.claims.reporting import estimate_rows
from foveate.cli.reference import section as command_section
from foveate.cli.verbs import VERBS
from foveate.engine.attention import BACKENDS
from foveate.engine.statistics import EngineStatistics, RequestStatistics
from foveate.media import limits_table
from foveate.models.registry import FAMILIES
from foveate.models.table import render as parity_table
from foveate.reduce.table import families_table, methods_table

ROOT = Path(__file__).parents[1]
NANO = ROOT / "src" / "foveate" / "assets" / "fovea-nano"
SECTION = re.compile(r"(<!-- begin ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read(path: str) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


# -- fovea-nano -------------------------------------------------------------------------------------------


def _accuracy_row(name: str, row: dict[str, Any]) -> list[str]:
    low, high = row["interval"]
    target = row.get("target")
    met = (
        ""
        if target is None
        else f"{100 * target:.0f} % {'reached' if row['accuracy'] >= target else 'missed'}"
    )
    return [
        name,
        percent(row["accuracy"]),
        f"{100 * low:.1f} to {100 * high:.1f}",
        met,
        percent(row["chance"]),
        percent(row["no_image"]),
        str(row["unparsed"]),
        str(row["questions"]),
    ]


_ACCURACY = ("family", "accuracy", "95 % interval", "target", "chance", "no image", "unparsed", "questions")


def nano_evaluation() -> str:
    result = read("src/foveate/assets/fovea-nano/evaluation.json")
    parts = []
    for level, rows in result["difficulty"].items():
        body = table(_ACCURACY, [_accuracy_row(name, row) for name, row in rows.items()])
        parts.append(f"**Difficulty {level}**\n\n{body}")
    tags = table(
        _ACCURACY,
        [_accuracy_row(name, row) for name, row in result["tags"].items() if row["questions"] >= 20],
    )
    parts.append(f"**By tag, difficulty 2** (tags with 20 questions or more)\n\n{tags}")
    levels = ",".join(result["difficulty"])
    command = f"foveate eval-nano --run --per-family {result['per_family']} --difficulty {levels}"
    return "\n\n".join([*parts, f"Measured by `{command}`."])


def nano_short() -> str:
    rows = read("src/foveate/assets/fovea-nano/evaluation.json")["difficulty"]["2"]
    return table(_ACCURACY[:6], [_accuracy_row(name, row)[:6] for name, row in rows.items()])


def nano_model() -> str:
    config = json.loads((NANO / "config.json").read_text(encoding="utf-8"))
    vision, text = config["vision_config"], config["text_config"]
    weights = (NANO / "model.safetensors").stat().st_size
    grid = vision["image_size"] // vision["patch_size"]
    rows = [
        ("picture", f"{vision['image_size']} × {vision['image_size']}, padded to a square, never cropped"),
        ("visual tokens", f"{grid * grid} ({grid} × {grid} patches of {vision['patch_size']} pixels)"),
        ("tower", f"CLIP, {vision['num_hidden_layers']} layers, width {vision['hidden_size']}, CLS token"),
        ("language model", f"Llama, {text['num_hidden_layers']} layers, width {text['hidden_size']}"),
        ("vocabulary", f"{text['vocab_size']} byte-level BPE tokens"),
        ("context", f"{text['max_position_embeddings']} tokens"),
        ("weights", f"{weights / 1e6:.1f} MB of float16 safetensors"),
    ]
    return table(("", ""), rows)


def nano_run() -> str:
    recipe = json.loads((NANO / "recipe.json").read_text(encoding="utf-8"))
    parts = [part for part in recipe["history"] if "settings" in part]
    starts = [f"from step {part['from_step']}" for part in parts]
    names = dict.fromkeys(name for part in parts for name in part["settings"])
    rows = [(f"`{name}`", *(str(part["settings"].get(name, "")) for part in parts)) for name in names]
    total = f"{recipe['steps']} steps on {recipe['pictures']} pictures; the log is `results/nano/log.jsonl`."
    return f"{table(('setting', *starts), rows)}\n\n{total}"


# -- benchmarks and families --------------------------------------------------------------------------------


def world_throughput() -> str:
    result = read("results/benchmarks/world_throughput.json")
    rows = [
        (
            row["domain"],
            str(row["difficulty"]),
            *(str(row["scenes_per_second"][key]) for key in ("minimum", "median", "maximum")),
        )
        for row in result["rows"]
    ]
    body = table(("domain", "difficulty", "scenes/s: minimum", "median", "maximum"), rows)
    return f"{body}\n\nPer CPU second of one core of {result['machine']['processor']}."


def train_attention() -> str:
    result = read("results/benchmarks/train_attention.json")
    rows = [
        (
            row["case"],
            f"{row['milliseconds']} ms",
            f"{row['fused_milliseconds']} ms",
            f"{row['fused_over_ours']} ×",
        )
        for row in result["rows"]
    ]
    body = table(("forward and backward", "explicit", "fused", "ratio"), rows)
    return (
        f"{body}\n\n`python benchmarks/train_attention.py`, one thread of {result['machine']['processor']}."
    )


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
    return f"{found['median']:.2f} ({found['minimum']:.2f} to {found['maximum']:.2f})"


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


# -- quantisation -------------------------------------------------------------------------------------------

_QUANTISATION_SPEED = "results/benchmarks/quantisation.json"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def quantisation_accuracy() -> str:
    result = read("results/quantisation.json")
    rows = []
    for name, row in result["rows"].items():
        low, high = row["interval"]
        compared = ["", "", "", ""]
        if "difference" in row:
            first, last = row["difference_interval"]
            compared = [
                f"{_points(row['difference'])} ({_points(first)} to {_points(last)})",
                percent(row["same_replies"]),
                f"{row['logits_largest_difference']:.2f}",
                percent(row["logits_relative_difference"]),
            ]
        size = f"{row['weight_bytes'] / 1e6:.1f} MB"
        rows.append([name, size, percent(row["accuracy"]), f"{100 * low:.1f} to {100 * high:.1f}", *compared])
    header = (
        "weights",
        "memory",
        "accuracy",
        "95 % interval",
        "points from float32 (95 % interval)",
        "same replies",
        "largest logit difference",
        "logits: norm of the difference",
    )
    asked = (
        f"{next(iter(result['rows'].values()))['questions']} questions of difficulty {result['difficulty']}"
    )
    return f"{table(header, rows)}\n\n{result['model']}, {asked}, all families alike. `{result['command']}`."


def _over_float32(found: dict[str, Any]) -> str:
    return f"{found['median']:.2f} ({found['minimum']:.2f} to {found['maximum']:.2f})"


def quantisation_models() -> str:
    result = read(_QUANTISATION_SPEED)
    rows = [
        [row["model"], _over_float32(row["decode"]), _over_float32(row["prompt"]), row["weights"]]
        for row in result["rows"]["models"]
    ]
    header = ("dtype and weights", "decoding one answer", "reading its prompt", "what became of the weights")
    return f"{table(header, rows)}\n\n`{result['command']}`, one thread of {result['machine']['processor']}."


def quantisation_kernels() -> str:
    """Medians over all shapes, a line for each number of rows."""
    by_rows: dict[int, dict[str, list[float]]] = {}
    for row in read(_QUANTISATION_SPEED)["rows"]["kernels"]:
        for name, arm in row["arms"].items():
            by_rows.setdefault(row["rows"], {}).setdefault(name, []).append(arm["median"])
    names = [name for name in next(iter(by_rows.values())) if name != "float32"]
    rows = [
        [str(n), *(f"{statistics.median(arms[name]):.2f}" for name in names)] for n, arms in by_rows.items()
    ]
    return table(("rows", *names), rows)


def families_short() -> str:
    figures = read("results/parity.json")["families"]
    rows = [
        (
            f.name,
            ", ".join(f"`{t}`" for t in f.model_types),
            f.positions,
            f"{figures[f.name]['logit_difference']:.0e}",
        )
        for f in FAMILIES
    ]
    return table(("family", "`model_type`", "positions", "largest logit difference from transformers"), rows)


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


# -- claims -------------------------------------------------------------------------------------------------

CLAIMS = ROOT / "results" / "claims"


def claims_results() -> str:
    parts = []
    for name in registry.CLAIMS:
        claim, result = registry.get(name), results.read(CLAIMS, name)
        parts.append(f"**{name}** ({claim.system}): {systems.claim_state(name, CLAIMS)}. {claim.statement}")
        if result is not None:
            header = ("quantity", "measured", "95 % interval", "margin", "met")
            parts.append(table(header, estimate_rows(result)))
            parts.append(
                f"`{result['command']}`, {len(result['seeds'])} seeds, {result['machine']['processor']}. "
                f"[Arms and plot](../results/claims/{name}.md)."
            )
    return "\n\n".join(parts)


def _reference(system: systems.System) -> str:
    title = system.title or ""
    return f"[{title}](https://arxiv.org/abs/{system.arxiv})" if system.arxiv else title


def claims_systems() -> str:
    rows = [
        (
            row.system.name,
            row.system.about,
            _reference(row.system),
            row.system.room if row.system.file is None else f"{row.system.room}: `{row.system.file}`",
            row.state,
        )
        for row in systems.standings(CLAIMS)
    ]
    return table(("system", "what it does", "paper", "room", "state here"), rows)


def claims_short() -> str:
    rows = systems.standings(CLAIMS)
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row.state, []).append(row.system.name)
    counts = [
        (state, str(len(names)), "" if state == systems.NOT_BUILT else ", ".join(names))
        for state, names in sorted(named.items(), key=lambda item: item[0] == systems.NOT_BUILT)
    ]
    return table((f"of {len(rows)} published systems", "", ""), counts)


SECTIONS: dict[str, Callable[[], str]] = {
    "claims-results": claims_results,
    "claims-short": claims_short,
    "claims-systems": claims_systems,
    "attention-backends": attention_backends,
    "request-statistics": lambda: _attributes(RequestStatistics),
    "engine-statistics": lambda: _attributes(EngineStatistics),
    "families": lambda: parity_table(read("results/parity.json")),
    "families-short": families_short,
    "limits": limits_table,
    "nano-evaluation": nano_evaluation,
    "nano-short": nano_short,
    "nano-model": nano_model,
    "nano-run": nano_run,
    "world-throughput": world_throughput,
    "reduce-families": families_table,
    "reduce-methods": methods_table,
    "train-attention": train_attention,
    "engine-speed": engine_speed,
    "quantisation-accuracy": quantisation_accuracy,
    "quantisation-models": quantisation_models,
    "quantisation-kernels": quantisation_kernels,
}


def section(name: str) -> str:
    """One generated part; names that are no key of SECTIONS are verbs of the command line."""
    if name in SECTIONS:
        return SECTIONS[name]()
    if name in ("verbs", "session") or name.split()[0] in VERBS:
        return command_section(name)
    raise KeyError(f"no generated part is called {name!r}; known: {', '.join(SECTIONS)} and the verbs")


def refresh(document: str) -> str:
    """The document with every generated part made anew."""
    return SECTION.sub(lambda match: f"{match[1]}{section(match[2]).strip()}\n{match[3]}", document)


def documents() -> list[Path]:
    return [ROOT / "README.md", NANO / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        fresh = refresh(text)
        if fresh != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                path.write_text(fresh, encoding="utf-8")
    for path in stale:
        print(f"{path} {'is out of step; run: make docs' if check else 'rewritten'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
