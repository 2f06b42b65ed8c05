"""From messages to a `Prompt`: normalise, apply the template, expand placeholders, process pixels.

Owns the checks a caller's mistake meets first: counts of images and videos, text-only models, length of the context;
and that a family which reads no videos is shown their frames as pictures. Knows no family: what stands for an image or
video is asked of the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foveate.errors import ContextLengthError, PromptError, nearest
from foveate.models.media_parts import Source, frames_as_pictures, grid_of, open_source, pixels_of
from foveate.models.records import PreparedMedia, Prompt
from foveate.models.video import VideoModel

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

KINDS = {"image": "image", "image_url": "image", "video": "video", "video_url": "video"}
PART_TYPES = ("text", *KINDS)
SAMPLING = ("frames_per_second", "max_frames")  # what a video part may say of its frames
ROLES = ("system", "user", "assistant", "tool", "developer")


def normalise(
    messages: Sequence[Mapping[str, Any]], images: Sequence[Any], videos: Sequence[Any] = ()
) -> tuple[list[dict[str, Any]], list[Source]]:
    """Messages whose content is a list of {"type": "text"} and bare {"type": "image"} or {"type": "video"} parts,
    and where their content is.

    Raises:
        PromptError: unknown role or part type, a part without its value, or unequal counts of images or videos
            and parts.
    """
    given = {"image": list(images), "video": list(videos)}
    taken = {"image": 0, "video": 0}
    sources: list[Source] = []
    normal: list[dict[str, Any]] = []
    for message in messages:
        parts: list[dict[str, Any]] = []
        for part in _parts(message):
            if part["type"] == "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
                continue
            kind = KINDS[part["type"]]
            value = _source_of(part)
            if value is None:
                supplied, place = given[kind], taken[kind]
                value = supplied[place] if place < len(supplied) else None
                taken[kind] += 1
            sources.append(Source(kind=kind, value=value, sampling=_sampling_of(part, kind)))
            parts.append({"type": kind})
        normal.append({"role": message["role"], "content": parts})
    for kind, supplied in given.items():
        if taken[kind] != len(supplied):
            raise PromptError(
                f"{len(supplied)} {kind}s were given for {taken[kind]} {kind} parts without a source of their own",
                why=f"each {kind} needs one {{'type': '{kind}'}} part in the messages",
                fix=f"Add or remove {kind} parts so that the counts are equal.",
            )
    return normal, sources


def _sampling_of(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """What a video part says of its frames: beside its type, or beside the url."""
    if kind != "video":
        return {}
    beside = part.get("video_url")
    stated = {**part, **beside} if isinstance(beside, Mapping) else part
    return {name: stated[name] for name in SAMPLING if stated.get(name) is not None}


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    role = message.get("role")
    if role not in ROLES:
        raise PromptError(f"Unknown role {role!r}", fix=nearest(str(role), ROLES))
    content = message.get("content")
    if content is None:
        return
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    for part in content:
        if part.get("type") not in PART_TYPES:
            raise PromptError(
                f"Unknown content part {part.get('type')!r}", fix=nearest(str(part.get("type")), PART_TYPES)
            )
        yield part


def _source_of(part: Mapping[str, Any]) -> Any:
    """The image or video a part carries itself, or None."""
    kind = part["type"]
    if kind.endswith("_url"):
        url = part.get(kind)
        url = url.get("url") if isinstance(url, Mapping) else url
        if not url:
            raise PromptError(f"A part of type {kind} has no url", fix=f"Write {{'{kind}': {{'url': ...}}}}.")
        return url
    return next((part[key] for key in (kind, "path", "url") if part.get(key) is not None), None)


def apply_template(model: VisionLanguageModel, messages: Sequence[Mapping[str, Any]]) -> str:
    """The checkpoint's chat template over normalised messages, ending where the answer begins."""
    if model.chat_template is None:
        raise PromptError(
            f"{model.ref} carries no chat template",
            why="neither tokenizer_config.json nor chat_template.jinja has one",
            fix="Add a chat_template.jinja to the model's folder.",
        )
    if not model.keeps_content_parts:
        messages = [
            {**message, "content": "".join(part["text"] for part in message["content"])}
            for message in messages
        ]
    return str(
        model.tokenizer.apply_chat_template(
            list(messages), chat_template=model.chat_template, tokenize=False, add_generation_prompt=True
        )
    )


def prepare_prompt(
    model: VisionLanguageModel,
    messages: Sequence[Mapping[str, Any]],
    images: Sequence[Any],
    videos: Sequence[Any] = (),
    *,
    to_be_reduced: bool,
) -> Prompt:
    """See `VisionLanguageModel.prepare`."""
    if not messages:
        raise PromptError("The conversation is empty", fix="Pass at least one user message.")
    normal, sources = normalise(messages, images, videos)
    if sources and not model.accepts_images:
        raise PromptError(
            f"{model.ref} is a text-only model ({model.config.model_type}) and cannot look at images",
            fix="Leave the images out, or choose a vision-language model (foveate ls).",
        )
    if model.accepts_images:
        _refuse_written_placeholders(model, normal)
    opened = [open_source(source) for source in sources]
    if not model.accepts_videos:
        normal, sources, opened = frames_as_pictures(normal, sources, opened)
    lone = sum(source.kind == "image" for source in sources)
    grids = [grid_of(model, medium, lone) for medium in opened]
    text = model.render(normal)
    expanded = _expand(model, text, sources, [model.placeholder_text(grid) for grid in grids])
    token_ids = _tokenize(model, expanded)
    visual = sum(grid.tokens for grid in grids)
    videos_are_in = any(source.kind == "video" or source.video for source in sources)
    if len(token_ids) - (visual if to_be_reduced else 0) > model.context_length:
        raise ContextLengthError(
            f"The prompt has {len(token_ids)} tokens, {visual} of them visual",
            why=f"the context of {model.ref} is {model.context_length} tokens",
            fix="Shorten the conversation, or use fewer or smaller images"
            + (" and fewer frames of videos (max_frames)." if videos_are_in else "."),
        )
    media = [
        PreparedMedia(
            tensors=pixels_of(model, medium, grid, lone),
            grid=grid,
            width=medium.width,
            height=medium.height,
            digest=medium.digest,
            source=medium.source,
            video=source.video,
        )
        for medium, grid, source in zip(opened, grids, sources, strict=True)
    ]
    return Prompt(token_ids=token_ids, media=media, spans=_spans(model, token_ids, media), text=text)


def _refuse_written_placeholders(model: VisionLanguageModel, messages: Sequence[Mapping[str, Any]]) -> None:
    """Text that spells a placeholder would be read as an image or video."""
    for message in messages:
        for part in message["content"]:
            for token in sorted(model.reserved_texts, key=len):
                if part["type"] == "text" and token in part["text"]:
                    raise PromptError(
                        f"The text contains {token}",
                        why="this model reads that as the place of an image or video",
                        fix="Remove it, and pass images as {'type': 'image'} parts, videos as {'type': 'video'}.",
                    )


def _expand(
    model: VisionLanguageModel, text: str, sources: Sequence[Source], replacements: Sequence[str]
) -> str:
    """Every placeholder of the template replaced by what the grid asks for, in order."""
    if not model.accepts_images:
        return text
    placeholders = {model.template_placeholder: "image"}
    if isinstance(model, VideoModel):
        placeholders[model.video_placeholder] = "video"
    longest_first = sorted(placeholders, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
    placed = [placeholders[piece] for piece in pieces[1::2]]
    wanted = [source.kind for source in sources]
    for kind in ("video", "image"):
        if placed.count(kind) != wanted.count(kind):
            raise PromptError(
                f"The chat template of {model.ref} placed {placed.count(kind)} of {wanted.count(kind)} {kind}s",
                why="it writes other than one placeholder for each",
                fix=f"Put {kind}s in user messages, or correct the model's chat template.",
            )
    if placed != wanted:
        raise PromptError(
            f"The chat template of {model.ref} changes the order of images and videos",
            why="it writes their placeholders in another order than that of the parts",
            fix="Put videos and images into messages of their own, or correct the model's chat template.",
        )
    # Joined, not replaced one by one: an expansion contains the placeholder itself.
    pieces[1::2] = replacements
    return "".join(pieces)


def _tokenize(model: VisionLanguageModel, text: str) -> list[int]:
    bos = getattr(model.tokenizer, "bos_token", None)
    # A template that writes the beginning-of-sequence token itself must not get a second one.
    add_special = model.adds_special_tokens and not (bos and text.startswith(bos))
    return list(model.tokenizer(text, add_special_tokens=add_special)["input_ids"])


def _spans(
    model: VisionLanguageModel, token_ids: Sequence[int], media: Sequence[PreparedMedia]
) -> list[tuple[int, int]]:
    if not media:
        return []
    places = [index for index, token in enumerate(token_ids) if token in model.visual_token_ids]
    assert len(places) == sum(item.grid.tokens for item in media), (
        f"{len(places)} placeholders for {sum(item.grid.tokens for item in media)} visual tokens"
    )
    spans, start = [], 0
    for item in media:
        own = places[start : start + item.grid.tokens]
        spans.append((own[0], own[-1] + 1))
        start += item.grid.tokens
    return spans
