"""`foveate chat`: one question about pictures, or a session.

Owns the flags. Sorting words is in `arguments`, the turns in `conversation`, the loop in `session`, what is told in
`chat_output`. Pictures and videos are opened before torch is imported, so that a wrong file is refused at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foveate.cli.arguments import (
    EMBEDDED_MODEL,
    STANDARD_INPUT,
    ChatRequest,
    is_local_model,
    means_video,
    sort_arguments,
    split_prompt,
)
from foveate.cli.chat_output import as_object, refuse_overlays, write_overlays
from foveate.cli.conversation import Conversation, SamplingSettings, VisualSettings
from foveate.cli.session import Session, interactive_input
from foveate.cli.terminal import note, notice
from foveate.decode.settings import SpeculationSettings, parse_speculation
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.engine import Engine
    from foveate.media import Image, Video
    from foveate.models import VisionLanguageModel

DEFAULTS = SamplingSettings()
FULL = VisualSettings()
FRAMES_PER_SECOND, MAX_FRAMES = 2.0, 8  # of a video, as in the API
DataType = Literal["auto", "float32", "bfloat16", "float16"]
Quantisation = Literal["int8", "int4"]


def command(
    context: typer.Context,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|IMAGE|VIDEO|QUESTION", help="A model first if any, pictures, the question last."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="REF", help=f"Folder or hub name (name@revision); else {EMBEDDED_MODEL}."
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", "-i", metavar="IMAGE", help="A picture: file, data URI, or - for stdin. Repeatable."
        ),
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option(
            "--video", metavar="VIDEO", help="A video: file or data URI, whatever its name. Repeatable."
        ),
    ] = None,
    frames_per_second: Annotated[
        float, typer.Option("--frames-per-second", metavar="R", help="Frames of videos looked at.")
    ] = FRAMES_PER_SECOND,
    max_frames: Annotated[
        int,
        typer.Option(
            "--max-frames", metavar="N", help="Of one video; where R gives more, N spread over all of it."
        ),
    ] = MAX_FRAMES,
    system: Annotated[str | None, typer.Option("--system", metavar="TEXT", help="System prompt.")] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", help="Longest answer in tokens, 1 or more.")
    ] = DEFAULTS.max_tokens,
    temperature: Annotated[
        float,
        typer.Option("--temperature", metavar="T", help="0 takes the likeliest token; higher varies."),
    ] = DEFAULTS.temperature,
    top_p: Annotated[
        float,
        typer.Option("--top-p", metavar="P", help="Draw from this share of the probability, above 0 to 1."),
    ] = DEFAULTS.top_p,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Makes drawing repeatable.")
    ] = DEFAULTS.seed,
    dtype: Annotated[DataType, typer.Option("--dtype", help="Number format of the weights.")] = "auto",
    quantise: Annotated[
        Quantisation | None,
        typer.Option("--quantise", help="Keep the language model's weights in 8 or 4 bits."),
    ] = None,
    visual_budget: Annotated[
        str,
        typer.Option(
            "--visual-budget",
            metavar="BUDGET",
            envvar="FOVEATE_VISUAL_BUDGET",
            help="Visual tokens of each picture: full, auto, N or 25%.",
        ),
    ] = FULL.budget,
    reducer: Annotated[
        str,
        typer.Option(
            "--reducer", metavar="METHOD", help="How they are chosen; docs/reduction.md lists methods."
        ),
    ] = FULL.reducer,
    speculate: Annotated[
        str,
        typer.Option(
            "--speculate",
            metavar="DRAFT",
            envvar="FOVEATE_SPECULATE",
            help="Guess tokens ahead, same answers: off, auto, ngram, or the folder of a head or small model.",
        ),
    ] = "off",
    show: Annotated[
        bool, typer.Option("--show", help="Write PICTURE-kept.png: what the model saw of each picture.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Print the answer when whole.")] = False,
) -> None:
    """Ask a model about pictures and videos: one question, or a session when none is given.

    foveate chat cat.png "What is this?"
    """
    sorted_words = sort_arguments(words or [], model=model, images=image or [], videos=video or [])
    request = _complete(sorted_words, as_json=as_json)
    settings = SamplingSettings(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    visual = VisualSettings(budget=visual_budget, reducer=reducer)
    speculation = parse_speculation(speculate)

    def open_medium(source: str) -> Image | Video:
        if source in request.videos or means_video(source):
            from foveate.media import read_video

            return read_video(source, frames_per_second=frames_per_second, max_frames=max_frames)
        return open_picture(source)

    pictures = [open_medium(source) for source in request.images]
    if show:
        refuse_overlays(pictures)
    start = time.perf_counter()
    engine = start_engine(
        request.model or EMBEDDED_MODEL,
        dtype=dtype,
        device=device,
        quantise=quantise,
        speculation=speculation,
    )
    load_seconds = time.perf_counter() - start
    debug = bool(context.find_root().params.get("debug"))
    if debug:
        note(engine.describe())
    conversation = Conversation(engine, settings, system=system, visual=visual)
    if request.question is None:
        _greet(engine.model, load_seconds)
        session = Session(
            conversation,
            open_medium,
            stream=not no_stream,
            debug=debug,
            on_answer=write_overlays if show else None,
        )
        for picture in pictures:
            session.attach(picture)
        session.run()
        return
    for picture in pictures:
        conversation.attach(picture)
    stream = not (no_stream or as_json)
    answer = conversation.ask(request.question, on_text=_show if stream else lambda text: None)
    overlays = write_overlays(conversation, answer) if show else []
    if as_json:
        print(
            json.dumps(
                as_object(conversation, request.question, answer, load_seconds, overlays),
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    print("" if stream else answer.text, flush=True)
    note(answer.summary())
    for path in overlays:
        note(f"what the model saw: {path}")


def _complete(request: ChatRequest, *, as_json: bool) -> ChatRequest:
    """Fill in the question from standard input, and take pictures out of the question's text."""
    question, images = request.question, list(request.images)
    if images.count(STANDARD_INPUT) > 1:
        raise FoveateError("standard input holds one picture", why="- stands more than once")
    if question is None and not interactive_input():
        if STANDARD_INPUT in images:
            raise FoveateError(
                "no question",
                why="standard input is the picture",
                fix='Add it: foveate chat - "What is this?"',
            )
        question = _read_question()
        if not question.strip():
            raise FoveateError(
                "no question",
                why="none was given and standard input is empty",
                fix='For example: foveate chat cat.png "What is this?"',
            )
    if question is None:
        if as_json:
            raise FoveateError(
                "--json needs a question", why="a session has no single answer", fix="Add the question."
            )
        return request
    text, found = split_prompt(question)
    if not text:
        raise FoveateError(
            "no question", why="it holds nothing but pictures or blanks", fix="Add what you want to know."
        )
    return dataclasses.replace(request, images=(*images, *found), question=text)


def _read_question() -> str:
    try:
        text = sys.stdin.read() if sys.stdin is not None else ""
        text.encode("utf-8")  # in UTF-8 mode Python smuggles foreign bytes through as lone surrogates
    except UnicodeError as error:
        raise FoveateError(
            "standard input is not text",
            why="it was read for a question, and its bytes are no characters",
            fix='For a picture write: foveate chat - "What is this?"',
        ) from error
    return text


def open_picture(source: str) -> Image:
    """Open one picture; `-` reads it from standard input."""
    from foveate.media import MediaLimits, open_image

    if source == STANDARD_INPUT:
        # One byte past the cap is enough for open_image to refuse; an endless pipe must not fill the memory.
        return open_image(sys.stdin.buffer.read(MediaLimits().max_bytes + 1))
    return open_image(source)


def start_engine(
    ref: str,
    *,
    dtype: str,
    device: str,
    quantise: str | None = None,
    speculation: SpeculationSettings | None = None,
) -> Engine:
    """Load a model and start an engine for one reader: its cache holds one conversation as long as the model's
    context."""
    model = load_model(ref, dtype=dtype, device=device, quantise=quantise)
    from foveate.engine import Engine, EngineConfig

    return Engine(model, EngineConfig(max_sequences=1, speculation=speculation))


def load_model(ref: str, *, dtype: str, device: str, quantise: str | None = None) -> VisionLanguageModel:
    """Load a model quietly, without any network attempt where nothing has to be fetched."""
    if is_local_model(ref):
        # Before the import: huggingface_hub reads it once. Otherwise a missing optional file would be looked
        # up.
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with notice(f"loading {ref} …"), collector_paused():
        from transformers.utils import logging

        from foveate.models import load

        if is_local_model(ref):
            logging.disable_progress_bar()
        return load(ref, dtype=dtype, device=device, quantise=quantise)


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Import and load without garbage collection, and keep what was loaded out of later collections.

    Nearly everything torch and transformers create at import lives as long as the process; the collector walks
    over it again and again, at the end once more. Without: 0.5 s sooner to the first token, 0.6 s to the exit.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _show(text: str) -> None:
    print(text, end="", flush=True)


def _greet(model: VisionLanguageModel, load_seconds: float) -> None:
    facts: dict[str, Any] = model.describe()
    note(
        f"{facts['ref']} · {facts['parameters'] / 1e6:.1f} M parameters · "
        f"{facts['device']} ({facts['device_reason']}) · {facts['dtype']} ({facts['dtype_reason']}) · "
        f"loaded in {load_seconds:.1f} s"
    )
    note("Write a question; a picture's path in it is looked at. /help lists commands, /bye leaves.")
