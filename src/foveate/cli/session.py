"""The interactive session: a prompt, slash commands, pictures pasted into the question.

Owns the loop and its commands. Does not know how an answer is made (`conversation`) nor how names are sorted
(`arguments`). An error ends the turn, never the session.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.cli.arguments import resolve_image, split_prompt
from foveate.cli.chat_output import described
from foveate.cli.conversation import Answer, Conversation, VisualSettings
from foveate.cli.failures import describe
from foveate.cli.terminal import count, note, seconds
from foveate.errors import FoveateError, nearest

if TYPE_CHECKING:
    from foveate.media import Image, Video

PROMPT = "> "
COMMANDS = {
    "/image": ("PATH", "put a picture or video with the next question (or write its path in the question)"),
    "/system": ("[TEXT]", "set the system prompt; alone, show it"),
    "/budget": ("[BUDGET [METHOD]]", "visual tokens of each picture: full, auto, N or 25%; alone, show it"),
    "/reset": ("", "forget the conversation and its pictures"),
    "/stats": ("", "what this session has cost so far, how full the context is, and how the engine works"),
    "/help": ("", "this list"),
    "/bye": ("", "leave (so does Ctrl-D); Ctrl-C stops an answer"),
}


class Session:
    """Reads lines until /bye or the end of input.

    Args:
        open_picture: turns a resolved source into an Image or Video, raising MediaError.
        stream: print tokens as they come; otherwise the answer when it is whole.
        debug: show the traceback of an error before its line.
        on_answer: makes files of an answer; their paths are shown.
    """

    def __init__(
        self,
        conversation: Conversation,
        open_picture: Callable[[str], Image | Video],
        *,
        stream: bool = True,
        debug: bool = False,
        on_answer: Callable[[Conversation, Answer], Sequence[Path]] | None = None,
    ) -> None:
        self.conversation = conversation
        self.open_picture = open_picture
        self.stream = stream
        self.debug = debug
        self.on_answer = on_answer
        self._commands: dict[str, Callable[[str], None]] = {
            "/image": self._image,
            "/system": self._system,
            "/budget": self._budget,
            "/reset": self._reset,
            "/stats": self._stats,
            "/help": self._help,
        }

    def run(self) -> None:
        """The loop. Line editing and recall come from readline where Python has it."""
        try:
            import readline  # noqa: F401 - importing it is what gives input() its editing
        except ImportError:
            note("no line editing: this Python was built without readline")
        while True:
            try:
                line = input(PROMPT).strip()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                note("/bye leaves the session")
                continue
            if line == "/bye":
                return
            try:
                self._turn(line)
            except KeyboardInterrupt:
                print()
            except Exception as error:  # noqa: BLE001 - no failure of one turn may cost the conversation
                if self.debug:
                    traceback.print_exception(error)
                note(f"error: {describe(error)['message']}")

    def _turn(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if _is_command(name):
            if name not in self._commands:
                raise FoveateError(f"unknown command {name!r}", fix=nearest(name, COMMANDS))
            self._commands[name](rest.strip())
        elif line:
            question, sources = split_prompt(line)
            pictures = [self.open_picture(source) for source in sources]  # all or none
            for picture in pictures:
                self.attach(picture)
            if question:
                self._ask(question)

    def _ask(self, question: str) -> None:
        def show(text: str) -> None:
            print(text, end="", flush=True)

        answer = self.conversation.ask(
            question, on_text=show if self.stream else lambda text: None, interruptible=True
        )
        print("" if self.stream else answer.text, flush=True)
        note(answer.summary())
        if self.on_answer is not None and answer.finish_reason != "interrupted":
            for path in self.on_answer(self.conversation, answer):
                note(f"what the model saw: {path}")

    def attach(self, picture: Image | Video) -> None:
        tokens = self.conversation.attach(picture)
        note(f"{described(picture, self.conversation.model)}, {count(tokens, 'image token')}")

    def _image(self, path: str) -> None:
        if not path:
            raise FoveateError("/image needs a path", fix="For example: /image cat.png")
        # The whole rest is the path, so spaces need no quotes; quotes and escapes are accepted all the same.
        _, quoted = split_prompt(path) if path[0] in "\"'" or "\\" in path else ("", [])
        for source in quoted or [resolve_image(path)]:
            self.attach(self.open_picture(source))

    def _system(self, text: str) -> None:
        if text:
            self.conversation.system = text
        note(f"system prompt: {self.conversation.system or '(none)'}")

    def _budget(self, words: str) -> None:
        current = self.conversation.visual
        budget, _, method = words.partition(" ")
        if budget:
            current = VisualSettings(budget=budget, reducer=method.strip() or current.reducer)
            self.conversation.visual = current
        note(f"visual budget: {current.budget} by {current.reducer}")

    def _reset(self, _: str) -> None:
        self.conversation.reset()
        note("conversation and pictures forgotten")

    def _stats(self, _: str) -> None:
        answers = self.conversation.answers
        if not answers:
            note("no answer yet")
            return
        last = answers[-1]
        used = last.prompt_tokens + last.completion_tokens
        note(f"last answer: {last.summary()}")
        note(
            f"session: {count(len(answers), 'answer')}, "
            f"{count(sum(answer.completion_tokens for answer in answers), 'new token')} "
            f"in {seconds(sum(answer.total for answer in answers))}, "
            f"{count(len(self.conversation.images), 'picture')}; "
            f"context {used:,} of {self.conversation.model.context_length:,} tokens"
        )
        note(self.conversation.engine.describe())

    def _help(self, _: str) -> None:
        for name, (argument, text) in COMMANDS.items():
            note(f"{f'{name} {argument}'.ljust(16)}{text}")


def _is_command(word: str) -> bool:
    """True for /word; a path such as /home/me/cat.png at the start of a question is not a command."""
    return word.startswith("/") and "/" not in word[1:] and not Path(word).exists() and "." not in word


def interactive_input() -> bool:
    """True when a person types: stdin is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()
