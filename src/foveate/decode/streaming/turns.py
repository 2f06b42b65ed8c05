"""A conversation that goes on for ever, in a chat template made for whole ones.

Owns the cutting of the template's text into what opens the stream, what stands between a reply and the next turn, and
the turns themselves. Knows no windows and no keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.decode.streaming.settings import StreamError

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import VisualGrid

_REPLY = "@@reply@@"  # stands for an earlier reply while the template is cut; never reaches the model


class Turns:
    """Token ids of the parts of a stream.

    Args:
        system: instructions that open the stream; None for the template's own.

    Attributes:
        opening: what stands before the first turn.
        between: what ends a reply and comes before the next turn.

    Raises:
        StreamError: the template does not go on after a reply.
    """

    def __init__(self, model: VisionLanguageModel, system: str | None) -> None:
        self._model = model
        self._system = [{"role": "system", "content": [_text(system)]}] if system else []
        asked = [_text("?")]
        first = self._ids(model.render([*self._system, _user(asked)]), whole=True)
        later = self._ids(self._after_a_reply(asked))
        # Both end with the same turn; what comes before it differs, to the token.
        same = 0
        while same < min(len(first), len(later)) and first[-1 - same] == later[-1 - same]:
            same += 1
        self.opening, self.between = first[: len(first) - same], later[: len(later) - same]
        if not same:
            raise StreamError(
                f"The chat template of {model.ref} does not go on after a reply",
                why="the same turn comes out differently there",
                fix="Stream with a model whose template does.",
            )

    def _after_a_reply(self, content: list[dict[str, Any]]) -> str:
        reply = {"role": "assistant", "content": [_text(_REPLY)]}
        whole = self._model.render([*self._system, _user([_text("?")]), reply, _user(content)])
        return whole.rpartition(_REPLY)[2]

    def turn(self, text: str, grids: tuple[VisualGrid, ...] = ()) -> list[int]:
        """Ids of one turn of the user, up to where the reply begins: pictures of these grids, then text.

        Raises:
            StreamError: the text spells the place of a picture.
        """
        model = self._model
        content: list[dict[str, Any]] = [
            *({"type": "image"} for _ in grids),
            *([_text(text)] if text else []),
        ]
        pieces = self._after_a_reply(content).split(model.template_placeholder)
        wanted = sum(grid.tokens for grid in grids)
        joined = pieces[0]
        for grid, piece in zip(grids, pieces[1:], strict=False):
            joined += model.placeholder_text(grid) + piece
        ids = self._ids(joined)
        visual = int(model.visual_mask(ids).sum())
        if len(pieces) - 1 != len(grids) or visual != wanted:
            raise StreamError(
                "The text of a turn spells the place of a picture",
                why=f"{model.ref} reads {model.template_placeholder} or {model.image_token} so",
                fix="Remove it.",
            )
        assert ids[: len(self.between)] == self.between, "a turn begins as another does"
        return ids[len(self.between) :]

    def _ids(self, text: str, *, whole: bool = False) -> list[int]:
        model = self._model
        bos = getattr(model.tokenizer, "bos_token", None)
        special = whole and model.adds_special_tokens and not (bos and text.startswith(bos))
        return list(model.tokenizer(text, add_special_tokens=special)["input_ids"])


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _user(content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": "user", "content": content}
