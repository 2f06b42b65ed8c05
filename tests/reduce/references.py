"""Every method again, written from its rule with plain loops over Python numbers; slow on purpose.

Shares no code with `foveate.reduce`. A reference takes one set of tokens (a dictionary of float64 NumPy arrays:
features [n, D], salience [n], shallow [n], keys [n, d], and rows, cols, k) and returns {kept id: output [D]}.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Set = dict[str, Any]
Result = dict[int, np.ndarray]


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / max(np.linalg.norm(x), 1e-12) / max(np.linalg.norm(y), 1e-12))


def similarities(vectors: np.ndarray) -> list[list[float]]:
    """Every pair once more, so that loops below need not compute it again and again."""
    return [[cosine(one, other) for other in vectors] for one in vectors]


def descending(ids: list[int], score: Any) -> list[int]:
    """By score, of equal ones the earlier in `ids` first."""
    return sorted(ids, key=lambda index: -score[index])


def as_they_are(tokens: Set, ids: list[int]) -> Result:
    return {index: tokens["features"][index] for index in ids}


def strided(tokens: Set) -> Result:
    n, k = len(tokens["features"]), tokens["k"]
    return as_they_are(tokens, [math.floor((i + 0.5) * n / k + 1e-9) for i in range(k)])


def fastervlm(tokens: Set) -> Result:
    ids = list(range(len(tokens["features"])))
    return as_they_are(tokens, descending(ids, tokens["salience"])[: tokens["k"]])


hired = fastervlm  # one tile: phase 2 alone; phase 1 has a reference of its own below


def average_pool(tokens: Set) -> Result:
    rows, cols, k = tokens["rows"], tokens["cols"], tokens["k"]
    best = (0, 0)
    ideal = math.sqrt(k * rows / cols)
    for height in (math.floor(ideal), math.ceil(ideal)):
        height = min(rows, k, max(1, height))
        width = min(cols, k // height)
        if height * width > best[0] * best[1] or (height * width == best[0] * best[1] and height < best[0]):
            best = (height, width)
    result: Result = {}
    for row in range(best[0]):
        for col in range(best[1]):
            cells = [
                tokens["features"][y * cols + x]
                for y in range(rows)
                for x in range(cols)
                if y < math.ceil((row + 1) * rows / best[0])
                and y + 1 > row * rows / best[0]
                and x < math.ceil((col + 1) * cols / best[1])
                and x + 1 > col * cols / best[1]
            ]
            middle = ((2 * row + 1) * rows // (2 * best[0])) * cols + (2 * col + 1) * cols // (2 * best[1])
            result[middle] = np.mean(cells, axis=0)
    return result


def pixel_shuffle(tokens: Set) -> Result:
    rows, cols = tokens["rows"], tokens["cols"]
    side = 1
    while math.ceil(rows / side) * math.ceil(cols / side) > tokens["k"]:
        side += 1
    result: Result = {}
    for top in range(0, rows, side):
        for left in range(0, cols, side):
            block = [
                tokens["features"][min(y, rows - 1) * cols + min(x, cols - 1)]
                for y in range(top, top + side)
                for x in range(left, left + side)
            ]
            output = np.array([block[c % (side * side)][c] for c in range(len(block[0]))])
            result[min(top + side // 2, rows - 1) * cols + min(left + side // 2, cols - 1)] = output
    return result


def tome(tokens: Set) -> Result:
    groups = [([index], tokens["keys"][index]) for index in range(len(tokens["features"]))]
    while len(groups) > tokens["k"]:
        left, right = groups[0::2], groups[1::2]
        links = []
        for a, (_, key) in enumerate(left):
            similarity = [cosine(key, other) for _, other in right]
            links.append((max(similarity), a, similarity.index(max(similarity))))
        links.sort(key=lambda link: (-link[0], link[1]))
        moved = links[: min(len(left), len(groups) - tokens["k"])]
        gone = {a for _, a, _ in moved}
        grown = [list(members) for members, _ in right]
        keys = [key * len(members) for members, key in right]
        for _, a, b in moved:
            # The group keeps the id of the token in B, which stands first.
            grown[b] += left[a][0]
            keys[b] = keys[b] + left[a][1] * len(left[a][0])
        merged = []
        for index in range(len(groups)):
            if index % 2 == 1:
                b = index // 2
                merged.append((grown[b], keys[b] / len(grown[b])))
            elif index // 2 not in gone:
                merged.append(groups[index])
        groups = merged
    return {members[0]: np.mean([tokens["features"][m] for m in members], axis=0) for members, _ in groups}


def vispruner(tokens: Set) -> Result:
    k = tokens["k"]
    order = descending(list(range(len(tokens["features"]))), tokens["salience"])
    important = math.floor(0.5 * k)
    alike = similarities(tokens["features"])
    kept, residual = order[:important], order[important:]
    while len(residual) > k - important:
        left, right = residual[0::2], residual[1::2]
        redundancy = {a: max(alike[a][b] for b in right) for a in left}
        surplus = len(residual) - (k - important)
        gone = descending(left, redundancy)[: min(8, surplus)]
        residual = [index for index in residual if index not in gone]
    return as_they_are(tokens, kept + residual)


def visionzip(tokens: Set) -> Result:
    k, n = tokens["k"], len(tokens["features"])
    dominant = descending(list(range(n)), tokens["salience"])[: max(1, k * 27 // 32)]
    result = as_they_are(tokens, dominant)
    rest = [index for index in range(n) if index not in dominant]
    contextual = k - len(dominant)
    if contextual == 0:
        return result
    anchors = rest[:: len(rest) // contextual][:contextual]
    assigned: dict[int, list[int]] = {anchor: [] for anchor in anchors}
    for index in rest:
        if index not in anchors:
            best = max(anchors, key=lambda a, i=index: (cosine(tokens["keys"][i], tokens["keys"][a]), -a))
            assigned[best].append(index)
    for anchor, others in assigned.items():
        result[anchor] = tokens["features"][anchor]
        if others:
            result[anchor] = result[anchor] + np.mean([tokens["features"][o] for o in others], axis=0)
    return result


def prumerge_plus(tokens: Set) -> Result:
    k, n = tokens["k"], len(tokens["features"])
    salience, keys, features = tokens["salience"], tokens["keys"], tokens["features"]
    if k == n:
        return as_they_are(tokens, list(range(n)))
    plain = k - 1 if k >= 2 else k
    low, high = np.quantile(salience, [0.25, 0.75])
    leading = descending(list(range(n)), salience)[: max(1, plain // 4)]
    kept = [index for index in leading if salience[index] > high + 1.5 * (high - low)]
    others = [index for index in range(n) if index not in kept]
    wanted = plain - len(kept)
    kept = sorted(kept + [others[(2 * i + 1) * len(others) // (2 * wanted)] for i in range(wanted)])
    result: Result = {}
    alike = similarities(keys)
    for index in kept:
        similarity = {j: alike[index][j] for j in range(n) if j != index}
        near = descending(sorted(similarity), similarity)[:32]
        result[index] = features[index] + sum(salience[j] * features[j] for j in near)
    if plain < k:
        dropped = [index for index in range(n) if index not in kept]
        extra = descending(dropped, salience)[0]
        result[extra] = sum(salience[j] * features[j] for j in dropped)
    return result


def divprune(tokens: Set) -> Result:
    features = tokens["features"]
    n = len(features)
    if n == 1:
        return as_they_are(tokens, [0])
    distance = [[1 - value for value in row] for row in similarities(features)]
    lonely = [min(distance[i][j] for j in range(n) if j != i) for i in range(n)]
    kept = [lonely.index(max(lonely))]
    nearest = [math.inf] * n
    while len(kept) < tokens["k"]:
        nearest = [min(near, distance[i][kept[-1]]) for i, near in enumerate(nearest)]
        kept.append(max((i for i in range(n) if i not in kept), key=lambda i: (nearest[i], -i)))
    return as_they_are(tokens, kept)


def holov(tokens: Set) -> Result:
    features, salience, n, k = tokens["features"], tokens["salience"], len(tokens["features"]), tokens["k"]
    parts = min(16, n)
    stretches = [[j for j in range(n) if j * parts // n == part] for part in range(parts)]
    variety = np.zeros(n)
    for stretch in stretches:
        for i in stretch:
            variety[i] = np.var([cosine(features[i], features[j]) for j in stretch])
    attention = 1000 * salience
    gamma = attention.mean() / max(variety.mean(), 1e-12)
    scores = attention + 0.09 * gamma * variety
    weights = [float(np.mean(scores[stretch])) for stretch in stretches]
    quotas = shared(weights, [len(stretch) for stretch in stretches], k)
    kept = []
    for stretch, quota in zip(stretches, quotas, strict=True):
        kept += descending(stretch, salience)[:quota]
    return as_they_are(tokens, kept)


def shared(weights: list[float], limits: list[int], amount: int) -> list[int]:
    """Rounds of floors in proportion to the weights of parts with room; what is left to the largest weights.

    Weights are rounded to millionths of their sum first.
    """
    total = sum(weights)
    shares = [round(weight / total * 1e6) if total > 0 else 0 for weight in weights]
    quotas = [0] * len(shares)
    for _ in shares:
        left = amount - sum(quotas)
        room = [limit - quota for limit, quota in zip(limits, quotas, strict=True)]
        open_shares = [share if free > 0 else 0 for share, free in zip(shares, room, strict=True)]
        if sum(open_shares) == 0:
            open_shares = room
        if sum(open_shares) == 0:
            break
        for part, share in enumerate(open_shares):
            quotas[part] += min(room[part], left * share // sum(open_shares))
    for part in sorted(range(len(shares)), key=lambda part: -shares[part]):
        if sum(quotas) < amount and quotas[part] < limits[part]:
            quotas[part] += 1
    return quotas


def vscan(tokens: Set) -> Result:
    features, n, k, cols = tokens["features"], len(tokens["features"]), tokens["k"], tokens["cols"]
    windows: dict[tuple[int, int], list[int]] = {}
    for index in range(n):
        windows.setdefault((index // cols // 6, index % cols // 6), []).append(index)
    share = (k // 2) // len(windows)
    kept = [i for window in windows.values() for i in descending(window, tokens["shallow"])[:share]]
    rest = [index for index in range(n) if index not in kept]
    kept = sorted(kept + descending(rest, tokens["salience"])[: k - len(kept)])
    members: dict[int, list[int]] = {index: [index] for index in kept}
    for index in range(n):
        if index not in members:
            members[max(kept, key=lambda j, i=index: (cosine(features[i], features[j]), -j))].append(index)
    return {index: np.mean([features[m] for m in group], axis=0) for index, group in members.items()}


def hired_quotas(
    tiles: list[dict[str, Any]], salience: np.ndarray, rows: int, cols: int, k: int, alpha: float
) -> list[int]:
    """How tiles share k; `salience` [rows * cols] is the overview's, tiles[0] the overview itself."""
    sizes = [tile["rows"] * tile["cols"] for tile in tiles]
    own = max(min(math.floor(alpha * k), sizes[0]), k - sum(sizes[1:]))
    weights = []
    for tile in tiles[1:]:
        top, left, bottom, right = tile["box"]
        total = 0.0
        for row in range(rows):
            for col in range(cols):
                high = max(0.0, min(row + 1, bottom * rows) - max(row, top * rows))
                wide = max(0.0, min(col + 1, right * cols) - max(col, left * cols))
                total += high * wide * salience[row * cols + col]
        weights.append(total)
    return [own, *shared(weights, sizes[1:], k - own)]


REFERENCES = {
    "strided": strided,
    "average_pool": average_pool,
    "pixel_shuffle": pixel_shuffle,
    "tome": tome,
    "hired": hired,
    "fastervlm": fastervlm,
    "vispruner": vispruner,
    "visionzip": visionzip,
    "prumerge_plus": prumerge_plus,
    "divprune": divprune,
    "holov": holov,
    "vscan": vscan,
}
