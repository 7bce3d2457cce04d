"""Space-time entropies, regions and scores as loops over numbers in float64: the truth that tensors are held to."""

import math
from collections.abc import Iterable, Sequence

from sparseflow.nn.prune.config import PruneConfig

__all__ = [
    "average",
    "distributions",
    "entropy",
    "mean",
    "minmax",
    "motion",
    "region_entropy",
    "regions",
    "score",
    "sliding",
    "space_entropy",
    "spread",
    "time_entropy",
    "windows",
]

EPS = 1e-6
Row = list[float]
Rows = list[Row]
Clip = list[Rows]
"""`p[t][n][c]` of one sample."""


def mean(values: Iterable[float]) -> float:
    """Return the mean."""
    found = list(values)
    return sum(found) / len(found)


def softmax(x: Sequence[float], tau: float, standardize: bool) -> Row:
    """Return the softmax of x / τ, x brought to mean 0 and deviation 1 before if asked."""
    if standardize:
        mu = mean(x)
        deviation = math.sqrt(mean((v - mu) ** 2 for v in x) + EPS)
        x = [(v - mu) / deviation for v in x]
    top = max(v / tau for v in x)
    e = [math.exp(v / tau - top) for v in x]
    return [v / sum(e) for v in e]


def entropy(q: Sequence[float]) -> float:
    """Return −Σ q·log(q + ε)."""
    return -sum(v * math.log(v + EPS) for v in q)


def average(rows: Sequence[Sequence[float]]) -> Row:
    """Return the mean of rows, number by number."""
    return [mean(column) for column in zip(*rows, strict=True)]


def minmax(values: Sequence[float]) -> Row:
    """Return the values brought to [0, 1]."""
    low, high = min(values), max(values)
    return [(v - low) / (high - low + EPS) for v in values]


def windows(length: int, level: int, overlap: float = 0.0) -> list[range]:
    """Return the windows of a level, of ⌈length / level⌉ steps each."""
    width = math.ceil(length / level)
    step = max(1, math.floor(width * (1 - overlap)))
    found: list[range] = []
    start = 0
    while True:
        found.append(range(start, min(start + width, length)))
        if start + width >= length:
            return found
        start += step


def distributions(x: Clip, tau: float = 1.0, standardize: bool = True) -> Clip:
    """Return the softmax of every token."""
    return [[softmax(token, tau, standardize) for token in frame] for frame in x]


def time_entropy(p: Clip, levels: Sequence[int], overlap: float = 0.0) -> Row:
    """Return Ht of every place."""
    per_level = []
    for level in levels:
        found = []
        for n in range(len(p[0])):
            cut = windows(len(p), level, overlap)
            found.append(mean(entropy(average([p[t][n] for t in window])) for window in cut))
        per_level.append(minmax(found))
    return average(per_level)


def space_entropy(p: Clip, grid: tuple[int, int], levels: Sequence[int]) -> Row:
    """Return Hs of every time."""
    per_level = []
    for level in levels:
        found = []
        for frame in p:
            blocks = [
                entropy(average([frame[i * grid[1] + j] for i in rows for j in columns]))
                for rows in windows(grid[0], level)
                for columns in windows(grid[1], level)
            ]
            found.append(mean(blocks))
        per_level.append(minmax(found))
    return average(per_level)


def motion(p: Clip, levels: Sequence[int], overlap: float = 0.0) -> Rows:
    """Return the change of every time and place, over the windows of levels."""
    times, patches = len(p), len(p[0])
    per_level = []
    for level in levels:
        found = []
        for t in range(times):
            for n in range(patches):
                changes = []
                for window in windows(times, level, overlap):
                    if t in window:
                        rows = [p[u][n] for u in window]
                        changes.append(entropy(average(rows)) - mean(entropy(q) for q in rows))
                found.append(mean(changes))
        per_level.append(minmax(found))
    return _unflattened(average(per_level), patches)


def _unflattened(values: Row, patches: int) -> Rows:
    return [values[i : i + patches] for i in range(0, len(values), patches)]


def spread(values: Sequence[float], times: int) -> Row:
    """Return values interpolated linearly between the centres of even cells, held at the ends."""
    found = []
    for t in range(times):
        place = min(max((t + 0.5) * len(values) / times - 0.5, 0.0), len(values) - 1.0)
        low = min(math.floor(place), len(values) - 1)
        high = min(low + 1, len(values) - 1)
        found.append(values[low] + (place - low) * (values[high] - values[low]))
    return found


def sliding(p: Clip, lengths: Sequence[int], change: bool) -> Rows:
    """Return Ht of every time and place over windows that move by a step, or the change in them."""
    times, patches = len(p), len(p[0])
    per_length = []
    for given in lengths:
        length = min(given, times)
        columns = []
        for n in range(patches):
            moved = []
            for start in range(times - length + 1):
                rows = [p[t][n] for t in range(start, start + length)]
                moved.append(entropy(average(rows)) - (mean(entropy(q) for q in rows) if change else 0.0))
            columns.append(spread(moved, times))
        per_length.append(minmax([columns[n][t] for t in range(times) for n in range(patches)]))
    return _unflattened(average(per_length), patches)


def regions(grid: tuple[int, int], count: int) -> list[int]:
    """Return the nearest seed of every patch."""
    side = math.ceil(math.sqrt(count))
    seeds = [((i + 0.5) * grid[0] / side, (j + 0.5) * grid[1] / side) for i in range(side) for j in range(side)]
    found = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            distances = [round((i + 0.5 - y) ** 2 + (j + 0.5 - x) ** 2, 9) for y, x in seeds[:count]]
            found.append(distances.index(min(distances)))
    return found


def region_entropy(p: Clip, grid: tuple[int, int], counts: Sequence[int]) -> Rows:
    """Return Hs of every time and place, by regions."""
    times, patches = len(p), len(p[0])
    per_count = []
    for count in counts:
        ids = regions(grid, count)
        found = [
            entropy(average([p[t][m] for m in range(patches) if ids[m] == ids[n]]))
            for t in range(times)
            for n in range(patches)
        ]
        per_count.append(minmax(found))
    return _unflattened(average(per_count), patches)


def score(x: Clip, config: PruneConfig, grid: tuple[int, int]) -> Rows:
    """Return the scores `[t][n]` of one sample's features, without a learned part.

    Args:
        x: `x[t][n][c]`.
        config: weights, windows and modes.
        grid: patches down and across.
    """
    p = distributions(x, config.entropy_tau, config.entropy_norm == "standardize")
    times, patches = len(p), len(p[0])
    levels = config.time_window_levels
    if config.entropy_mode == "sliding":
        over_time = sliding(p, levels, False)
        over_space = region_entropy(p, grid, config.region_levels)
        moved = sliding(p, levels, True)
    else:
        over_time = [time_entropy(p, levels, config.time_overlap)] * times
        over_space = [[h] * patches for h in space_entropy(p, grid, config.space_window_levels)]
        moved = motion(p, levels, config.time_overlap)
    a, b, c, d = config.time_weight, config.space_weight, config.region_weight, config.motion_weight
    base = over_time
    if config.score == "motion":
        a, b, d, base = 0.0, 0.0, 1.0, moved
    elif config.region_importance == "space":
        base = over_space
    ids = regions(grid, config.num_regions)
    if config.score != "motion" and config.region_importance == "space" and config.entropy_mode == "levels":
        importance = [[mean(row[0] for row in over_space)] * patches] * times
    else:
        importance = [
            [mean(base[t][m] for m in range(patches) if ids[m] == ids[n]) for n in range(patches)] for t in range(times)
        ]
    return [
        [a * over_time[t][n] + b * over_space[t][n] + c * importance[t][n] + d * moved[t][n] for n in range(patches)]
        for t in range(times)
    ]
