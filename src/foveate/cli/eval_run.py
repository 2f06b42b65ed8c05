"""`foveate eval run`: a model asked the items of tasks, and a report.

Owns flags and what is printed while a run goes on.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foveate.cli.chat import DataType, Quantisation
from foveate.cli.eval_choices import check, choose_tasks, published_command
from foveate.cli.eval_models import ModelFlags, open_model
from foveate.cli.machine import facts
from foveate.cli.progress import progress_bar
from foveate.cli.terminal import note

if TYPE_CHECKING:
    from foveate.evaluate.contract import Model
    from foveate.evaluate.planning import Part
    from foveate.evaluate.run.folder import RunFolder

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def run(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TASKS]...", help="Tasks by name; or --suite.")
    ] = None,
    suite: Annotated[str | None, typer.Option("--suite", help="smoke or full: every task.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="TASK.SETTING=VALUE", help="A task's setting. Repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Folder or hub name; else fovea-nano.")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", help="Ask a server that speaks OpenAI's API instead."),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="The model's name there; else the only one listed.")
    ] = None,
    key_variable: Annotated[
        str | None,
        typer.Option(
            "--key-from",
            metavar="VARIABLE",
            help="Holds the endpoint's key; else OPENAI_API_KEY, if it is set.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Requests a second to the endpoint at most.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", help="Seconds without a byte until a request has failed; else 120."),
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", help="Further tries after failures that may pass; else 4.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="Of pictures sent: png, webp, jpeg:85, webp:80; else png."),
    ] = None,
    body: Annotated[
        str | None,
        typer.Option("--body", metavar="JSON", help="Fields to add to requests; null takes one out."),
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", help="How questions are put; else as suits the model.")
    ] = None,
    variants: Annotated[
        str | None, typer.Option("--variants", help="Also ask in other ways: markers,codec:jpeg-80+webp-80.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="A random sample of so many items of each task.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample, and of sampled answers.")] = 0,
    visual_budget: Annotated[
        str | None, typer.Option("--visual-budget", help="full, auto, N or 25%; else the model's own.")
    ] = None,
    reducer: Annotated[
        str | None, typer.Option("--reducer", help="How tokens are chosen, with --visual-budget.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="Of a reply; else as each task needs.")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 is greedy.")] = 0.0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Items asked at once.")] = 8,
    dtype: Annotated[DataType, typer.Option("--dtype", help="Number format of the weights.")] = "auto",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    quantise: Annotated[
        Quantisation | None, typer.Option("--quantise", help="Weights in 8 or 4 bits.")
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Take known replies from the cache.")
    ] = True,
    give_up_after: Annotated[
        int, typer.Option("--give-up-after", min=1, help="Failures of the model in a row.")
    ] = 20,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the run; else runs/eval-NAME.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    as_json: Json = False,
) -> None:
    """Ask a model the items of tasks and write a report; stop it at any moment and go on with --resume."""
    from foveate.evaluate.contract import EvaluationError, Parameters
    from foveate.evaluate.perturb.axes import parse_variants
    from foveate.evaluate.perturb.variant import BASELINE
    from foveate.evaluate.planning import RunPlan
    from foveate.evaluate.styles import default_style

    chosen = choose_tasks(names or [], suite, settings or [])
    place = _own_place(names or [], suite) if output is None else output
    if (place / "run.json").exists() and not resume:  # told before a model is loaded for nothing
        raise EvaluationError(
            f"{place} holds a run already", fix="Go on with it by --resume, or name another --output."
        )
    check(style, visual_budget, reducer)
    parameters = Parameters(temperature=temperature, seed=seed, visual_budget=visual_budget, reducer=reducer)
    ways = (BASELINE,) if variants is None else parse_variants(variants)
    asked = open_model(
        ModelFlags(
            model=model,
            endpoint=endpoint,
            model_name=model_name,
            key_variable=key_variable,
            rate=rate,
            timeout=timeout,
            retries=retries,
            codec=codec,
            body=body,
            concurrency=concurrency,
            dtype=dtype,
            device=device,
            quantise=quantise,
        )
    )
    plan = RunPlan(
        tasks=chosen,
        style=style or default_style(asked.describe()["name"]).name,
        variants=ways,
        parameters=parameters,
        max_tokens=max_tokens,
        limit=limit,
        seed=seed,
    )
    from foveate.evaluate.runner import GaveUpError, begin

    folder, parts = begin(
        plan, asked, place, machine=facts(), command=published_command(context), resume=resume
    )
    for pair in folder.run["left_out"]:
        note(f"left out: {pair['task']} in the variant {pair['variant']}: {pair['reason']}")
    gave_up: GaveUpError | None = None
    try:
        _ask(asked, parts, folder, cache=cache, concurrency=concurrency, give_up_after=give_up_after)
    except GaveUpError as error:
        gave_up = error
    _print(folder, as_json=as_json)
    if gave_up is not None:
        raise gave_up


def _own_place(names: Sequence[str], suite: str | None) -> Path:
    """runs/eval-NAME; of a task in a file of one's own, the file's and the class's name."""
    words = [re.sub(r"\W+", "-", Path(name).name) for name in names]
    return Path("runs") / f"eval-{suite or '-'.join(words)}"


def _ask(
    model: Model,
    parts: Sequence[Part],
    folder: RunFolder,
    *,
    cache: bool,
    concurrency: int,
    give_up_after: int,
) -> None:
    """Asks what the folder has no reply to, with a bar where one can be seen."""
    from foveate.evaluate.answers_cache import AnswersCache
    from foveate.evaluate.runner import Runner

    known = AnswersCache() if cache else None

    async def ask() -> None:
        try:
            await runner.run()
        finally:
            await model.close()

    try:
        with progress_bar("items", sum(len(part.items) for part in parts)) as advance:
            runner = Runner(
                model,
                parts,
                folder,
                cache=known,
                concurrency=concurrency,
                give_up_after=give_up_after,
                progress=advance,
            )
            asyncio.run(ask())
    except KeyboardInterrupt:
        note(f"stopped; {len(folder.samples)} replies are kept in {folder.path}; go on with --resume")
        raise
    finally:
        if known is not None:
            known.close()


def _print(folder: RunFolder, *, as_json: bool) -> None:
    """The scores, what failed and why, and where the report is."""
    from foveate.cli.eval_reports import print_summary
    from foveate.evaluate.run.report import REPORT, write_report

    print_summary(write_report(folder), as_json=as_json)
    kinds = Counter(row["kind"] for row in folder.failures.values())
    for kind, number in kinds.most_common():
        example = next(row for row in folder.failures.values() if row["kind"] == kind)
        note(f"{number} without a reply ({kind}), such as {example['item']}: {example['message']}")
    if any(kind != "data" for kind in kinds):
        note("these count as neither right nor wrong; --resume asks them again")
    note(f"wrote {folder.path / REPORT}")
