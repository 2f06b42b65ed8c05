"""Makes the pictures of the docs from the code: run `python docs/pictures.py` in the repository.

answers.png    what fovea-nano says about the files in examples/, with the true answers beside it
world.png      a contact sheet of the world's training pictures
aerial.png     one aerial scene of each place, two of each difficulty
overlay.png    one picture at three visual budgets, what the language model saw of it and its answers
pareto.png     right answers of fovea-nano against visual tokens kept, from the bench's result file
engine.png     tokens a second of the engine and its peers with their spread, and latency, from the result file
stream-latency.png  time and memory of a stream by its seconds, window and full attention, from the claim's result file
eval-report.png  the report of a small run of `foveate eval`, as a browser shows it (needs an installed Chromium)
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from foveate.cli.main import run as foveate
from foveate.evaluate.bench.plots import draw_pareto
from foveate.evaluate.nano import answer
from foveate.models import load
from foveate.reduce import generate_reduced, get_reducer, reduce_prompt
from foveate.reduce.overlay import draw_overlay
from foveate.world import make_example, render, sample_scene
from foveate.world.aerial_kinds import PLACES
from foveate.world.dataset import contact_sheet

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
CELL, LINE = 250, 17
BENCH = ROOT / "results" / "bench" / "fovea-nano" / "summary.json"
ENGINE = ROOT / "results" / "benchmarks" / "engine.json"
STREAM = ROOT / "results" / "claims" / "streaming-window.json"
OURS, THEIRS = "#1f6f8b", "#b9b9b9"


def answers() -> None:
    """Each example with its questions; a reply that is not the true one is crossed and the truth given."""
    model = load()
    rows = json.loads((ROOT / "examples" / "questions.json").read_text(encoding="utf-8"))
    by_image: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows:
        picture = Image.open(ROOT / "examples" / row["image"]).convert("RGB")
        reply = answer(model, row["question"], picture)
        by_image.setdefault(row["image"], []).append((row["question"], reply, row["answer"]))
    font = ImageFont.load_default(size=13)
    columns = [[_lines(q, reply, truth) for q, reply, truth in asked] for asked in by_image.values()]
    height = CELL + 12 + LINE * max(sum(len(lines) for lines in column) for column in columns)
    per_row = 3
    rows_of_cells = -(-len(columns) // per_row)
    sheet = Image.new("RGB", (per_row * (CELL + 20), rows_of_cells * height), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for place, (name, column) in enumerate(zip(by_image, columns, strict=True)):
        left, top = (place % per_row) * (CELL + 20) + 10, (place // per_row) * height + 6
        picture = Image.open(ROOT / "examples" / name).convert("RGB")
        picture.thumbnail((CELL, CELL))
        sheet.paste(picture, (left, top))
        y = top + CELL + 4
        for lines in column:
            for text, shade in lines:
                draw.text((left, y), text, fill=shade, font=font)
                y += LINE
    sheet.save(IMAGES / "answers.png", optimize=True)


def _lines(question: str, reply: str, truth: str) -> list[tuple[str, tuple[int, int, int]]]:
    lines = [(text, (90, 90, 90)) for text in textwrap.wrap(question, 36)]
    if reply == truth:
        return [*lines, (f"   {reply}", (0, 90, 40))]
    return [*lines, (f"   {reply}  (true answer: {truth})", (170, 0, 0))]


def world() -> None:
    examples = [
        make_example("page" if i % 3 == 2 else "shapes", "train", i, questions=3, difficulty=1 + i % 3)
        for i in range(12)
    ]
    contact_sheet(examples).save(IMAGES / "world.png", optimize=True)


def aerial() -> None:
    cell = 320
    sheet = Image.new("RGB", (3 * (cell + 8) - 8, 2 * (cell + 8) - 8), (255, 255, 255))
    for place, name in enumerate(PLACES):
        scenes = (sample_scene("aerial", "train", i, difficulty=1 + place % 3) for i in itertools.count())
        scene = next(each for each in scenes if each.place == name)
        picture = Image.fromarray(render(scene, 1024).rgb).resize((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(picture, ((place % 3) * (cell + 8), (place // 3) * (cell + 8)))
    sheet.quantize(192).save(IMAGES / "aerial.png", optimize=True)


def overlay() -> None:
    """fovea-nano asked the same with all, a quarter and a tenth of the visual tokens."""
    model, question = load(), "Is there a star?"
    picture = Image.open(ROOT / "examples" / "shapes.png").convert("RGB")
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    panels = []
    for budget in ("full", "25%", "10%"):
        prompt = model.prepare(messages, images=[picture])
        reduced = reduce_prompt(model, prompt, None, get_reducer("fastervlm"), budget, question=question)
        (keep,) = reduced.keep_maps
        reply = "".join(token.text for token in generate_reduced(model, reduced)).strip()
        text = f"{keep.count} of {keep.total} tokens: {reply}"
        panel = draw_overlay(picture, keep, caption=f"{question}  {text}")
        panels.append(panel.resize((panel.width // 2, panel.height // 2), Image.Resampling.LANCZOS))
    sheet = Image.new("RGB", (sum(panel.width for panel in panels), panels[0].height))
    for index, panel in enumerate(panels):
        sheet.paste(panel, (index * panel.width, 0))
    sheet.save(IMAGES / "overlay.png", optimize=True)


def pareto() -> None:
    """The plot of the committed run of `foveate bench`."""
    draw_pareto(json.loads(BENCH.read_text(encoding="utf-8")), IMAGES / "pareto.png")


def engine(result: Path = ENGINE, target: Path = IMAGES / "engine.png") -> None:
    """A row for each model and dtype measured: throughput bars from smallest to largest, latency bars."""
    from matplotlib.figure import Figure

    rows = [
        (f"{model}, {dtype}", figures)
        for model, by_dtype in json.loads(result.read_text(encoding="utf-8"))["rows"].items()
        for dtype, figures in by_dtype.items()
        if "tokens_per_second" in figures.get("throughput", {})
    ]
    if not rows:
        return
    sheet = Figure(figsize=(9, 2.6 * len(rows)), layout="constrained")
    for (name, figures), (left, right) in zip(rows, sheet.subplots(len(rows), 2, squeeze=False), strict=True):
        speeds = dict(sorted(figures["throughput"]["tokens_per_second"].items()))
        medians = [speed["median"] for speed in speeds.values()]
        below = [speed["median"] - speed["minimum"] for speed in speeds.values()]
        above = [speed["maximum"] - speed["median"] for speed in speeds.values()]
        colours = [OURS if arm == "foveate" else THEIRS for arm in speeds]
        left.barh(list(speeds), medians, xerr=[below, above], color=colours, ecolor="#333333", capsize=3)
        left.set_title(f"{name}: output tokens a second", fontsize=9)
        left.invert_yaxis()
        right.set_title("seconds under random arrivals: p50, line to p95", fontsize=9)
        _latency_bars(right, figures.get("poisson", {}))
    sheet.savefig(target, dpi=110)


def _latency_bars(axes: Any, figures: dict[str, Any]) -> None:
    """p50 as a bar and p95 as a line to it, for each arm's first token and end."""
    if "foveate" not in figures:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
        return
    bars = [
        (f"{arm}: {'first token' if what == 'first_token' else 'end'}", arm, figures[arm][what])
        for what in ("first_token", "end")
        for arm in ("foveate", "sequential")
    ]
    medians = [times["p50"] for _, _, times in bars]
    tails = [times["p95"] - times["p50"] for _, _, times in bars]
    colours = [OURS if arm == "foveate" else THEIRS for _, arm, _ in bars]
    labels = [label for label, _, _ in bars]
    axes.barh(labels, medians, xerr=[[0] * len(bars), tails], color=colours, ecolor="#333333", capsize=3)
    axes.invert_yaxis()


def stream(result: Path = STREAM, target: Path = IMAGES / "stream-latency.png") -> None:
    """Processor time a second and memory against the seconds watched, every run of the window and of full attention."""
    from matplotlib.figure import Figure

    rows = json.loads(result.read_text(encoding="utf-8"))["rows"]
    sheet = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = sheet.subplots(1, 2)
    for arm, colour, label in (("full", THEIRS, "nothing leaves"), ("window", OURS, "sinks and windows")):
        for row in (row for row in rows if row["arm"] == arm):
            log, name = row["log"], label if row["seed"] == rows[0]["seed"] else None
            left.plot(log["second"], log["processor_ms"], color=colour, label=name, linewidth=1)
            right.plot(log["second"], [held / 2**20 for held in log["bytes"]], color=colour, linewidth=1)
    left.set(title="processor milliseconds a second", xlabel="second of the stream", ylim=(0, None))
    right.set(title="MiB of keys and values", xlabel="second of the stream", ylim=(0, None))
    left.legend(fontsize=8)
    sheet.savefig(target, dpi=110, metadata={"Software": None})


def eval_report() -> None:
    """The upper part of a report, with the worst answers of its first task unfolded."""
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        asked = ["vpbench-markers", "world", "pope", "detection"]
        varied = ["--variants", "markers:radius-1+radius-15+square+green", "--limit", "100"]
        assert foveate(["eval", "run", *asked, *varied, "--output", str(folder)]) == 0
        with sync_playwright() as playwright:  # not sooner: while it is open an event loop runs
            window = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = window.new_page(viewport={"width": 1080, "height": 1500})
            page.goto((folder / "report.html").as_uri())
            page.screenshot(path=IMAGES / "eval-report.png")
            window.close()


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    world()
    aerial()
    answers()
    overlay()
    eval_report()
    if BENCH.is_file():
        pareto()
    if ENGINE.is_file():
        engine()
    if STREAM.is_file():
        stream()
