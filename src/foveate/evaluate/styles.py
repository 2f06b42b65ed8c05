"""How a model likes to be asked: instructions by kind of answer, and the way it writes boxes.

A task's wording is neutral; a style adds to it, by name, and the name is kept with the run. Owns the table of styles.
Knows no tasks: it sees an item's messages and the kind of answer that is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveate.errors import nearest
from foveate.evaluate.boxes import instruction
from foveate.evaluate.contract import AnswerForm, EvaluationError, Item, Message


@dataclass(frozen=True, kw_only=True)
class PromptStyle:
    """One way of asking.

    Attributes:
        name: what run.json records.
        help: a line about it.
        box_format: how the model writes boxes and points: a name of `foveate.evaluate.boxes`.
        instructions: added to the last user's message, by the kind of answer; none for kinds that are not named.
        before: whether they stand before the question instead of after it.
    """

    name: str
    help: str
    box_format: str
    instructions: Mapping[AnswerForm, str] = field(default_factory=dict)
    before: bool = False

    def apply(self, item: Item) -> list[Message]:
        """The item's messages with this style's instruction; the item itself is not changed."""
        instruction = self.instructions.get(item.form)
        messages = [dict(message) for message in item.messages]
        if instruction is None:
            return messages
        last = max(place for place, message in enumerate(messages) if message["role"] == "user")
        content = messages[last]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        messages[last] = {"role": "user", "content": self._instructed(parts, instruction)}
        return messages

    def _instructed(self, parts: Sequence[Mapping[str, Any]], instruction: str) -> list[dict[str, Any]]:
        """A line of its own in the first or last text part, whichever it belongs to."""
        made = [dict(part) for part in parts]
        texts = [part for part in made if part["type"] == "text"]
        if not texts:
            return [*made, {"type": "text", "text": instruction}]
        part = texts[0] if self.before else texts[-1]
        lines = (instruction, part["text"]) if self.before else (part["text"], instruction)
        part["text"] = "\n".join(lines)
        return made

    def describe(self) -> dict[str, Any]:
        """What run.json records: the words too, for a name alone would hide a change of them."""
        return {
            "name": self.name,
            "box_format": self.box_format,
            "instructions": dict(self.instructions),
            "before": self.before,
        }


_SHORT: dict[AnswerForm, str] = {
    "word": "Answer with a single word or phrase.",
    "choice": "Answer with the letter of the right option only.",
    "number": "Answer with a number only.",
}
_POLITE: dict[AnswerForm, str] = {
    "word": "Please reply with one word or a short phrase and nothing else.",
    "choice": "Please reply with nothing but the letter of the option you choose.",
    "number": "Please reply with the number and nothing else.",
}


def _told(words: Mapping[AnswerForm, str], box_format: str) -> dict[AnswerForm, str]:
    """These words, and how boxes and outlines are to be written."""
    return {
        **words,
        "boxes": instruction(box_format),
        "polygons": instruction(box_format, polygons=True),
    }


def _style(
    name: str, help: str, words: Mapping[AnswerForm, str], box_format: str, *, before: bool = False
) -> PromptStyle:
    told = _told(words, box_format)
    return PromptStyle(name=name, help=help, box_format=box_format, instructions=told, before=before)


STYLES: dict[str, PromptStyle] = {
    style.name: style
    for style in (
        PromptStyle(
            name="plain",
            help="The question as the task words it; boxes are read in thousandths.",
            box_format="thousandths",
        ),
        PromptStyle(
            name="nano",
            help="fovea-nano's own: the bare question, as it was trained; boxes in hundredths.",
            box_format="hundredths",
        ),
        _style(
            "instruct",
            "A line that says what kind of answer is wanted; boxes as JSON in thousandths (Qwen3-VL).",
            _SHORT,
            "json-thousandths",
        ),
        _style("instruct-pixels", "The same, boxes as JSON in pixels (Qwen2.5-VL).", _SHORT, "json-pixels"),
        _style("gemini", "The same, boxes as Gemini writes them.", _SHORT, "gemini"),
        _style(
            "instruct-before", "The line stands before the question.", _SHORT, "json-thousandths", before=True
        ),
        _style("polite", "The same demand in other words.", _POLITE, "json-thousandths"),
    )
}


def get_style(name: str) -> PromptStyle:
    """The style of this name.

    Raises:
        EvaluationError: none has it, naming the nearest.
    """
    if name not in STYLES:
        raise EvaluationError(f"There is no prompt style {name!r}", fix=nearest(name, STYLES))
    return STYLES[name]


def default_style(model_name: str) -> PromptStyle:
    """fovea-nano, by whatever server it is reached, is asked as it was trained; others are told what is wanted."""
    return STYLES["nano" if model_name.split("/")[-1].startswith("fovea-nano") else "instruct"]
