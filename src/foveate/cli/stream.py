"""`foveate stream`: watch a video, a camera or an address, comment on every second, answer questions on the way.

Owns the flags, the pace, what is dropped when the machine is too slow, and the lines that are printed. What is kept
of the past is `foveate.decode.streaming`'s; opening is `foveate.media`'s.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from foveate.cli.arguments import EMBEDDED_MODEL
from foveate.cli.terminal import note, seconds
from foveate.errors import FoveateError

if TYPE_CHECKING:
    from foveate.decode.streaming import Answer, SecondReport, StreamingSession, StreamSettings
    from foveate.media import LiveFrame, LiveVideo

Pace = Literal["auto", "real", "fast"]
Question = tuple[int, str]
# Behind by more than this at real pace, a frame is dropped: a comment on it would come too late anyway.
LATEST_SECONDS = 1.0


def command(
    source: Annotated[
        str, typer.Argument(metavar="VIDEO|camera|rtsp://…", help="A file, camera, camera:1, or an address.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="REF", help="Folder or hub name (name@revision).")
    ] = EMBEDDED_MODEL,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt",
            metavar="TEXT",
            help="Asked of every second. This and what is kept: else as the model was trained, or docs/decode.md.",
        ),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="Instructions that stay for ever.")
    ] = None,
    ask: Annotated[
        list[str] | None,
        typer.Option("--ask", metavar="SECOND:QUESTION", help="Ask on the way, without a trace. Repeatable."),
    ] = None,
    frames_per_second: Annotated[
        int | None,
        typer.Option("--frames-per-second", min=1, help="Frames looked at; the others are dropped."),
    ] = None,
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="Seconds of vision that are kept.")
    ] = None,
    text_tokens: Annotated[
        int | None, typer.Option("--text-tokens", min=0, help="Tokens of earlier comments that are kept.")
    ] = None,
    sink_tokens: Annotated[
        int | None, typer.Option("--sink-tokens", min=0, help="First tokens of text, kept for ever.")
    ] = None,
    reply_tokens: Annotated[
        int | None, typer.Option("--reply-tokens", min=1, help="Longest comment on one second.")
    ] = None,
    visual_budget: Annotated[
        str | None,
        typer.Option(
            "--visual-budget", metavar="BUDGET", help="Visual tokens of each frame: full, N or 25%."
        ),
    ] = None,
    reducer: Annotated[
        str | None,
        typer.Option(
            "--reducer", metavar="METHOD", help="How they are chosen; docs/reduction.md lists methods."
        ),
    ] = None,
    pace: Annotated[
        Pace,
        typer.Option(
            "--pace", help="real drops what comes too late, fast drops nothing; auto: fast for files."
        ),
    ] = "auto",
    stop_after: Annotated[
        int | None, typer.Option("--seconds", min=1, metavar="N", help="Stop after so much of the stream.")
    ] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="Play a file so many times, as one stream.")
    ] = 1,
    stall_seconds: Annotated[
        float, typer.Option("--stall-seconds", min=0.1, help="How long a camera or address may be silent.")
    ] = 10.0,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option("--dtype", help="Number format of the weights."),
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line on stdout.")] = False,
) -> None:
    """Watch a stream with bounded memory for as long as it is fed.

    foveate stream examples/moving.mp4
    """
    questions = sorted(_question(text) for text in ask or [])
    from foveate.media import open_live

    with open_live(source, stall_seconds=stall_seconds) as video:
        from foveate.cli.chat import load_model

        loaded = load_model(model, dtype=dtype, device=device)
        from foveate.decode.streaming import StreamDefaults, StreamingSession

        asked: dict[str, Any] = {
            "frames_per_second": frames_per_second,
            "vision_seconds": window,
            "text_tokens": text_tokens,
            "sink_tokens": sink_tokens,
            "reply_tokens": reply_tokens,
            "visual_budget": visual_budget,
            "reducer": reducer,
        }
        settings = dataclasses.replace(
            StreamDefaults.of(loaded.folder).settings,
            **{name: value for name, value in asked.items() if value is not None},
        )
        session = StreamingSession(
            loaded, settings, width=video.width, height=video.height, prompt=prompt, system=system
        )
        real = video.live if pace == "auto" else pace == "real"
        watch = Watch(session, video, questions, real=real, as_json=as_json)
        watch.begin(settings)
        try:
            watch.frames(_played(source, video, repeat), stop_after)
        finally:
            watch.end()
            session.close()


def _question(text: str) -> Question:
    second, colon, question = text.partition(":")
    if not (colon and second.isdigit() and question.strip()):
        raise FoveateError(
            f"--ask is {text!r}",
            why="it must be SECOND:QUESTION",
            fix='For example: --ask "12:How many stars?"',
        )
    return int(second), question.strip()


def _played(source: str, video: LiveVideo, times: int) -> Iterator[tuple[float, LiveFrame]]:
    """Frames with the time of the stream; a file may be played several times."""
    from foveate.media import open_live

    if video.live and times > 1:
        raise FoveateError(
            "--repeat is for files", why=f"{video.name} goes on by itself", fix="Leave it out."
        )
    begun = last = step = 0.0
    for turn in range(times):
        if not turn:
            frames = video.frames()
            for frame in frames:
                step, last = frame.seconds - last or step, frame.seconds
                yield frame.seconds, frame
            continue
        begun += last + step
        with open_live(source) as again:
            for frame in again.frames():
                last = frame.seconds
                yield begun + last, frame
            video.mended.update(again.mended)


class Watch:
    """One stream on its way through a session, told line by line."""

    def __init__(
        self,
        session: StreamingSession,
        video: LiveVideo,
        questions: list[Question],
        *,
        real: bool,
        as_json: bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._session, self._video, self._questions = session, video, questions
        self._real, self._json = real, as_json
        self._clock, self._sleep = clock, sleep
        self._began: float | None = None
        self.slow = 0  # frames dropped because this machine was behind
        self._seconds: list[float] = []

    def begin(self, settings: StreamSettings) -> None:
        """The bound, before the first frame."""
        session, bound = self._session, self._session.bound
        if self._json:
            told = {"bound": dataclasses.asdict(bound), "settings": dataclasses.asdict(settings)}
            source = {"name": self._video.name, "width": self._video.width, "height": self._video.height}
            self._print({"event": "start", "model": session.model.ref, "source": source, **told})
            return
        note(f"{self._video.name} · {session.model.ref} · {bound.text()}")

    def frames(self, frames: Iterator[tuple[float, LiveFrame]], stop_after: int | None) -> None:
        """Shows frames to the session as they are due."""
        for at, frame in frames:
            if stop_after is not None and at >= stop_after:
                break
            if self._real and self._is_too_late(at):
                self.slow += 1
                continue
            self._tell(self._session.push_frame(frame.pixels, at))
        self._tell(self._session.flush())

    def _is_too_late(self, at: float) -> bool:
        """Waits for a frame that is not due yet; whether it was due too long ago."""
        now = self._clock()
        if self._began is None:
            self._began = now - at
        ahead = self._began + at - now
        if ahead > 0:
            self._sleep(ahead)
        return -ahead > LATEST_SECONDS

    def _tell(self, report: SecondReport | None) -> None:
        if report is None:
            return
        self._seconds.append(report.seconds)
        if self._json:
            self._print({"event": "second", **self._object(report)})
        else:
            print(f"[{report.second} s] {report.reply.text.strip()}", flush=True)
        while self._questions and self._questions[0][0] <= report.second:
            question = self._questions.pop(0)[1]
            self._tell_answer(report.second, question, self._session.ask(question))

    def _tell_answer(self, second: int, question: str, answer: Answer) -> None:
        if self._json:
            told = {"question": question, "text": answer.text, "finish_reason": answer.finish_reason}
            self._print({"event": "answer", "second": second, **told, "ms": round(1000 * answer.seconds, 1)})
        else:
            print(f"[{second} s] {question} {answer.text.strip()}", flush=True)

    def _object(self, report: SecondReport) -> dict[str, Any]:
        """One second for --json; times in milliseconds."""
        parts = {
            "encode": report.encode_seconds,
            "prefill": report.prefill_seconds,
            "decode": report.decode_seconds,
        }
        return {
            "second": report.second,
            "text": report.reply.text,
            "finish_reason": report.reply.finish_reason,
            **self._counts(),
            "tokens": report.tokens,
            "evicted": report.evicted,
            "pages": report.pages,
            "bytes": report.bytes,
            "ms": {
                name: round(1000 * value, 1) for name, value in {**parts, "total": report.seconds}.items()
            },
        }

    def _counts(self) -> dict[str, Any]:
        frames = self._session.frames
        dropped = {**frames.dropped, **({"slow": self.slow} if self.slow else {})}
        return {
            "frames_seen": frames.seen + self.slow,
            "frames_used": frames.used,
            "frames_dropped": dropped,
            "frames_mended": dict(self._video.mended),
        }

    def end(self) -> None:
        """What became of everything; also when the stream broke off."""
        counts, kept = self._counts(), self._session.statistics()
        total = sum(self._seconds)
        if self._json:
            self._print(
                {"event": "end", **kept, **counts, "seconds": len(self._seconds), "ms": round(1000 * total)}
            )
            return
        dropped = ", ".join(f"{count} {why}" for why, count in counts["frames_dropped"].items()) or "none"
        mended = ", ".join(f"{count} {why}" for why, count in counts["frames_mended"].items())
        each = f" · {seconds(total / len(self._seconds))} a second" if self._seconds else ""
        note(
            f"{counts['frames_seen']} frames, {counts['frames_used']} looked at, dropped: {dropped}"
            f"{f', mended: {mended}' if mended else ''} · {kept['tokens']} tokens kept{each}"
        )

    @staticmethod
    def _print(told: dict[str, Any]) -> None:
        print(json.dumps(told, ensure_ascii=False), flush=True)
