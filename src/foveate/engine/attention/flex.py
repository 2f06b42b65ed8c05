"""Attention on a GPU through torch's FlexAttention, straight over the physical cache.

Owns the choice of calls, what unwritten memory may hold, and the check that the compiled kernels compute the right
thing on this machine. Knows no rules of who sees whom (`flex_kernel.py`) and no block tables (`tiles.py`).
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import weakref
from collections.abc import Sequence

import torch

from foveate.engine.attention.batch import Backend, Call, PagedBatch, Segment
from foveate.engine.attention.flex_kernel import paged_flex
from foveate.engine.attention.reference import ReferenceBackend
from foveate.engine.attention.tiles import Tiles, begun_tails, cut_into_tiles
from foveate.engine.cache import KeyValueBlocks, LayerShape
from foveate.models.attention import AttentionState

_log = logging.getLogger(__name__)

PROMPT_ROWS = 64  # query rows of a tile of a prompt; a decoding sequence has tiles of one
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_NARROWEST = 16  # of heads and of blocks: what a tensor core multiplies at least
_ALLOWED_ERROR = {torch.float32: 2e-3, torch.float16: 1e-2, torch.bfloat16: 4e-2}  # of the probe; TF32 passes


class FlexBackend(Backend):
    """Decoding sequences in one call, prompts in another, nothing gathered.

    On a GPU both are compiled, once per kind of layer. A decoding batch is compiled for each power of two of
    sequences, because torch splits long sequences between processors only where it knows how many there are.
    CUDA graphs are not used. Should compiling fail on the way, the reference takes over for good and the log
    says why.

    Compiled kernels read the listed blocks alone, so of what nobody wrote they see the end of a sequence's last
    block: a weight of 0 times NaN is NaN, so values there are made 0 when the block is begun, and a cache is rid of
    what its memory held before when it is first seen. On a CPU, where it runs only if asked for, torch computes
    all scores over all slots and then masks: there values are copied, with 0 for every slot that no sequence of
    the batch holds. In that form NaN in the past of one sequence reaches the others; the kernels keep them apart.
    """

    name = "flex"
    purpose = "compiled FlexAttention reads the paged cache in place"
    where = "a CUDA GPU with Triton; float32, float16, bfloat16; a CPU only if asked for"

    def __init__(self) -> None:
        self.failure: str | None = None
        self._reference = ReferenceBackend()
        self._clean: weakref.WeakSet[KeyValueBlocks] = weakref.WeakSet()

    @classmethod
    def refusal(cls, memory: KeyValueBlocks) -> str | None:
        """On a GPU: shapes and a dtype the kernels know, and a small case that comes out right."""
        device, dtype = memory.keys[0].device, memory.keys[0].dtype
        if device.type == "cpu":
            return None
        if device.type != "cuda":
            return f"the kernels are for CUDA, the cache is on {device.type}"
        if dtype not in _DTYPES:
            return f"the kernels know float32, float16 and bfloat16, the cache is {dtype}"
        size = memory.block_size
        if size < _NARROWEST or size & (size - 1):
            return f"a block has {size} tokens, the kernels want a power of two from {_NARROWEST}"
        shapes = _shapes(memory)
        narrowest = min(min(shape.key_width, shape.value_width) for shape in shapes)
        if narrowest < _NARROWEST:
            return f"heads are {narrowest} wide, the kernels want {_NARROWEST} or more"
        if importlib.util.find_spec("triton") is None:
            return "triton, which compiles the kernels, is not installed"
        return probe(shapes, size, dtype, device)

    @classmethod
    def only_on_request(cls, memory: KeyValueBlocks) -> str | None:
        """On a CPU it computes all scores over the whole cache."""
        return "on a CPU it runs uncompiled" if memory.keys[0].device.type == "cpu" else None

    def attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        if self.failure is not None or call.query.dtype != batch.memory.keys[call.layer].dtype:
            return self._reference.attend(batch, call)
        try:
            return self._attend(batch, call)
        except torch.OutOfMemoryError:
            raise  # says nothing about the kernels
        except RuntimeError as error:  # what torch's compiler raises, whichever of its parts fails
            self.failure = _first_line(error)
            _log.warning("The attention backend flex failed, reference takes over: %s", self.failure)
            return self._reference.attend(batch, call)

    def _attend(self, batch: PagedBatch, call: Call) -> torch.Tensor:
        values = self._readable_values(batch, call.layer)
        output = call.query.new_empty(call.query.shape[2], call.query.shape[1], values.shape[2])
        for segments, height in ((batch.decoding, 1), (batch.prompts, PROMPT_ROWS)):
            if segments:
                tiles = _tiles(batch, segments, height, call.window)
                output[tiles.rows] = self._attend_tiles(batch, call, tiles, values)
        for segment in batch.trees:  # where a token lies says nothing of where it stands
            rows = slice(segment.offset, segment.offset + segment.count)
            output[rows] = self._reference.attend_segment(batch, call, segment)[0].transpose(0, 1)
        return output.transpose(0, 1)[None]

    def _attend_tiles(
        self, batch: PagedBatch, call: Call, tiles: Tiles, values: torch.Tensor
    ) -> torch.Tensor:
        """[T, H, d] of the tokens in `tiles.rows`."""
        query = call.query[0][:, tiles.tokens].transpose(0, 1).contiguous()  # [N, H, h, d]
        keys = batch.memory.keys[call.layer].transpose(0, 1)[None]
        kernel = paged_flex(
            block_size=batch.memory.block_size,
            scale=call.scale,
            window=call.window,
            softcap=call.softcap,
            sinks=call.sinks is not None,
            height=query.shape[2],
            sharing=query.shape[1] // keys.shape[1],
            compiled=query.device.type != "cpu",
        )
        output, lse = kernel(
            query,
            keys,
            values.transpose(0, 1)[None],
            tiles.positions,
            tiles.sequences,
            tiles.counts,
            tiles.blocks,
            tiles.logical,
            tiles.groups,
            tiles.cuts,
        )
        if call.sinks is not None:  # a sink takes its share of the weight and gives nothing
            assert lse is not None
            output = output * torch.sigmoid(lse - call.sinks.float()[:, None])[..., None].to(output.dtype)
        return output.transpose(1, 2).flatten(0, 1)[tiles.filled]

    def _readable_values(self, batch: PagedBatch, layer: int) -> torch.Tensor:
        """[slots, G, d] values in which nothing unwritten is NaN where a weight of 0 would meet it."""
        values = batch.memory.values[layer]
        if values.device.type == "cpu":
            held = torch.zeros(values.shape[0], dtype=torch.bool)
            held[torch.cat([segment.slots for segment in batch.segments])] = True
            return torch.where(held[:, None, None], values, 0)
        if batch.memory not in self._clean:
            for tensor in batch.memory.values:
                tensor.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
            self._clean.add(batch.memory)
        if "begun tails" not in batch.notes:
            batch.notes["begun tails"] = begun_tails(batch.segments, batch.memory.block_size)
        tails = batch.notes["begun tails"]
        if isinstance(tails, torch.Tensor):
            values.index_fill_(0, tails, 0)
        return values


def _tiles(batch: PagedBatch, segments: Sequence[Segment], height: int, window: int | None) -> Tiles:
    """Shared by all layers of one window."""
    key = ("tiles", height, window)
    if key not in batch.notes:
        batch.notes[key] = cut_into_tiles(segments, batch.memory, height=height, window=window)
    found = batch.notes[key]
    assert isinstance(found, Tiles)
    return found


def _shapes(memory: KeyValueBlocks) -> tuple[LayerShape, ...]:
    """The different ones among the layers' shapes."""
    found = (
        LayerShape(heads=keys.shape[1], key_width=keys.shape[2], value_width=values.shape[2])
        for keys, values in zip(memory.keys, memory.values, strict=True)
    )
    return tuple(dict.fromkeys(found))


@functools.cache
def probe(
    shapes: tuple[LayerShape, ...], block_size: int, dtype: torch.dtype, device: torch.device
) -> str | None:
    """Why a small random case went wrong; None if it equals the reference. Once per process and shapes."""
    lengths = ((3 * block_size + 5, 1), (block_size, 1), (2 * block_size + 3, block_size + 2), (9, 9))
    memory = KeyValueBlocks(shapes, 32, block_size, dtype=dtype, device=device, poison=True)
    free = iter(torch.randperm(32, generator=torch.Generator().manual_seed(0)).tolist())
    segments: list[Segment] = []
    for total, count in lengths:
        table = torch.tensor([next(free) for _ in range(-(-total // block_size))])
        slots = (table[:, None] * block_size + torch.arange(block_size)).reshape(-1)[:total]
        groups = torch.where(torch.arange(total) % 9 < 4, 0, -1) if count > 1 else None
        offset = sum(segment.count for segment in segments)
        segments.append(
            Segment(
                offset=offset,
                start=total - count,
                stop=total,
                slots=slots.to(device),
                rules=AttentionState(groups=groups),
            )
        )
    flex = FlexBackend()
    for layer, shape in enumerate(shapes):
        error = _probe_error(memory, layer, shape, segments, flex)
        if flex.failure is not None:
            return f"its kernels do not compile here ({flex.failure})"
        if not error <= _ALLOWED_ERROR[dtype]:  # NaN is no small error
            return f"its kernels are off by {error:.1e} of the reference's largest number here"
    return None


def _probe_error(
    memory: KeyValueBlocks, layer: int, shape: LayerShape, segments: Sequence[Segment], flex: Backend
) -> float:
    """Largest difference from the reference, over the reference's largest number."""
    generator = torch.Generator().manual_seed(layer)

    def random(tokens: int, heads: int, width: int) -> torch.Tensor:
        numbers = torch.randn(1, heads, tokens, width, generator=generator)
        return numbers.to(memory.keys[layer])

    for segment in segments:
        past = (
            random(segment.start, shape.heads, shape.key_width),
            random(segment.start, shape.heads, shape.value_width),
        )
        memory.write(layer, segment.slots[: segment.start], *(part[0].transpose(0, 1) for part in past))
    count = sum(segment.count for segment in segments)
    query = random(count, 2 * shape.heads, shape.key_width)
    key, value = random(count, shape.heads, shape.key_width), random(count, shape.heads, shape.value_width)
    scale = shape.key_width**-0.5
    got, want = (
        PagedBatch(memory, segments, backend).attend(layer, query, key, value, scale=scale).float()
        for backend in (flex, ReferenceBackend())
    )
    return float((got - want).abs().max() / want.abs().max())


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:200]
