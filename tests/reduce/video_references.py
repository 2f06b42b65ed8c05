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


def peaks(vectors: Sequence[np.ndarray], neighbours: int) -> list[int]:
    """Ids of a set by density times reach, the largest first."""
    size, width = len(vectors), len(vectors[0])
    far = [[float(((x - y) ** 2).sum()) for y in vectors] for x in vectors]
    density = [-sum(sorted(row)[:neighbours]) / (len(row[:neighbours]) * width) for row in far]
    scores = []
    for i in range(size):
        denser = [j for j in range(size) if density[j] > density[i] or (density[j] == density[i] and j < i)]
        reach = min(far[i][j] for j in denser) if denser else max(max(row) for row in far)
        scores.append(-math.inf if reach == 0 else 0.5 * math.log(reach / width) + density[i])
    return sorted(range(size), key=lambda i: -scores[i])


def clusters(vectors: Sequence[np.ndarray], centres: Sequence[int]) -> dict[int, list[int]]:
    """Centre -> its members, itself among them; every token goes to the nearest, of equals the first."""
    groups: dict[int, list[int]] = {centre: [centre] for centre in sorted(centres)}
    for index, vector in enumerate(vectors):
        if index not in groups:
            groups[min(groups, key=lambda c: float(((vector - vectors[c]) ** 2).sum()))].append(index)
    return groups


def pool(
    video: Video, scenes: Sequence[range], stillness: dict[tuple[int, int], float]
) -> tuple[list[list[tuple[Place, np.ndarray]]], list[list[tuple[Place, np.ndarray]]]]:
    """(still tokens of each scene, moving tokens of each frame): what stands for them, and their features.

    `stillness[scene, place]` holds the places that may merge over time; the stillest do while k tokens are left.
    """
    features, left = video["features"], video["features"].shape[0] * video["features"].shape[1]
    merged = set()
    for scene, place in sorted(sorted(stillness), key=lambda at: -stillness[at]):
        left -= len(scenes[scene]) - 1
        if left < video["k"]:
            break
        merged.add((scene, place))
    places = range(features.shape[1])
    still = [
        [
            ((scene[0], j), np.mean([features[t][j] for t in scene], axis=0))
            for j in places
            if (index, j) in merged
        ]
        for index, scene in enumerate(scenes)
    ]
    moving = [
        [((t, j), features[t][j]) for j in places if (index, j) not in merged]
        for index, scene in enumerate(scenes)
        for t in scene
    ]
    return still, moving


def fastvid(video: Video) -> Result:
    features, salience = video["features"], video["salience"]
    count, n, _ = features.shape
    means = [features[t].mean(axis=0) for t in range(count)]
    alike = [round(cosine(means[t], means[t + 1]), 5) for t in range(count - 1)]
    lowest = sorted(range(count - 1), key=lambda t: alike[t])[:7]
    scenes, start = [], 0
    for t in range(count):
        if t == count - 1 or t in lowest or alike[t] < 0.9:
            scenes.append(range(start, t + 1))
            start = t + 1
    shares = even(video["k"], [n] * count)
    result: Result = {}
    for scene in scenes:
        anchor_frames = [t for t in scene if (scene[-1] - t) % 4 == 0]
        own = {t: shares[t] - int(0.4 * shares[t]) for t in scene}
        pooled = sum(int(0.4 * shares[t]) for t in scene)
        holds = dict.fromkeys(scene, 0)
        while pooled and any(
            own[t] + holds[t] < n for t in anchor_frames
        ):  # one each in turn while there is room
            for t in anchor_frames:
                if pooled and own[t] + holds[t] < n:
                    holds[t], pooled = holds[t] + 1, pooled - 1
        while pooled:
            for t in scene:
                if pooled and t not in anchor_frames and own[t] < n:
                    own[t], pooled = own[t] + 1, pooled - 1
        rest: list[Place] = []
        anchors: list[Place] = []
        for t in scene:
            order = sorted(range(n), key=lambda j: -salience[t][j])
            result |= as_they_are(video, [(t, j) for j in order[: own[t]]])
            left = sorted(order[own[t] :])
            best = [left[i] for i in peaks([features[t][j] for j in left], 4)[: holds[t]]] if left else []
            anchors += [(t, j) for j in sorted(best)]
            rest += [(t, j) for j in left if j not in best]
        taken: dict[Place, list[np.ndarray]] = {at: [] for at in anchors}
        for t, j in rest:
            if anchors:
                nearest = max(anchors, key=lambda at: round(cosine(features[t][j], features[at]), 5))
                taken[nearest].append(features[t][j])
        for (t, j), others in taken.items():
            weight = max(1 / (len(others) + 1), 0.6) if others else 1.0
            mean = np.mean(others, axis=0) if others else 0.0
            result[t * n + j] = weight * features[t][j] + (1 - weight) * mean
    return result


def prunevid(video: Video) -> Result:
    features = video["features"]
    count, n, _ = features.shape
    means = [features[t].mean(axis=0) for t in range(count)]
    groups = clusters(means, peaks(means, 7)[: max(1, count // 4)])
    label = {t: centre for centre, members in groups.items() for t in members}
    runs: list[list[int]] = []
    for t in range(count):
        if runs and label[runs[-1][-1]] == label[t]:
            runs[-1].append(t)
        else:
            runs.append([t])
    scenes = []
    for centre in groups:
        own = [run for run in runs if label[run[0]] == centre]
        scenes.append(next(run for run in own if len(run) == max(map(len, own))))
    scenes.sort()
    sizes = [len(scene) for scene in scenes]
    homes = []
    for run in runs:
        if run not in scenes:
            before = [i for i, scene in enumerate(scenes) if scene[0] < run[0]]
            after = [i for i, scene in enumerate(scenes) if scene[0] > run[0]]
            beside = before[-1:] + after[:1]
            homes.append((beside[-1] if sizes[beside[-1]] > sizes[beside[0]] else beside[0], run))
    for home, run in homes:
        scenes[home] = sorted(scenes[home] + run)
    stillness = {}
    for index, scene in enumerate(scenes):
        for j in range(n):
            pairs = [cosine(features[s][j], features[t][j]) for s in scene for t in scene if s != t]
            if pairs and np.mean(pairs) > 0.8:
                stillness[index, j] = float(np.mean(pairs))
    still, moving = pool(video, [range(scene[0], scene[-1] + 1) for scene in scenes], stillness)
    result: Result = {}
    sets = still + moving
    for tokens, quota in zip(sets, even(video["k"], [len(tokens) for tokens in sets]), strict=True):
        if quota:
            vectors = [vector for _, vector in tokens]
            for centre, members in clusters(vectors, peaks(vectors, 7)[:quota]).items():
                frame, place = tokens[centre][0]
                result[frame * n + place] = np.mean([vectors[member] for member in members], axis=0)
    return result


def holitom(video: Video) -> Result:
    features, salience = video["features"], video["salience"]
    count, n, _ = features.shape
    alike = [
        [round(cosine(features[t][j], features[t + 1][j]), 5) for j in range(n)] for t in range(count - 1)
    ]

    def least(scene: Sequence[int], j: int) -> float:
        return min((alike[t][j] for t in scene[:-1]), default=-1.0)

    def saved(scene: Sequence[int]) -> int:
        return sum(least(scene, j) > 0.8 for j in range(n)) * (len(scene) - 1)

    best: list[tuple[int, list[range]]] = [(0, [])]  # of the first t frames
    for end in range(1, count + 1):
        ways = [(best[s][0] + saved(range(s, end)), [*best[s][1], range(s, end)]) for s in range(end)]
        best.append(max(reversed(ways), key=lambda way: way[0]))  # of equals the shortest last scene
    scenes = best[-1][1]
    stillness = {
        (index, j): least(scene, j)
        for index, scene in enumerate(scenes)
        for j in range(n)
        if least(scene, j) > 0.8
    }
    still, moving = pool(video, scenes, stillness)
    quotas = even(video["k"], [len(tokens) for tokens in still + moving])
    result: Result = {}
    for tokens, quota in zip(still, quotas[: len(still)], strict=True):
        if quota:
            vectors = [vector for _, vector in tokens]
            for centre, members in clusters(vectors, peaks(vectors, 7)[:quota]).items():
                others = [vectors[member] for member in members if member != centre]
                output = 0.6 * vectors[centre] + 0.4 * np.mean(others, axis=0) if others else vectors[centre]
                frame, place = tokens[centre][0]
                result[frame * n + place] = output
    for tokens, quota in zip(moving, quotas[len(still) :], strict=True):
        order = sorted((at for at, _ in tokens), key=lambda at: -salience[at])
        result |= as_they_are(video, order[:quota])
    return result


VIDEO_REFERENCES = {
    "evs": evs,
    "vidcom2": vidcom2,
    "dycoke": dycoke,
    "fastvid": fastvid,
    "prunevid": prunevid,
    "holitom": holitom,
}
