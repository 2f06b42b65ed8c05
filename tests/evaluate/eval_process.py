"""A run in a process of its own, for a test to stop: `eval_process.py FOLDER SECONDS_A_REPLY`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from eval_fakes import Adder, Sums

from foveate.evaluate import planning
from foveate.evaluate.planning import RunPlan, TaskChoice
from foveate.evaluate.runner import Runner, begin


class Slow(Adder):
    async def complete(self, messages, parameters):
        await asyncio.sleep(float(sys.argv[2]))
        return await super().complete(messages, parameters)


signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background starts programs deaf to it
planning.task_class = lambda name: Sums
planning.get_task = lambda name, **settings: Sums(**settings)
plan = RunPlan(tasks=(TaskChoice(name="sums", settings={"count": 60}),), style="plain")
model = Slow(failing=("40 + 1",))
folder, parts = begin(plan, model, Path(sys.argv[1]), machine={}, command="test", resume=True)
asyncio.run(Runner(model, parts, folder, concurrency=4).run())
