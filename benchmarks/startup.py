"""From a shell to an answer: processor seconds of `foveate --help` and of a first answer, against plain transformers.

Run: python benchmarks/startup.py [--repetitions N]

Each arm is a process from its start to its end. "transformers" loads the same checkpoint, reads the same picture and
generates as many tokens; "import" only imports torch and transformers, which no tool that uses them can do without.
Arms alternate; processor time is what the wall clock shows on a free core.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import machine
from foveate.cli.inventory import embedded_folder

EXAMPLE = str(Path(__file__).parents[1] / "examples" / "shapes.png")
IMPORTS = "import torch, transformers; from transformers import LlavaForConditionalGeneration, LlavaProcessor"
PLAIN = f"""
{IMPORTS}
from PIL import Image
import sys
model = LlavaForConditionalGeneration.from_pretrained(sys.argv[1], dtype=torch.float32)
processor = LlavaProcessor.from_pretrained(sys.argv[1], use_fast=False)
turn = [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": "How many?"}}]}}]
text = processor.apply_chat_template(turn, add_generation_prompt=True)
inputs = processor(images=Image.open(sys.argv[2]).convert("RGB"), text=text, return_tensors="pt")
print(processor.decode(model.generate(**inputs, max_new_tokens=1)[0, -1]))
"""


def arms() -> dict[str, list[str]]:
    model = str(embedded_folder())
    cli = [sys.executable, "-m", "foveate.cli"]
    return {
        "help": [*cli, "--help"],
        "answer": [*cli, "chat", model, EXAMPLE, "How many?", "--max-tokens", "1"],
        "import": [sys.executable, "-c", IMPORTS],
        "transformers": [sys.executable, "-c", PLAIN, model, EXAMPLE],
    }


def processor_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    chosen = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in arms()}
    for _ in range(chosen.repetitions):
        for name, command in arms().items():
            seconds[name].append(processor_seconds(command))
    rows = {name: {"median": statistics.median(each), "seconds": each} for name, each in seconds.items()}
    rows["answer"]["of transformers"] = statistics.median(
        ours / theirs for ours, theirs in zip(seconds["answer"], seconds["transformers"], strict=True)
    )
    for name, row in rows.items():
        print(f"{name:13} {row['median']:.2f} s")
    print(f"answer / transformers: {rows['answer']['of transformers']:.2f}")
    machine.write("startup", f"python benchmarks/startup.py --repetitions {chosen.repetitions}", rows)


if __name__ == "__main__":
    main()
