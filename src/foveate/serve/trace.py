"""What a reply tells of its pictures and its time: usage, headers, and the trace that a page can draw.

Owns the trace's form. A video is one entry, with the seconds of its frames (of their pairs in Qwen-VL) and a tile for
each; where the model looks at frames as pictures, each is an entry that names its video. Boxes are in pixels of the
picture as it was sent; where the processor pads it to a square, the square's tokens lie partly outside the picture, and
where it crops, those of the middle are all there are. What pixels the model saw is told by the digest of what was
decoded and by the size that it was brought to: the rest is code and configuration, which the fingerprint covers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foveate.reduce.keep_map import KeepMap
from foveate.reduce.layout import TokenLayout, layout_of

if TYPE_CHECKING:
    from foveate.engine import RequestStatistics
    from foveate.models.base import VisionLanguageModel
    from foveate.models.records import PreparedMedia
    from foveate.serve.flights import Flight

Frame = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the picture


def usage_of(statistics: RequestStatistics) -> dict[str, Any]:
    """The `usage` object of a reply."""
    return {
        "prompt_tokens": statistics.prompt_tokens,
        "completion_tokens": statistics.generated_tokens,
        "total_tokens": statistics.prompt_tokens + statistics.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": statistics.cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": statistics.accepted_tokens,
            "rejected_prediction_tokens": statistics.draft_tokens - statistics.accepted_tokens,
        },
        "image_tokens": statistics.image_tokens,
        "image_tokens_kept": statistics.image_tokens_kept,
    }


def headers_of(statistics: RequestStatistics) -> dict[str, str]:
    """The same as headers, for proxies and logs."""
    return {
        "x-foveate-image-tokens": str(statistics.image_tokens),
        "x-foveate-image-tokens-kept": str(statistics.image_tokens_kept),
        "x-foveate-cached-tokens": str(statistics.cached_tokens),
    }


def trace_of(model: VisionLanguageModel, flight: Flight) -> dict[str, Any]:
    """The `foveate_trace` of a request that has ended: pictures, times in seconds, guesses."""
    assert flight.prompt is not None
    images = [
        _image(model, index, item, keep)
        for index, (item, keep) in enumerate(zip(flight.prompt.media, flight.keep_maps, strict=True))
    ]
    return {"images": images, "times": times_of(flight), "speculation": speculation_of(flight.statistics)}


def speculation_of(statistics: RequestStatistics) -> dict[str, Any] | None:
    """What guessing ahead brought; None where the engine does not."""
    if not statistics.draft:
        return None
    return {
        "draft": statistics.draft,
        "accepted_length": statistics.accepted_length,
        "decode_passes": statistics.decode_passes,
        "plain_passes": statistics.plain_passes,
        "unpaid_passes": statistics.unpaid_passes,
        "draft_tokens": statistics.draft_tokens,
        "accepted_tokens": statistics.accepted_tokens,
        "speedup": statistics.speedup,
    }


def times_of(flight: Flight) -> dict[str, float | None]:
    """Seconds of each stage. Stages of a batch overlap with other requests'; `queue` has both waits."""
    statistics = flight.statistics
    assert flight.first is not None and flight.ended is not None, "it has ended"
    return {
        "queue": statistics.preprocess_wait_seconds + (statistics.queue_seconds or 0.0),
        "preprocess": statistics.preprocess_seconds,
        "encode": statistics.encode_seconds,
        "prefill": statistics.prefill_seconds,
        "decode": flight.ended - flight.first,
        "first_token": flight.first,
        "total": flight.ended,
    }


def _image(
    model: VisionLanguageModel, index: int, item: PreparedMedia, keep: KeepMap | None
) -> dict[str, Any]:
    keep = keep or KeepMap.full(item.grid, method="none")
    return {
        "index": index,
        "width": item.width,
        "height": item.height,
        "processed_width": item.grid.pixel_width,
        "processed_height": item.grid.pixel_height,
        "digest": item.digest,
        "frames": item.grid.frames,
        "times": [round(time, 3) for time in item.grid.times],
        "frame_of": item.video or None,
        "grid": [item.grid.rows, item.grid.cols],
        "tiles": _tiles(layout_of(keep.grid), keep, frame_of(model, item)),
        "tokens": keep.total,
        "tokens_kept": keep.count,
        "method": keep.method.split(".")[0],
        "settings": keep.method,
        "budget": keep.asked,
        "reason": keep.reason,
    }


def _tiles(layout: TokenLayout, keep: KeepMap, frame: Frame) -> list[dict[str, Any]]:
    """Of each tower input: what it shows, and which of its tokens (row · columns + column) were kept."""
    left, top, right, bottom = frame
    kept = keep.mask()[layout.content].tolist()
    scores = [None] * layout.count if keep.scores is None else keep.scores[layout.content].tolist()
    tiles: list[dict[str, Any]] = []
    for tile in layout.tiles:
        up, west, down, east = tile.box
        box = [
            left + west * (right - left),
            top + up * (bottom - top),
            left + east * (right - left),
            top + down * (bottom - top),
        ]
        tiles.append(
            {
                "box": [round(edge, 2) for edge in box],
                "grid": [tile.rows, tile.cols],
                "kept": [],
                "scores": [None] * tile.tokens,
                "overview": tile.overview,
            }
        )
    places = zip(layout.tile.tolist(), layout.row.tolist(), layout.col.tolist(), strict=True)
    for (tile_index, row, col), is_kept, score in zip(places, kept, scores, strict=True):
        told, at = tiles[tile_index], row * layout.tiles[tile_index].cols + col
        told["scores"][at] = None if score is None else round(score, 6)
        if is_kept:
            told["kept"].append(at)
    for told in tiles:
        told["kept"].sort()
    return tiles


def frame_of(model: VisionLanguageModel, item: PreparedMedia) -> Frame:
    """The part of the picture that the grid covers: all of it, the square around it, or its middle."""
    width, height = float(item.width), float(item.height)
    processor = model.image_processor
    if getattr(processor, "do_center_crop", False):
        scale = min(width / item.grid.pixel_width, height / item.grid.pixel_height)
        wide, high = item.grid.pixel_width * scale, item.grid.pixel_height * scale
    elif model.family == "llava" and getattr(processor, "do_pad", False):
        wide = high = max(width, height)
    else:
        return (0.0, 0.0, width, height)
    left, top = (width - wide) / 2, (height - high) / 2
    return (left, top, left + wide, top + high)
