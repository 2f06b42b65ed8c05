"""The world and fovea-nano."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sections.markdown import ROOT, percent, read, table

NANO = ROOT / "src" / "foveate" / "assets" / "fovea-nano"


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


SECTIONS: dict[str, Callable[[], str]] = {
    "nano-evaluation": nano_evaluation,
    "nano-short": nano_short,
    "nano-model": nano_model,
    "nano-run": nano_run,
    "world-throughput": world_throughput,
    "train-attention": train_attention,
}
