"""A run's folder, which can be stopped at any moment and gone on with.

run.json        what is asked: model, tasks with settings, style, parameters, variants, sample; versions and machine
samples.jsonl   one line per task, variant and item: what was asked, the reply, its score
failures.jsonl  items without a reply: kind and message; asked again when the run goes on
timings.jsonl   seconds of each reply, and whether it came from the cache

Lines are appended as replies come, so that a killed run loses none; when a run ends, however it does, they are put in
the order of tasks, variants and items. Nothing in samples.jsonl depends on when or how fast a reply came: a run that
was stopped and gone on with gives the same bytes. Owns these four files. Knows no model; the summary is made elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from foveate.evaluate import run_files
from foveate.evaluate.contract import EvaluationError, Item, Reply, Score
from foveate.evaluate.provenance import write_atomically
from foveate.evaluate.run.records import (
    Row,
    last_question,
    messages_digest,
    passing_facts,
    plain,
    reply_to_row,
    score_to_row,
)

SAMPLES, FAILURES, TIMINGS = "samples.jsonl", "failures.jsonl", "timings.jsonl"
FORMAT = 1
Place = tuple[str, str, str]  # task, variant, item
# What a run that goes on must have in common with the one that was begun.
IDENTITY = ("model", "tasks", "variants", "style", "parameters", "limit", "seed")


class RunFolder:
    """One run on disk.

    Attributes:
        run: what run.json holds.
        samples, failures, timings: rows by (task, variant, item).
    """

    def __init__(self, path: Path, run: Row) -> None:
        self.path, self.run = path, run
        self.samples: dict[Place, Row] = {}
        self.failures: dict[Place, Row] = {}
        self.timings: dict[Place, Row] = {}

    @classmethod
    def create(cls, path: Path, run: Mapping[str, Any]) -> RunFolder:
        """A new run; the folder may exist, a run in it may not.

        Raises:
            EvaluationError: it holds a run already.
        """
        run_files.refuse_another(path, EvaluationError)
        folder = cls(path, {"format": FORMAT, **run})
        folder.save_run()
        return folder

    @classmethod
    def open(cls, path: Path, *, to_go_on: bool = False) -> RunFolder:
        """A run that was begun. Its files are read and left as they are, for another process may be at work on them.

        Args:
            to_go_on: cuts off half a line that a killed run left at a file's end, so that lines can follow.

        Raises:
            EvaluationError: there is none, or its files cannot be read.
        """
        with run_files.opened(
            path, EvaluationError, verb="foveate eval", form=FORMAT, fix="Begin it again elsewhere."
        ) as run:
            folder = cls(path, run)
            folder.samples = {_place(row): row for row in run_files.read(path / SAMPLES, cut=to_go_on)}
            # An item that was answered later is in both files while the run is not over.
            failed = {_place(row): row for row in run_files.read(path / FAILURES, cut=to_go_on)}
            folder.failures = {place: row for place, row in failed.items() if place not in folder.samples}
            folder.timings = {_place(row): row for row in run_files.read(path / TIMINGS, cut=to_go_on)}
        return folder

    def resumes(self, run: Mapping[str, Any]) -> None:
        """Checks that this run asks what `run` asks, and notes the code that goes on with it.

        Raises:
            EvaluationError: another model, task, setting, style or sample, naming each.
        """
        kept, asked = _identity(self.run), _identity(json.loads(json.dumps(run)))
        if kept != asked:
            parts = "; ".join(
                _difference(name, kept[name], asked[name]) for name in IDENTITY if kept[name] != asked[name]
            )
            raise EvaluationError(
                f"The run in {self.path} is another one",
                why=parts,
                fix="Ask for the same to go on with it, or name another --output.",
            )
        new = [commit for commit in run["commits"] if commit not in self.run["commits"]]
        if new or self.run["left_out"] != run["left_out"]:
            self.run["commits"] += new
            self.run["left_out"] = run["left_out"]
            self.save_run()

    def save_run(self) -> None:
        """Writes run.json."""
        run_files.save_run(self.path, self.run)

    def add(
        self, task: str, variant: str, item: Item, reply: Reply, score: Score, *, from_cache: bool
    ) -> None:
        """Keeps a reply with its score; a failure of the same item is forgotten."""
        place = {"task": task, "variant": variant, "item": item.id}
        sample = plain(
            {
                **place,
                "cluster": item.cluster,
                "tags": list(item.tags),
                "question": last_question(item.messages),
                "messages": messages_digest(item.messages),
                "target": item.target,
                "reply": reply_to_row(reply),
                "score": score_to_row(score),
            }
        )
        timing = {**place, "from_cache": from_cache, **passing_facts(reply)}
        # The sample last: where it stands, everything does.
        run_files.append(self.path / TIMINGS, [timing])
        run_files.append(self.path / SAMPLES, [sample])
        self.timings[_place(place)] = timing
        self.samples[_place(place)] = sample
        self.failures.pop(_place(place), None)

    def fail(self, task: str, variant: str, item: str, *, kind: str, message: str) -> None:
        """Keeps that an item has no reply: it is counted, never scored."""
        row = {"task": task, "variant": variant, "item": item, "kind": kind, "message": message}
        run_files.append(self.path / FAILURES, [row])
        self.failures[_place(row)] = row

    def keep_asked(self, places: Iterable[Place], parts: list[Row]) -> None:
        """Forgets failures of what is not asked any more, and what was wrong with the data then: rows may have been
        repaired since. Notes in run.json the counts of what is asked now.

        Args:
            places: all that is asked now.
            parts: counts of each task and variant, as `Part.describe` gives them.
        """
        asked = set(places)
        self.failures = {
            place: row for place, row in self.failures.items() if place in asked and row["kind"] != "data"
        }
        self.timings = {place: row for place, row in self.timings.items() if place in asked}
        if self.run.get("parts") != parts:
            self.run["parts"] = parts
            self.save_run()

    def put_in_order(self, places: Iterable[Place]) -> None:
        """Rewrites the files in this order, each whole or not at all."""
        order = {place: number for number, place in enumerate(places)}
        for name, rows in ((SAMPLES, self.samples), (TIMINGS, self.timings), (FAILURES, self.failures)):
            lines = [run_files.line(rows[place]) for place in sorted(rows, key=lambda place: order[place])]
            write_atomically(self.path / name, "".join(lines))

    def replace_samples(self, rows: Mapping[Place, Row]) -> None:
        """Puts these rows in place of those that are there, order kept."""
        self.samples.update(rows)
        write_atomically(self.path / SAMPLES, "".join(map(run_files.line, self.samples.values())))


def _identity(run: Mapping[str, Any]) -> Row:
    """The code that answers is left out: `commits` lists every one that took part."""
    kept = {name: run[name] for name in IDENTITY}
    return {**kept, "model": {name: value for name, value in kept["model"].items() if name != "code"}}


def _difference(name: str, there: Any, here: Any) -> str:
    """What differs, down to the single value."""
    there, here = _by_name(there), _by_name(here)
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
        return "; ".join(_difference(f"{name}.{key}", there.get(key), here.get(key)) for key in keys)
    return f"{name} is {there!r} there, {here!r} here"


def _by_name(value: Any) -> Any:
    """A list of named records as a table."""
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        return {one["name"]: one for one in value}
    return value


def _place(row: Mapping[str, Any]) -> Place:
    return row["task"], row["variant"], row["item"]
