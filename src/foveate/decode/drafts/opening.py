"""From a name to a draft: `--speculate NAME`.

Owns which names there are. A new kind of draft adds a test for its folders and a function that opens them to KINDS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.decode.drafts.base import Draft, DraftError
from foveate.decode.drafts.model import ModelDraft
from foveate.decode.drafts.ngram import NgramDraft
from foveate.decode.heads.file import is_head, load_head, shipped_head
from foveate.decode.settings import AUTO, NGRAM, OFF
from foveate.errors import ModelError, nearest

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

Opener = Callable[[str, "VisionLanguageModel"], Draft]


def open_draft(name: str, target: VisionLanguageModel) -> Draft:
    """The draft of this name for this target.

    Raises:
        DraftError: there is none of this name, or it was not made for the target.
        ModelError: its weights cannot be loaded.
    """
    if name == AUTO:
        folder = shipped_head(target)
        return _ngram(target) if folder is None else _open_head(str(folder), target)
    if name == NGRAM:
        return _ngram(target)
    for recognises, opener in KINDS:
        if recognises(name):
            return opener(name, target)
    raise DraftError(
        f"There is no draft {name!r}",
        why="it is neither a method, nor a folder, nor a hub name",
        fix=nearest(name, [OFF, AUTO, NGRAM]),
    )


def _ngram(target: VisionLanguageModel) -> Draft:
    return NgramDraft(never=tuple(sorted(target.visual_token_ids)))


def _is_model(name: str) -> bool:
    folder = Path(name).expanduser()
    return (folder / "config.json").is_file() or (
        name.count("/") == 1 and not name.startswith((".", "/", "~"))
    )


def _open_model(name: str, target: VisionLanguageModel) -> Draft:
    from foveate.models import load
    from foveate.models.parts.packing import pack_linears, packing_pays

    try:
        draft = load(name, device=str(target.device), dtype=str(target.dtype).removeprefix("torch."))
    except ModelError as error:
        raise DraftError(f"The draft model {name} cannot be loaded", why=str(error)) from error
    if packing_pays(draft.dtype, draft.device) and draft.quantisation is None:
        pack_linears(draft.hf_model)
    return ModelDraft(draft, target)


def _is_head(name: str) -> bool:
    return is_head(Path(name).expanduser())


def _open_head(name: str, target: VisionLanguageModel) -> Draft:
    from foveate.decode.heads.draft import HeadDraft
    from foveate.models.parts.packing import pack_linears, packing_pays

    head = load_head(Path(name).expanduser(), target)
    if packing_pays(target.dtype, target.device):
        pack_linears(head)
    return HeadDraft(head, target)


# A head's folder has a config.json too, so heads are looked for first.
KINDS: tuple[tuple[Callable[[str], bool], Opener], ...] = ((_is_head, _open_head), (_is_model, _open_model))
