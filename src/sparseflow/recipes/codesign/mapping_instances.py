"""Random problems of mapping: sizes of real networks and dies, memory that is just enough, some slots empty."""

import numpy as np

from sparseflow.hardware.mapping.objective import Floats, MappingProblem

__all__ = ["planted_split", "random_problem", "small_problem"]


def random_problem(
    seed: int,
    *,
    segments: int | None = None,
    slots: int | None = None,
    mode: str | None = None,
    related: bool | None = None,
) -> MappingProblem:
    """Return one random problem.

    Two to four types of dies have peaks of 30 to 300 TFLOP/s and .4 to 3 TB/s, segments 1 to 20 GFLOP at 20 to 200
    operations a byte; a pair reaches .3 to .9 of the slower of both. Links carry 50 to 500 GB/s and take 20 ns and
    .05 ns a mm, at 1 pJ/bit. Limits of memory are 1 to 1.3 times what one greedy mapping needs, and a slot that it
    leaves free holds 1 to 3 segments of the mean size, so that every problem has a mapping.

    Args:
        seed: of everything.
        segments: K; default 6 to 24.
        slots: S; default 4 to 16, of which up to a sixth are empty.
        mode: default "serial" in a quarter of all problems, else "balanced".
        related: whether slots of one type are equally fast; default in half of all problems.
    """
    r = np.random.default_rng(seed)
    k = int(r.integers(6, 25)) if segments is None else segments
    s = int(r.integers(4, 17)) if slots is None else slots
    mode = ("serial" if r.random() < 0.25 else "balanced") if mode is None else mode
    related = bool(r.random() < 0.5) if related is None else related
    types = int(r.integers(2, 5))
    kind = r.integers(0, types, s)
    usable = np.ones(s, dtype=bool)
    usable[r.permutation(s)[: int(r.integers(0, s // 6 + 1))]] = False
    peak, bandwidth = _spread(r, 3e13, 3e14, types)[kind], _spread(r, 4e11, 3e12, types)[kind]
    link = _spread(r, 5e10, 5e11, types)[kind]
    flops = _spread(r, 1e9, 2e10, k)
    moved = flops / _spread(r, 20, 200, k)
    reached = r.uniform(0.3, 0.9, (k, types))[:, kind] if related else r.uniform(0.3, 0.9, (k, s))
    lat_ms = np.maximum(flops[:, None] / peak, moved[:, None] / bandwidth) / reached * 1e3
    weight_mb, activation_mb = _spread(r, 2, 30, k), _spread(r, 1, 20, k)
    side = int(np.ceil(np.sqrt(s)))
    at = np.stack(np.divmod(np.arange(s), side), 1) * 25.0
    far_mm = np.abs(at[:, None] - at[None]).sum(-1)
    return MappingProblem(
        lat_ms=lat_ms,
        power_w=r.uniform(0.4, 0.9, (k, 1)) * (100 + peak / 1e12),
        weight_mb=weight_mb,
        activation_mb=activation_mb,
        limit_mb=_limits(r, lat_ms, weight_mb, activation_mb, usable),
        usable=usable,
        traffic_bytes=_spread(r, 2e5, 5e6, k - 1),
        hop_ms=2e-5 + 5e-8 * far_mm,
        link_bytes_per_s=np.minimum(link[:, None], link[None]),
        link_mj_per_byte=np.asarray(8e-9),
        mode=mode,
    )


def _spread(r: np.random.Generator, low: float, high: float, count: int) -> Floats:
    return np.exp(r.uniform(np.log(low), np.log(high), count))


def _limits(
    r: np.random.Generator, lat_ms: Floats, weight_mb: Floats, activation_mb: Floats, usable: np.ndarray
) -> Floats:
    k, s = lat_ms.shape
    busy, weights, largest = np.where(usable, 0.0, np.inf), np.zeros(s), np.zeros(s)
    for i in r.permutation(k):
        j = int(np.argmin(busy + lat_ms[i]))
        busy[j] += lat_ms[i, j]
        weights[j] += weight_mb[i]
        largest[j] = max(largest[j], activation_mb[i])
    need = weights + largest
    free = r.uniform(1, 3, s) * (weight_mb.mean() + activation_mb.mean())
    return np.where(need > 0, need * r.uniform(1.0, 1.3, s), free)


def small_problem(seed: int) -> MappingProblem:
    """Return a problem of at most 8 segments and 4 slots, small enough to try every mapping.

    In every other one the slots are of two kinds and lie equally far apart, so that some are alike. Modes take turns.
    Serial ones have endless memory, balanced ones have limits.
    """
    r = np.random.default_rng(seed)
    k, s = int(r.integers(1, 9)), int(r.integers(1, 5))
    alike = seed % 2 == 1
    kind = r.integers(0, 2, s) if alike else np.arange(s)
    link, hop = r.uniform(5e8, 5e9, (s, s)), r.uniform(0.0, 0.3, (s, s))
    weight_mb, activation_mb = r.uniform(1, 5, k), r.uniform(1, 5, k)
    limit_mb = r.uniform(0.6, 1.4, s + 2)[kind] * (weight_mb.sum() + activation_mb.max())
    mode = "serial" if seed % 4 < 2 else "balanced"
    return MappingProblem(
        lat_ms=r.uniform(1, 5, (k, s + 2))[:, kind],
        power_w=r.uniform(50, 99, (k, s + 2))[:, kind],
        weight_mb=weight_mb,
        activation_mb=activation_mb,
        limit_mb=np.array(np.inf) if mode == "serial" else np.maximum(limit_mb, (weight_mb + activation_mb).max()),
        traffic_bytes=r.uniform(1e5, 9e6, k - 1),
        hop_ms=np.array(0.1) if alike else hop,
        link_bytes_per_s=np.array(2e9) if alike else link,
        mode=mode,
        comm_weight=float(r.choice([1e-3, 0.2])),
        energy_weight=float(r.choice([0.0, 0.01])),
    )


def planted_split(seed: int) -> tuple[MappingProblem, int]:
    """Return a balanced problem in which one segment outweighs all others and slots are free, and that segment.

    Slots are 0 to 10 % slower than the fastest, and there are two more than segments. The heavy one takes 2 to 4 times
    as long as the longest of the others, so that its halves on two slots end the period at most .8 of what any
    mapping of whole segments takes; transfers take at most a hundredth of it.
    """
    r = np.random.default_rng(seed)
    k = int(r.integers(3, 9))
    heavy = int(r.integers(0, k))
    size = r.uniform(0.3, 1.0, k)
    size[heavy] = r.uniform(2, 4)
    s = k + 2
    return MappingProblem(
        lat_ms=size[:, None] * r.uniform(1.0, 1.1, (1, s)),
        power_w=np.array(100.0),
        traffic_bytes=r.uniform(1e5, 1e6, k - 1),
        hop_ms=r.uniform(1e-5, 1e-4, (s, s)),
        link_bytes_per_s=r.uniform(5e11, 1e12, (s, s)),
    ), heavy
