"""The contract of the room: one `VisionLanguageModel`, whatever family the checkpoint is of.

Owns the steps shared by all families: prepare, encode in batches, merge, reference forward, reference
generate. Knows no requests, no scheduling, no HTTP. What differs between families (token counts, pixel
processing, feature packing, positions) is in `families/`, one file each.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from foveate.errors import PromptError
from foveate.models.parts.pixel_cache import PixelCache
from foveate.models.records import (
    Encoded,
    GeneratedToken,
    LoadedCheckpoint,
    MediaFeatures,
    PreparedMedia,
    Prompt,
    VisualGrid,
)
from foveate.models.registry import AS_PICTURES, AS_VIDEO, REFUSED

if TYPE_CHECKING:
    import PIL.Image

    from foveate.models.attention import Attends, AttentionState, KeyValueStore
    from foveate.models.parts.salience import SalienceTap, TowerRequest
    from foveate.models.quantisation import Quantisation


class VisionLanguageModel(abc.ABC):
    """A checkpoint behind one contract; `transformers` model code inside, our attention below it."""

    family: ClassVar[str]
    accepts_images: ClassVar[bool] = True
    accepts_videos: ClassVar[bool] = False  # True in subclasses of `video.VideoModel`
    default_template: ClassVar[str | None] = None  # for checkpoints that carry no chat template
    keeps_content_parts: ClassVar[bool] = True  # False: the template wants plain strings
    adds_special_tokens: ClassVar[bool] = True  # False: the rendered text is all there is
    window_cuts_groups: ClassVar[bool] = False  # see AttentionState

    def __init__(self, checkpoint: LoadedCheckpoint) -> None:
        self.ref = checkpoint.ref
        self.folder = checkpoint.folder
        self.config = checkpoint.config
        self.hf_model = checkpoint.hf_model
        self.tokenizer = checkpoint.tokenizer
        self.image_processor = checkpoint.image_processor
        self.video_settings = checkpoint.video_settings
        self.chat_template = checkpoint.chat_template or self.default_template
        self.dtype, self.dtype_reason = checkpoint.dtype, checkpoint.dtype_reason
        self.device, self.device_reason = checkpoint.device, checkpoint.device_reason
        self.text_config = self.config.get_text_config()
        self.pixels = PixelCache()
        self.quantisation: Quantisation | None = None
        # Counted now: weights that are packed or quantised later are no parameters any more.
        self.parameter_count = sum(weight.numel() for weight in self.hf_model.parameters())

    # -- what a family answers ---------------------------------------------------------------------------

    @abc.abstractmethod
    def visual_grid(self, width: int, height: int, *, images_in_prompt: int = 1) -> VisualGrid:
        """The layout and exact token count of an image of width x height pixels, before it is encoded.

        `images_in_prompt` matters to families that tile only lone images (LLaVA-OneVision).
        """

    @abc.abstractmethod
    def process_pixels(self, image: PIL.Image.Image, *, images_in_prompt: int = 1) -> dict[str, torch.Tensor]:
        """Pixel processing of one RGB image by the checkpoint's own PIL image processor."""

    @abc.abstractmethod
    def encode_batch(self, media: Sequence[PreparedMedia], tap: SalienceTap | None) -> list[Encoded]:
        """Encodes images whose pixel tensors stack; with a tap, salience too."""

    @abc.abstractmethod
    def placeholder_text(self, grid: VisualGrid) -> str:
        """The text that stands for one image or video once expanded: `grid.tokens` visual tokens and what frames
        them.
        """

    @property
    def image_token(self) -> str:
        """The text of the placeholder token, as the chat template writes it."""
        return str(self.tokenizer.convert_ids_to_tokens(self.image_token_id))

    @property
    def template_placeholder(self) -> str:
        """What the chat template writes once per image; most families write the image token."""
        return self.image_token

    @property
    def image_token_id(self) -> int:
        """The id that marks a visual token in `Prompt.token_ids`; -1 for a text-only model."""
        value = getattr(self.config, "image_token_id", None)
        return int(getattr(self.config, "image_token_index", -1) if value is None else value)

    @property
    def visual_token_ids(self) -> frozenset[int]:
        """Ids that mark places of features in `Prompt.token_ids`; videos may have one of their own."""
        return frozenset({self.image_token_id})

    def visual_mask(self, token_ids: Sequence[int]) -> torch.Tensor:
        """[T] booleans on the CPU: where features stand."""
        return torch.isin(torch.tensor(token_ids), torch.tensor(sorted(self.visual_token_ids)))

    @property
    def reserved_texts(self) -> frozenset[str]:
        """Words that a user may not write, for they would be read as the place of a picture or video."""
        return frozenset({self.template_placeholder, self.image_token})

    @property
    def context_length(self) -> int:
        """Tokens the language model's positions reach."""
        return int(getattr(self.text_config, "max_position_embeddings", 0) or 2048)

    @property
    def videos_are(self) -> str:
        """What becomes of a video in a prompt, in the registry's words."""
        if not self.accepts_images:
            return REFUSED
        return AS_VIDEO if self.accepts_videos else AS_PICTURES

    @property
    def salience_kind(self) -> str | None:
        """Where salience comes from: "cls" (the CLS row), "column" (the column mean), None without images."""
        return "column" if self.accepts_images else None

    @property
    def resizes(self) -> bool:
        """Whether `resized` works: the tower takes pictures of other sizes than the processor makes."""
        return False

    def resized(self, item: PreparedMedia, rows: int, cols: int) -> PreparedMedia:
        """The same picture at the resolution that becomes rows x cols visual tokens; see `resizes`."""
        raise NotImplementedError(f"the towers of {self.family} take one size")

    def picture(self, item: PreparedMedia) -> torch.Tensor:
        """[tiles or frames, 3, H, W] normalised pixels of a prepared image or video."""
        return item.tensors["pixel_values"]

    @property
    def language_model(self) -> Any:
        """The decoder stack that takes `inputs_embeds`."""
        return self.hf_model.model.language_model

    def positions(self, prompt: Prompt) -> torch.Tensor:
        """[1, T] position ids; families with M-RoPE give [3, 1, T] (time, height, width)."""
        return torch.arange(len(prompt.token_ids), device=self.device)[None]

    def attention_groups(self, prompt: Prompt) -> torch.Tensor | None:
        """[T] group ids: tokens of one group >= 0 see each other both ways; -1 and None are causal."""
        return None

    @property
    def plain_decoder(self) -> bool:
        """Whether every language layer is causal over all tokens: no sliding windows, no attention groups."""
        kinds = getattr(self.text_config, "layer_types", None) or ["full_attention"]
        window = getattr(self.text_config, "sliding_window", None) is not None
        windows = any(kind != "full_attention" for kind in kinds) or (window and len(kinds) == 1)
        return not windows and type(self).attention_groups is VisionLanguageModel.attention_groups

    def attention_state(self, prompt: Prompt, store: KeyValueStore | None = None) -> AttentionState:
        """What this prompt's attention needs; one object for all its steps."""
        from foveate.models.attention import AttentionState

        groups = self.attention_groups(prompt)
        return AttentionState(store, groups, window_cuts_groups=self.window_cuts_groups)

    def language_keywords(self, prompt: Prompt, features: Sequence[MediaFeatures]) -> dict[str, Any]:
        """Further keyword arguments the language model takes over the prompt (deepstack features)."""
        return {}

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The chat template over normalised messages, ending where the answer begins."""
        from foveate.models.prompting import apply_template

        return apply_template(self, messages)

    # -- shared steps ------------------------------------------------------------------------------------

    def prepare(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        images: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        to_be_reduced: bool = False,
    ) -> Prompt:
        """Template, opening of images and videos, pixel processing and placeholder expansion.

        A family that reads no videos gets the frames as pictures in order.

        Args:
            messages: OpenAI or Hugging Face form; content a string or a list of parts of type "text", "image",
                "image_url", "video" or "video_url".
            images: fill the image parts that carry no source of their own, in order; anything `open_image`
                takes.
            videos: the same for video parts; anything `read_video` takes, or a `Video`. A part may say which
                frames: `frames_per_second` and `max_frames` are passed on.
            to_be_reduced: visual tokens will be dropped before anything is run, so only the text must fit into
                the context here; whoever reduces checks the rest.

        Raises:
            PromptError: the prompt exceeds the context (both numbers named), images for a text-only model,
                or the counts of images, videos and placeholders differ.
            MediaError: an image or video cannot be opened.
        """
        from foveate.models.prompting import prepare_prompt

        return prepare_prompt(self, messages, images, videos, to_be_reduced=to_be_reduced)

    @torch.inference_mode()
    def encode(
        self, media: Sequence[PreparedMedia], *, salience: bool | TowerRequest = False
    ) -> list[MediaFeatures]:
        """Features of every item in order; items whose pixels have the same shape share a tower call.

        Args:
            salience: True for the salience row, or a request that names more (an early row, keys).
        """
        from foveate.models.parts.salience import SalienceTap, TowerRequest

        request = TowerRequest() if salience is True else salience
        batches: dict[tuple[int, ...], list[int]] = {}
        for index, item in enumerate(media):
            key = (item.grid.is_video, *item.tensors["pixel_values"].shape[1:])
            batches.setdefault(key, []).append(index)
        encoded: dict[int, MediaFeatures] = {}
        for indices in batches.values():
            items = [media[index] for index in indices]
            tap = SalienceTap(request) if request else None
            results = self.encode_batch(items, tap)
            for index, item, (features, row, deepstack) in zip(indices, items, results, strict=True):
                assert features.shape[0] == item.grid.tokens, (
                    f"{self.family}: {features.shape[0]} features where the grid promised {item.grid.tokens}"
                )
                heard = tap.split(row) if tap is not None and row is not None else (None, None, None)
                encoded[index] = MediaFeatures(
                    features=features,
                    grid=item.grid,
                    salience=heard[0],
                    shallow_salience=heard[1],
                    keys=heard[2],
                    deepstack=deepstack,
                    digest=item.digest,
                )
        return [encoded[index] for index in range(len(media))]

    def merge(self, prompt: Prompt, features: Sequence[MediaFeatures]) -> torch.Tensor:
        """inputs_embeds [1, T, D]: token embeddings with visual features over their placeholders."""
        ids = torch.tensor(prompt.token_ids, device=self.device)
        visual = self.visual_mask(prompt.token_ids).to(self.device)
        # An image token may lie outside the embedding table (PaliGemma): look up any other token there.
        embeds = self.hf_model.get_input_embeddings()(ids.masked_fill(visual, 0))
        if features:
            stacked = torch.cat([item.features for item in features]).to(embeds.dtype)
            if stacked.shape[0] != int(visual.sum()):
                raise PromptError(
                    f"The prompt has {int(visual.sum())} visual tokens but {stacked.shape[0]} features came",
                    fix="Pass the features of exactly this prompt's media, in order.",
                )
            embeds = embeds.clone()
            embeds[visual] = stacked
        return embeds[None]

    def run_language_model(
        self, embeds: torch.Tensor, positions: torch.Tensor, state: Attends, **keywords: Any
    ) -> torch.Tensor:
        """Hidden states [1, T, D] after the last norm; keys and values go through `state`, which may hold one
        sequence or a packed batch of many."""
        output = self.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            use_cache=False,
            attention_state=state,
            return_dict=True,
            **keywords,
        )
        return output.last_hidden_state

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., V] of the hidden rows given."""
        return self.hf_model.lm_head(hidden)

    @torch.inference_mode()
    def logits(self, prompt: Prompt) -> torch.Tensor:
        """[T, V]: the whole prompt in one reference forward through the registered attention."""
        features = self.encode(prompt.media)
        hidden = self.run_language_model(
            self.merge(prompt, features),
            self.positions(prompt),
            self.attention_state(prompt),
            **self.language_keywords(prompt, features),
        )
        return self.head(hidden)[0]

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        stop_token_ids: Sequence[int] = (),
    ) -> Iterator[GeneratedToken]:
        """Reference decoding with a plain KV cache; greedy at temperature 0, else nucleus sampling."""
        from foveate.models.generation import SamplingOptions, generate

        options = SamplingOptions(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop_token_ids=tuple(stop_token_ids),
        )
        return generate(self, prompt, options)

    def describe(self) -> dict[str, Any]:
        """Facts for `doctor`, `ls` and JSON output."""
        return {
            "ref": self.ref,
            "family": self.family,
            "parameters": self.parameter_count,
            "dtype": str(self.dtype).removeprefix("torch."),
            "dtype_reason": self.dtype_reason,
            "quantisation": self.quantisation.text() if self.quantisation else "none",
            "device": str(self.device),
            "device_reason": self.device_reason,
            "context_length": self.context_length,
            "accepts_images": self.accepts_images,
            "videos": self.videos_are,
            "weights": str(self.folder),
        }
