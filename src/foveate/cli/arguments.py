"""Telling models, pictures and questions apart, on the command line and inside a prompt.

Owns the rules (docs/cli.md states them for people). Does not open pictures or models: it looks at names and
asks the file system whether they exist, so it answers before torch is imported.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from foveate.errors import FoveateError, MediaError, ModelError, nearest

EMBEDDED_MODEL = "fovea-nano"
PACKAGED_MODELS = (EMBEDDED_MODEL, "fovea-nano-stream")
STANDARD_INPUT = "-"
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "mp4",
        "m4v",
        "mov",
        "mkv",
        "webm",
        "avi",
        "mpg",
        "mpeg",
        "ts",
        "flv",
        "wmv",
        "asf",
        "m3u8",
        "mpd",
    )
)
# Names that mean a picture or video. Wider than what can be opened, so that an unsupported picture, a PDF or a playlist
# is refused as one and never mistaken for a question.
IMAGE_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm"),
        *("heic", "heif", "avif", "svg", "ico", "pdf"),
    )
)
DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]")
WEB_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
# One word of a prompt: `text in backticks`, a quoted span, or a run where a backslash escapes the next
# character.
PROMPT_WORD = re.compile(r"""`[^`]*`|(?<!\w)"([^"\n]+)"|(?<!\w)'([^'\n]+)'(?!\w)|((?:\\.|[^\s\\`])+)""")
TRAILING_PUNCTUATION = "?!.,;:)]}>\"'"


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """What the words after `foveate chat` mean.

    Attributes:
        images: pictures and videos in order.
        videos: those of them that `--video` names; others are videos by their name (`means_video`).
    """

    model: str | None
    images: tuple[str, ...]
    question: str | None
    videos: frozenset[str] = frozenset()


def sort_arguments(
    words: Sequence[str],
    *,
    model: str | None = None,
    images: Sequence[str] = (),
    videos: Sequence[str] = (),
) -> ChatRequest:
    """Sort positional words into model, pictures, videos and question.

    Args:
        words: what stood after the verb, in order.
        model: the value of `--model`; then no word can be the model.
        images, videos: the values of `--image` and `--video`; they come before what is among the words.

    Raises:
        MediaError: a word names a picture that is not there.
        ModelError: the first word is a path to a folder that is not there.
        FoveateError: two models or two questions.
    """
    named = [resolve_image(source) for source in videos]
    found = [*(resolve_image(source) for source in images), *named]
    question: str | None = None
    for index, word in enumerate(words):
        if looks_like_image(word):
            found.append(resolve_image(word))
        elif index == 0 and looks_like_model(word, named=model is not None):
            if model is not None:
                raise FoveateError(f"two models: {model!r} and {word!r}", fix="Name one model.")
            model = _existing_model(word)
        elif question is None:
            question = word
        else:
            raise _two_questions(question, word)
    return ChatRequest(model=model, images=tuple(found), question=question, videos=frozenset(named))


def _two_questions(first: str, second: str) -> FoveateError:
    hint = nearest(first, PACKAGED_MODELS)
    fix = (
        hint
        if hint.startswith("Did")
        else 'Put the whole question in quotes: foveate chat cat.png "What is this?"'
    )
    return FoveateError(
        f"do not know what {first!r} is", why=f"{second!r} is taken for the question", fix=fix
    )


def looks_like_image(word: str) -> bool:
    """True for `-`, a data URI, a web address, a name with a picture's or video's suffix, any file that exists."""
    return (
        word == STANDARD_INPUT
        or DATA_URI.match(word) is not None
        or WEB_ADDRESS.match(word) is not None
        or word.startswith("file://")
        or _has_image_suffix(word)
        or _is_file(word)
    )


def looks_like_model(word: str, *, named: bool = False) -> bool:
    """True for a name of the package's own models, a folder, a path such as ./model, and (not `named`) a hub name."""
    if word in PACKAGED_MODELS or _is_folder(word) or _is_path(word):
        return True
    return not named and HUB_NAME.fullmatch(word) is not None


def is_local_model(ref: str | None) -> bool:
    """True when nothing has to be fetched for this model: embedded, or a folder of this machine."""
    return ref is None or ref in PACKAGED_MODELS or _is_folder(ref)


def resolve_image(source: str) -> str:
    """The source as `open_image` takes it: a path that exists, a data URI, or `-`.

    Raises:
        MediaError: there is no such file, or it is a web address.
    """
    if source == STANDARD_INPUT or DATA_URI.match(source):
        return source
    if WEB_ADDRESS.match(source):
        raise MediaError(
            f"cannot open {_shorten(source)}",
            why="pictures come from files here, and no network request is made",
            fix="Download it and name the file.",
        )
    path = _file_of_uri(source) if source.startswith("file://") else source
    if not _is_file(path):
        why = "it is a folder" if _is_folder(path) else f"looked in {Path.cwd()}"
        raise MediaError(f"no picture {_shorten(path)!r}", why=why, fix=_neighbour(path))
    return str(Path(path).expanduser())


def split_prompt(text: str) -> tuple[str, list[str]]:
    """Take the pictures out of a prompt.

    A word with a picture's suffix is a picture: bare, quoted, with escaped spaces, or as file:// address; so
    is a data URI. A word in backticks is always text.

    Returns:
        the remaining text, and the pictures in order, each as `resolve_image` gives it.

    Raises:
        MediaError: such a word names no file.
    """
    kept: list[str] = []
    images: list[str] = []
    end = 0
    for match in PROMPT_WORD.finditer(text):
        found = _picture_in(match)
        if found is None:
            continue
        source, rest = found
        try:
            images.append(resolve_image(source))
        except MediaError as error:
            hint = "If it is part of the question, write it in `backticks`."
            raise MediaError(error.what, why=error.why, fix=f"{error.fix} {hint}".strip()) from error
        kept += [text[end : match.start()].rstrip(), rest]
        end = match.end()
    return "".join([*kept, text[end:]]).strip(), images


def _picture_in(match: re.Match[str]) -> tuple[str, str] | None:
    """(picture, punctuation that followed it) of one prompt word, or None where the word is text."""
    double, single, bare = match.groups()
    quoted = double or single
    if quoted is not None:
        return (quoted, "") if _means_picture(quoted) else None
    if bare is None:
        return None
    plain = re.sub(r"\\(.)", r"\1", bare)
    if _means_picture(plain):
        return plain, ""
    stripped = plain.rstrip(TRAILING_PUNCTUATION)
    return (stripped, plain[len(stripped) :]) if _means_picture(stripped) else None


def _means_picture(word: str) -> bool:
    return DATA_URI.match(word) is not None or _has_image_suffix(word)


def means_video(source: str) -> bool:
    """True for a name with a video's suffix and a data URI of a video type."""
    return source.startswith("data:video/") or _suffix(source) in VIDEO_SUFFIXES


def _has_image_suffix(word: str) -> bool:
    return _suffix(word) in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def _suffix(word: str) -> str:
    """ ".png" for a name with that end and something before it, else nothing."""
    name = word.rstrip().rsplit("/", 1)[-1]
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""


def _file_of_uri(uri: str) -> str:
    return unquote(urlsplit(uri).path)


def _is_file(word: str) -> bool:
    try:
        return Path(word).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a name, a null byte, or no such user after ~
        return False


def _is_folder(word: str) -> bool:
    try:
        return bool(word) and Path(word).expanduser().is_dir()  # Path("") is the working folder
    except (OSError, ValueError, RuntimeError):
        return False


def _is_path(word: str) -> bool:
    return word.startswith(("./", "../", "/", "~/")) and " " not in word


def _existing_model(word: str) -> str:
    if _is_path(word) and not _is_folder(word):
        raise ModelError(f"no model folder {word!r}", why="it does not exist", fix="List models: foveate ls")
    return str(Path(word).expanduser()) if _is_folder(word) else word


def _neighbour(path: str) -> str:
    """The nearest picture in the folder where the missing one was looked for."""
    folder = Path(path).expanduser().parent
    try:
        names = [entry.name for entry in folder.iterdir() if _has_image_suffix(entry.name)]
    except (OSError, ValueError):
        return f"There is no folder {str(folder)!r}."
    hint = nearest(Path(path).name, names) if names else ""
    return hint if hint.startswith("Did") else "Check the path."


def _shorten(name: str, limit: int = 200) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
