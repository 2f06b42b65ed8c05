"""Every method over frames again, written from its rule with plain loops over Python numbers; slow on purpose.

Shares no code with `foveate.reduce`. A reference takes one video (a dictionary of float64 NumPy arrays: features
[T, n, D], salience [T, n], and k) and returns {kept id: output [D]}, ids counted frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Video = dict[str, Any]
Result = dict[int, np.ndarray]
Place = tuple[int, int]  # (frame, place in it)


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / max(np.linalg.norm(x), 1e-12) / max(np.linalg.norm(y), 1e-12))


def even(amount: int, sizes: Sequence[int]) -> list[int]:
    """In proportion to sizes: floors, then one more to the largest remainders, the first of equals."""
    total = sum(sizes)
    shares = [amount * size // total for size in sizes]
    while sum(shares) < amount:
        best = max(
            (index for index in range(len(sizes)) if shares[index] == amount * sizes[index] // total),
            key=lambda index: (amount * sizes[index] % total, -index),
        )
        shares[best] += 1
    return shares


def as_they_are(video: Video, places: Sequence[Place]) -> Result:
    n = len(video["features"][0])
    return {frame * n + place: video["features"][frame][place] for frame, place in places}


def everywhere(video: Video) -> list[Place]:
    count, n, _ = video["features"].shape
    return [(frame, place) for frame in range(count) for place in range(n)]


def evs(video: Video) -> Result:
    features = video["features"]

    def change(at: Place) -> float:
        frame, place = at
        return 9.0 if frame == 0 else 1 - round(cosine(features[frame][place], features[frame - 1][place]), 5)

    return as_they_are(video, sorted(everywhere(video), key=lambda at: -round(change(at), 5))[: video["k"]])


def dycoke(video: Video) -> Result:
    features = video["features"]
    count, n, _ = features.shape
    whole = [frame for frame in range(count) if frame % 4 == 0]
    others = [frame for frame in range(count) if frame % 4]
    kept = [(frame, place) for frame in whole for place in range(n)]
    if others:
        for frame, quota in zip(others, even(video["k"] - len(kept), [n] * len(others)), strict=True):
            earlier = {1: frame - 1, 2: frame - 2, 3: frame - 1}[frame % 4]
            alike = [round(cosine(features[frame][j], features[earlier][j]), 5) for j in range(n)]
            kept += [(frame, j) for j in sorted(range(n), key=lambda j: alike[j])[:quota]]
    return as_they_are(video, kept)


def vidcom2(video: Video) -> Result:
    features, k = video["features"], video["k"]
    count, n, width = features.shape
    spread = [float(np.var([features[at][c] for at in everywhere(video)])) for c in range(width)]
    quiet = sorted(range(width), key=lambda c: spread[c])[: max(1, width // 2)]
    vectors = {}
    for at in everywhere(video):
        vector = np.array([features[at][c] for c in quiet])
        vectors[at] = vector / max(np.linalg.norm(vector), 1e-12)
    centre = np.mean(list(vectors.values()), axis=0)

    def nearness(vector: np.ndarray, middle: np.ndarray) -> float:
        squared = float(((vector - middle) ** 2).sum())
        return sum(math.exp(-squared / (2 * 2.0**power)) for power in (-3, -2, -1, 0, 1))

    redundancy, distinct = {}, []
    for frame in range(count):
        middle = np.mean([vectors[frame, place] for place in range(n)], axis=0)
        for place in range(n):
            vector = vectors[frame, place]
            redundancy[frame, place] = round(nearness(vector, centre) + nearness(vector, middle), 5)
        distinct.append(-round(float(np.mean([nearness(vectors[frame, j], centre) for j in range(n)])), 5))
    powers = [math.exp((value - max(distinct)) / 0.01) for value in distinct]
    shares = [power / sum(powers) for power in powers]
    mean = sum(shares) / count
    chosen: list[Place] = []
    for frame in range(count):
        quota = min(n, max(1, round(k / count * (1 + (shares[frame] - mean)))))
        chosen += [(frame, j) for j in sorted(range(n), key=lambda j: redundancy[frame, j])[:quota]]
    by_worth = sorted(everywhere(video), key=lambda at: redundancy[at])
    while len(chosen) > k:
        chosen.remove(next(at for at in reversed(by_worth) if at in chosen))
    while len(chosen) < k:
        chosen.append(next(at for at in by_worth if at not in chosen))
    return as_they_are(video, chosen)


VIDEO_REFERENCES = {"evs": evs, "vidcom2": vidcom2, "dycoke": dycoke}
