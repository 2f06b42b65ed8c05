"""What a task, a model and a reply are, so that any task can be asked of any model.

A task is one Python file: items to ask and a rule that scores a reply. A model is one async method. A model never
learns the task's name, and a task never learns which model answered. Owns these records; knows no engine, no HTTP
and no run folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from PIL import Image

from foveate.errors import FoveateError

Outcome = Literal["correct", "wrong", "unparsed", "refused"]
OUTCOMES: tuple[Outcome, ...] = ("correct", "wrong", "unparsed", "refused")
AnswerForm = Literal["free", "word", "choice", "number", "boxes", "polygons"]
Message = dict[str, Any]


class EvaluationError(FoveateError):
    """A task, run or endpoint that cannot be used as asked."""


@dataclass(frozen=True)
class Picture:
    """One image of an item, opened only when it is asked about.

    Attributes:
        load: gives the pixels, in any mode of Pillow's. It raises `MediaError` where they cannot be had; the item then
            counts as failed, never as a wrong answer.
        name: what reports call it: a file's name, or how it was made.
    """

    load: Callable[[], Image.Image]
    name: str = ""

    def open(self) -> Image.Image:
        """The pixels as RGB."""
        return self.load().convert("RGB")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question.

    Attributes:
        id: unique within the task, and the same in every run.
        messages: the conversation up to the reply wanted, as the OpenAI API has it; a picture's part is
            `{"type": "image", "image": Picture}`, a text's `{"type": "text", "text": ...}`. Neutral wording: how a
            model likes to be asked (box format, "answer with one word") is the prompt style's business.
        target: what the scorer compares with, JSON-ready.
        cluster: items that share a picture share this; intervals are computed over clusters.
        tags: groups that the summary breaks down by.
        form: what kind of answer is wanted; the prompt style adds its instruction for it.
    """

    id: str
    messages: tuple[Message, ...]
    target: Any
    cluster: str
    tags: tuple[str, ...] = ()
    form: AnswerForm = "free"


@dataclass(frozen=True, kw_only=True)
class BrokenItem:
    """A row of a data set that cannot be asked: counted and shown, never scored.

    Attributes:
        id: the row's own id, or its file and line.
        reason: what is wrong with it.
    """

    id: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How a reply is wanted. The same for every item of a run.

    Attributes:
        max_tokens: of one reply; a reply cut here says so in `finish_reason`.
        temperature: 0 is greedy.
        seed: of sampling.
        visual_budget: "full", a number of tokens or a share ("25%"); None leaves it to the model.
        reducer: the method that keeps the budget; None leaves it to the model.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    visual_budget: str | None = None
    reducer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back, and what it was made from.

    Attributes:
        text: the answer as it came.
        finish_reason: "stop", "length", ...
        prompt_tokens, generated_tokens, image_tokens, image_tokens_kept, cached_tokens: None where not told.
        seconds: stages by name, "total" always.
        pictures: for each picture sent: size and digest of the pixels that were handed over (those an endpoint decodes
            from the bytes sent), before any resizing of the model's own, and the codec between.
        box_format: how boxes are written in `text`: the prompt style's name for it.
        earlier: replies of the turns before this one, first turn first.
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    image_tokens: int | None = None
    image_tokens_kept: int | None = None
    cached_tokens: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[Mapping[str, Any], ...] = ()
    box_format: str = "thousandths"
    earlier: tuple[Reply, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Score:
    """The verdict on one reply. Nothing is guessed: what cannot be read is "unparsed", a refusal is "refused".

    Attributes:
        outcome: one of `OUTCOMES`; the last two count as not correct and are printed beside the score.
        value: from 0 to 1, the task's own measure (1 for correct, 0 for wrong where it has no finer one).
        parsed: what was read from the reply, JSON-ready; None where nothing was.
        details: further facts for the samples file and for corpus measures (boxes, strategies, overlaps).
    """

    outcome: Outcome
    value: float
    parsed: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def correct_if(cls, condition: bool, parsed: Any, **details: Any) -> Score:
        """Correct or wrong, worth 1 or 0."""
        return cls(
            outcome="correct" if condition else "wrong",
            value=float(condition),
            parsed=parsed,
            details=details,
        )

    @classmethod
    def unparsed(cls, **details: Any) -> Score:
        """No answer could be read."""
        return cls(outcome="unparsed", value=0.0, details=details)

    @classmethod
    def refused(cls, **details: Any) -> Score:
        """The model declined to answer."""
        return cls(outcome="refused", value=0.0, details=details)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """An item with its reply and score, as corpus measures see them."""

    item: Item
    reply: Reply
    score: Score


@dataclass(frozen=True, kw_only=True)
class TaskCard:
    """What a table of tasks says.

    Attributes:
        title: a few words.
        paper: of the benchmark: its name and where it is found ("arXiv 2512.17875").
        licence: of the public data ("CC-BY-4.0"); "made here" for a task that exists on the world only.
        source: where the public data is published, and in which files.
        metric: what `Score.value` is ("accuracy", "ANLS", ...).
        max_tokens: that a reply needs at most.
    """

    title: str
    paper: str
    licence: str
    source: str
    metric: str = "accuracy"
    max_tokens: int = 64


@runtime_checkable
class Task(Protocol):
    """A task. Its class takes keyword arguments only, each with a default, and they are what can be varied:
    `data` (a folder or file with the public data set; None asks about the world), `difficulty`, `marker_style`...

    Two more methods are used where a task has them: `next_turn(item, replies) -> Message | None`, the user's next
    message after these replies (None ends the conversation and the last reply is scored, with the others in
    `earlier`); and `corpus_measures(scored) -> dict[str, float]`, measures of all items together (mAP, CIDEr).
    """

    card: ClassVar[TaskCard]

    def items(self) -> Iterable[Item | BrokenItem]:
        """Every item, in a fixed order. Lazy: pictures are opened later, and only those that are asked about."""
        ...

    def score(self, item: Item, reply: Reply) -> Score:
        """A pure function of its arguments, so that a run can be scored again without the model."""
        ...


class Model(Protocol):
    """Anything that answers."""

    def describe(self) -> dict[str, Any]:
        """What `run.json` records: name, weights' digest or endpoint, code version. No keys, no local paths."""
        ...

    def key(self, messages: Sequence[Message], parameters: Parameters) -> str:
        """Digest of all that decides the reply: final prompt, pixels as the model sees them, parameters, weights, code.

        Raises:
            FoveateError: the conversation does not fit the model, or a picture cannot be opened.
        """
        ...

    async def complete(self, messages: Sequence[Message], parameters: Parameters) -> Reply:
        """One reply.

        Raises:
            FoveateError: no reply could be had; the item counts as failed and can be asked again later.
        """
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...


def user(*parts: Picture | str) -> Message:
    """A message of the user's from pictures and texts in order."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
        for part in parts
    ]
    return {"role": "user", "content": content}


def assistant(text: str) -> Message:
    """A message of the model's."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}
