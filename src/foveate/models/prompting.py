"""From messages to a `Prompt`: normalise, apply the template, expand placeholders, process pixels.

Owns the checks a caller's mistake meets first: counts of images, text-only models, length of the context.
Knows no family: what stands for an image is asked of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foveate.errors import ContextLengthError, PromptError, nearest
from foveate.models.records import PreparedMedia, Prompt

if TYPE_CHECKING:
    import torch

    from foveate.media import Image
    from foveate.models.base import VisionLanguageModel

PART_TYPES = ("text", "image", "image_url")
ROLES = ("system", "user", "assistant", "tool", "developer")


def normalise(
    messages: Sequence[Mapping[str, Any]], images: Sequence[Any]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Messages whose content is a list of {"type": "text"} and bare {"type": "image"} parts, and the image
    sources.

    Raises:
        PromptError: unknown role or part type, a part without its value, or unequal counts of images and
            parts.
    """
    supplied = iter(images)
    missing = 0
    sources: list[Any] = []
    normal: list[dict[str, Any]] = []
    for message in messages:
        parts: list[dict[str, Any]] = []
        for part in _parts(message):
            if part["type"] == "text":
                parts.append({"type": "text", "text": str(part.get("text", ""))})
                continue
            source = _source_of(part)
            if source is None:
                source = next(supplied, None)
                missing += source is None
            sources.append(source)
            parts.append({"type": "image"})
        normal.append({"role": message["role"], "content": parts})
    left_over = sum(1 for _ in supplied)
    if missing or left_over:
        open_parts = len(images) - left_over + missing
        raise PromptError(
            f"{len(images)} images were given for {open_parts} image parts without a source of their own",
            why="each image needs one {'type': 'image'} part in the messages",
            fix="Add or remove image parts so that the counts are equal.",
        )
    return normal, sources


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
    """The image a part carries itself, or None."""
    if part["type"] == "image_url":
        url = part.get("image_url")
        url = url.get("url") if isinstance(url, Mapping) else url
        if not url:
            raise PromptError("An image_url part has no url", fix="Write {'image_url': {'url': ...}}.")
        return url
    return next((part[key] for key in ("image", "path", "url") if part.get(key) is not None), None)


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
    *,
    to_be_reduced: bool,
) -> Prompt:
    """See `VisionLanguageModel.prepare`."""
    if not messages:
        raise PromptError("The conversation is empty", fix="Pass at least one user message.")
    normal, sources = normalise(messages, images)
    if sources and not model.accepts_images:
        raise PromptError(
            f"{model.ref} is a text-only model ({model.config.model_type}) and cannot look at images",
            fix="Leave the images out, or choose a vision-language model (foveate ls).",
        )
    if model.accepts_images:
        _refuse_written_placeholders(model, normal)
    opened = [_open(source) for source in sources]
    grids = [model.visual_grid(image.width, image.height, images_in_prompt=len(opened)) for image in opened]
    text = model.render(normal)
    expanded = _expand(model, text, [model.placeholder_text(grid) for grid in grids])
    token_ids = _tokenize(model, expanded)
    visual = sum(grid.tokens for grid in grids)
    if len(token_ids) - (visual if to_be_reduced else 0) > model.context_length:
        raise ContextLengthError(
            f"The prompt has {len(token_ids)} tokens, {visual} of them visual",
            why=f"the context of {model.ref} is {model.context_length} tokens",
            fix="Shorten the conversation, or use fewer or smaller images.",
        )
    media = [
        PreparedMedia(
            tensors=_process(model, image, len(opened)),
            grid=grid,
            width=image.width,
            height=image.height,
            digest=image.digest,
            source=image.source,
        )
        for image, grid in zip(opened, grids, strict=True)
    ]
    return Prompt(token_ids=token_ids, media=media, spans=_spans(model, token_ids, media), text=text)


def _process(model: VisionLanguageModel, image: Image, images_in_prompt: int) -> dict[str, torch.Tensor]:
    def process() -> dict[str, torch.Tensor]:
        return model.process_pixels(image.pil(), images_in_prompt=images_in_prompt)

    # The number of images decides how some families tile; the processor's settings are the checkpoint's.
    return model.pixels.get((image.digest, images_in_prompt), process)


def _open(source: Any) -> Image:
    from foveate.media import open_image

    return open_image(source)


def _refuse_written_placeholders(model: VisionLanguageModel, messages: Sequence[Mapping[str, Any]]) -> None:
    """Text that spells the placeholder would be read as an image."""
    for message in messages:
        for part in message["content"]:
            for token in {model.template_placeholder, model.image_token}:
                if part["type"] == "text" and token in part["text"]:
                    raise PromptError(
                        f"The text contains {token}",
                        why="this model reads that as the place of an image",
                        fix="Remove it, and pass images as {'type': 'image'} parts.",
                    )


def _expand(model: VisionLanguageModel, text: str, replacements: Sequence[str]) -> str:
    """Every placeholder of the template replaced by what the image's grid asks for, in order."""
    if not model.accepts_images:
        return text
    pieces = text.split(model.template_placeholder)
    if len(pieces) - 1 != len(replacements):
        raise PromptError(
            f"The chat template of {model.ref} placed {len(pieces) - 1} of {len(replacements)} images",
            why="it writes other than one placeholder for each",
            fix="Put images in user messages, or correct the model's chat template.",
        )
    # Joined, not replaced one by one: an expansion contains the placeholder itself.
    joined = pieces[0]
    for replacement, piece in zip(replacements, pieces[1:], strict=True):
        joined += replacement + piece
    return joined


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
    places = [index for index, token in enumerate(token_ids) if token == model.image_token_id]
    assert len(places) == sum(item.grid.tokens for item in media), (
        f"{len(places)} image tokens for {sum(item.grid.tokens for item in media)} visual tokens"
    )
    spans, start = [], 0
    for item in media:
        own = places[start : start + item.grid.tokens]
        spans.append((own[0], own[-1] + 1))
        start += item.grid.tokens
    return spans
