"""Scenes per CPU second, so per core: sampling, drawing at 168 x 168 and two questions each.

Run: python benchmarks/world_throughput.py
"""

from __future__ import annotations

import statistics
import time

import machine
from foveate.world import make_example

SCENES, ROUNDS, GOAL = 400, 5, 150


def main() -> None:
    rows = []
    for domain in ("shapes", "page"):
        for difficulty in (1, 2, 3):
            rates = []
            for round_number in range(ROUNDS):
                started = time.process_time()
                for index in range(SCENES):
                    make_example(
                        domain, "train", round_number * SCENES + index, questions=2, difficulty=difficulty
                    )
                rates.append(SCENES / (time.process_time() - started))
            row = {
                "domain": domain,
                "difficulty": difficulty,
                "scenes_per_second": {
                    "minimum": round(min(rates)),
                    "median": round(statistics.median(rates)),
                    "maximum": round(max(rates)),
                },
                "goal": GOAL,
            }
            print(row)
            rows.append(row)
    print(machine.write("world_throughput", "python benchmarks/world_throughput.py", rows))


if __name__ == "__main__":
    main()
