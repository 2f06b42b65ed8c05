"""What a draft head is made of, checked when it is said; it travels in the head's config.json.

Owns ranges, the short form of a compressor ("pool:4") and the way to and from JSON. Knows no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from foveate.decode.drafts.base import DraftError
from foveate.errors import nearest

if TYPE_CHECKING:
    from foveate.models.base import VisionLanguageModel

KINDS = ("eagle2", "eagle3")
VISUAL = ("full", "compressed", "text")
PRIMITIVES = ("prune", "importance", "pool", "convolution")  # take a ratio
MODES = (*PRIMITIVES, "resampler", "vispec", "weighted", "concat", "select")


@dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """How a picture is made shorter for the draft; the target reads it whole (SpecVLM, ViSpec).

    Attributes:
        mode: a primitive at one ratio (prune: at random; importance: by a learned score; pool; convolution), queries
            that attend to the picture (resampler; vispec: all but the last of them, which every later text row is told
            of), or a mix: weighted (prune, pool and convolution at one ratio, summed by a gate), concat (prune and
            pool 20x, convolution 3x and the resampler, one behind the other), select (one of those four or none of
            the picture, by a gate).
        ratio: tokens of the picture for each that stays; of primitives and `weighted`.
        queries: learned queries of the resampler.

    Raises:
        DraftError: an unknown mode, or a value outside its range.
    """

    mode: str = "select"
    ratio: int = 3
    queries: int = 2

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise DraftError(
                f"There is no compressor {self.mode!r} of pictures for drafts", fix=nearest(self.mode, MODES)
            )
        if not 1 <= self.ratio <= 1024:
            raise DraftError(
                f"The ratio of the compressor {self.mode} is {self.ratio}", why="it must be 1 to 1024"
            )
        least = 2 if self.mode == "vispec" else 1
        if not least <= self.queries <= 64:
            raise DraftError(
                f"The compressor {self.mode} has {self.queries} queries", why=f"it must have {least} to 64"
            )

    @classmethod
    def parse(cls, text: str) -> CompressorConfig:
        """Of the form MODE or MODE:N, N the ratio or, for resampler and vispec, the queries: pool:4, vispec:2.

        Raises:
            DraftError: another form, or as above.
        """
        mode, colon, number = text.partition(":")
        if colon and not number.isdecimal():
            raise DraftError(
                f"The compressor {text!r} ends in {number!r}",
                why="behind the colon stands a whole number: the ratio, or the queries",
                fix="For instance pool:4 or resampler:2.",
            )
        if not colon or mode not in MODES:
            return cls(mode=mode)
        if mode in (*PRIMITIVES, "weighted"):
            return cls(mode=mode, ratio=int(number))
        return cls(mode=mode, queries=int(number))

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        if self.mode in (*PRIMITIVES, "weighted"):
            return f"{self.mode}:{self.ratio}"
        return f"{self.mode}:{self.queries}"


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Shapes and choices of one head.

    Attributes:
        kind: "eagle2" reads the target's states after the last norm and guesses the next (Li et al. 2024, arXiv
            2406.16858); "eagle3" reads several layers and owes its states to nobody (Li et al. 2025, arXiv
            2503.01840).
        hidden_size: of the target; embeddings, states and the head's own rows have it.
        attention_heads, key_value_heads, head_dim, intermediate_size: of its one decoder layer.
        taps: layers of the target that eagle3 reads; none for eagle2.
        compressor: of pictures, where `visual` is "compressed".
        vocabulary: tokens it can guess, a part of the target's; None is all of them.
        visual: what it reads of pictures: all, a short form, or nothing.
        input_norm: whether embeddings and states are normalised before they are joined (SpecVLM).

    Raises:
        DraftError: values that contradict each other, or outside their range.
    """

    kind: str = "eagle2"
    hidden_size: int
    attention_heads: int
    key_value_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    taps: tuple[int, ...] = ()
    compressor: CompressorConfig | None = None
    vocabulary: int | None = None
    visual: str = "full"
    input_norm: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DraftError(f"There is no draft head {self.kind!r}", fix=nearest(self.kind, KINDS))
        if self.visual not in VISUAL:
            raise DraftError(
                f"A draft head cannot read pictures {self.visual!r}", fix=nearest(self.visual, VISUAL)
            )
        for name in (
            "hidden_size",
            "attention_heads",
            "key_value_heads",
            "head_dim",
            "intermediate_size",
            "vocabulary",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DraftError(f"The {name} of a draft head is {value}", why="it must be 1 or more")
        if self.head_dim % 2 or self.attention_heads % self.key_value_heads:
            raise DraftError(
                f"A draft head has {self.attention_heads} attention heads of {self.head_dim} over "
                f"{self.key_value_heads}",
                why="their dimension must be even, and those that share keys equally many",
            )
        if (self.kind == "eagle3") != bool(self.taps):
            raise DraftError(
                f"A head of kind {self.kind} reads the layers {self.taps or 'none'}",
                why="eagle3 reads layers of the target and eagle2 its last states alone",
            )
        if (self.visual == "compressed") != (self.compressor is not None):
            raise DraftError(
                f"A head that reads pictures {self.visual} has "
                f"{'no compressor' if self.compressor is None else f'the compressor {self.compressor.mode}'}",
                why="a compressor and visual='compressed' belong together",
            )

    @classmethod
    def for_target(
        cls,
        model: VisionLanguageModel,
        *,
        kind: str = "eagle2",
        compressor: CompressorConfig | None = None,
        visual: str | None = None,
        taps: tuple[int, ...] | None = None,
        **changes: Any,
    ) -> HeadConfig:
        """Shapes of the target's own layers; `changes` are other fields."""
        text = model.text_config
        width, heads = int(text.hidden_size), int(text.num_attention_heads)
        if taps is None:
            taps = default_taps(int(text.num_hidden_layers)) if kind == "eagle3" else ()
        shapes = {
            "hidden_size": width,
            "attention_heads": heads,
            "key_value_heads": int(getattr(text, "num_key_value_heads", None) or heads),
            "head_dim": int(getattr(text, "head_dim", None) or width // heads),
            "intermediate_size": int(text.intermediate_size),
        }
        if visual is None:
            visual = "full" if compressor is None else "compressed"
        return cls(kind=kind, compressor=compressor, visual=visual, taps=taps, **{**shapes, **changes})

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {**asdict(self), "taps": list(self.taps)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HeadConfig:
        """
        Raises:
            DraftError: unknown or missing keys, values of another type, or as above.
        """
        _check_keys(values, cls)
        given = dict(values)
        compressor = given.get("compressor")
        if compressor is not None:
            if not isinstance(compressor, dict):
                raise DraftError(f"The head's compressor is {compressor!r}", why="it must be a mapping")
            _check_keys(compressor, CompressorConfig)
            given["compressor"] = CompressorConfig(**compressor)
        taps = given.get("taps", [])
        if not all(isinstance(layer, int) for layer in taps):
            raise DraftError(f"The taps of the draft head are {taps}", why="they must be numbers of layers")
        given["taps"] = tuple(taps)
        return cls(**given)


def default_taps(layers: int) -> tuple[int, ...]:
    """EAGLE-3's layers 2, L/2 and L-3 (from 0); of targets with few layers a low, a middle and a high one that is not
    the last."""
    last = max(layers - 2, 0)
    chosen = (2, layers // 2, layers - 3) if layers >= 8 else (layers // 4, min(layers // 2, last), last)
    return tuple(sorted(set(chosen)))


_PLAIN: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "str": str,
    "bool": bool,
    "tuple[int, ...]": list,
    "int | None": int,
}


def _check_keys(values: Mapping[str, Any], kind: type) -> None:
    """That the mapping has the fields of `kind`, all that have no default, of their types."""
    known = {field.name: field for field in fields(kind)}
    for name, value in values.items():
        if name not in known:
            raise DraftError(f"A draft head has no setting {name!r}", fix=nearest(name, known))
        wanted = str(known[name].type)
        expected = _PLAIN.get(wanted)
        is_none = value is None and wanted.endswith("None")
        wrong_bool = isinstance(value, bool) and wanted != "bool"
        if expected is not None and not is_none and (wrong_bool or not isinstance(value, expected)):
            raise DraftError(f"The setting {name} of a draft head is {value!r}", why=f"it must be {wanted}")
    missing = [name for name, field in known.items() if name not in values and field.default is MISSING]
    if missing:
        raise DraftError(f"A draft head lacks {', '.join(missing)}", fix="Save it anew from its training.")
