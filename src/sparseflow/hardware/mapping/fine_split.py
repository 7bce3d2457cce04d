"""Fine splits: one segment as groups of heads and hidden channels on several slots, where that truly pays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import BudgetError, ConfigError
from sparseflow.hardware.mapping.objective import Floats, MappingProblem
from sparseflow.hardware.mapping.rewire import group_units, inverse
from sparseflow.hardware.mapping.search import solve_search
from sparseflow.hardware.mapping.segment import Segment
from sparseflow.hardware.mapping.solution import Solution

__all__ = ["FineSplit", "split_where_it_pays", "try_fine_split_segment"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FineSplit:
    """A problem with one segment split, and its mapping.

    Args:
        problem: with G rows in the place of one.
        segments: likewise; empty where none were given.
        found: mapping of the new problem.
        meta: `segment_id` (position before the split), `G`, `perm` and `inv_perm` of the units (heads), `counts` of
            units per group, and `group_to_slot`.
    """

    problem: MappingProblem
    segments: tuple[Segment, ...]
    found: Solution
    meta: dict[str, Any]


def try_fine_split_segment(
    problem: MappingProblem,
    k: int,
    found: Solution,
    segments: Sequence[Segment] = (),
    *,
    groups: int = 2,
    unit_loads: Sequence[float] | None = None,
    reductions: int = 1,
    fine_lat_ms: Floats | None = None,
    min_gain: float = 0.05,
    solve: Callable[..., Solution] = solve_search,
) -> FineSplit | None:
    """Return the problem with segment k split into groups, mapped anew as a whole, or None where that does not pay.

    Every group holds some heads and hidden channels of all layers of the segment and makes a part of their sums. The
    groups form a chain: each sends the input and its partial sums on to the next, and each but the last reduction
    sends its total back, so that between neighbouring groups go bytes_in + (2·reductions − 1)·bytes_out, all counted
    on the link forth. In a balanced pipeline the groups work on neighbouring samples at once, which is what a split
    gains; one sample passes them one after the other, so in a serial one it never pays.

    The split is accepted only if all groups lie on slots of their own and
    J_fine + min_gain·J_coarse < J_coarse, with J_fine of a mapping of all segments that was solved jointly.

    Args:
        problem: before the split.
        k: the segment.
        found: mapping before the split.
        segments: of the problem, which are split alike.
        groups: G.
        unit_loads: load of each head (or channel), 0 where it is pruned; default as many equal units as the segment
            has heads, or groups.
        reductions: layers of the segment whose outputs are sums over the groups: attentions and MLPs.
        fine_lat_ms: `[G, S]` of the groups; default the segment's, in proportion to their loads.
        min_gain: see above.
        solve: solver of the split problem; it is called with `start` where it is `solve_search`.

    Raises:
        ConfigError: no such segment, one that cannot be split, or fewer units than groups.
    """
    if not 0 <= k < problem.segments or groups < 2 or reductions < 1:
        raise ConfigError(
            f"segment {k} of {problem.segments} in {groups} groups with {reductions} reductions; expected a segment, "
            "two groups or more and one reduction or more"
        )
    if segments and not segments[k].can_split_fine:
        raise ConfigError(f"segment {k} cannot be split: it has no attention, or too little of it")
    if unit_loads is None:
        heads = segments[k].num_heads if segments else 0
        unit_loads = [1.0] * max(heads, groups)
    perm, counts = group_units(unit_loads, groups)
    shares = _shares(unit_loads, perm, counts)
    fine = _split_problem(problem, k, shares, reductions, fine_lat_ms)
    start = np.insert(found.mapping, k, [found.mapping[k]] * (groups - 1))
    try:
        new = solve(fine, start=start) if solve is solve_search else solve(fine)
    except BudgetError:
        return None
    slots = [int(s) for s in new.mapping[k : k + groups]]
    coarse = found.cost.objective
    if len(set(slots)) < groups or not new.cost.objective + min_gain * coarse < coarse:
        return None
    meta = {
        "segment_id": k,
        "G": groups,
        "perm": perm,
        "inv_perm": inverse(perm),
        "counts": counts,
        "group_to_slot": dict(enumerate(slots)),
    }
    return FineSplit(problem=fine, segments=_split_segments(segments, k, shares, fine), found=new, meta=meta)


def split_where_it_pays(
    problem: MappingProblem, found: Solution, segments: Sequence[Segment], *, most: int = 4, **options: Any
) -> tuple[MappingProblem, tuple[Segment, ...], Solution, list[dict[str, Any]]]:
    """Split segments of the fullest slot as long as that pays, at most `most` times.

    Candidates are segments that can be split and are not yet, on the fullest slot, the longest first.

    Args:
        problem: before any split.
        found: its mapping.
        segments: of the problem.
        most: splits.
        options: of `try_fine_split_segment`.

    Returns:
        Problem, segments, mapping and the `meta` of each split in turn; what came in, where no split pays. The
        objective never rises.
    """
    now = tuple(segments)
    metas: list[dict[str, Any]] = []
    while len(metas) < most:
        fullest = int(found.cost.per_slot_ms.argmax())
        here = [k for k in np.flatnonzero(found.mapping == fullest) if now[k].can_split_fine]
        for k in sorted(here, key=lambda n: -problem.lat_ms[n, fullest]):
            split = try_fine_split_segment(problem, int(k), found, now, **options)
            if split is not None:
                problem, now, found = split.problem, split.segments, split.found
                metas.append(split.meta)
                break
        else:
            break
    return problem, now, found, metas


def _shares(loads: Sequence[float], perm: Sequence[int], counts: Sequence[int]) -> Floats:
    ends = np.cumsum(counts)
    total = float(sum(loads))
    if total <= 0:
        raise ConfigError("no head or channel of the segment is left; it has nothing to split")
    return np.array(
        [sum(loads[u] for u in perm[end - count : end]) / total for end, count in zip(ends, counts, strict=True)]
    )


def _split_problem(
    p: MappingProblem, k: int, shares: Floats, reductions: int, fine_lat_ms: Floats | None
) -> MappingProblem:
    g = len(shares)
    lat = shares[:, None] * p.lat_ms[k] if fine_lat_ms is None else np.asarray(fine_lat_ms, dtype=np.float64)
    arrives = p.traffic_bytes[k - 1] if k else p.traffic_bytes[k] if k + 1 < p.segments else 0.0
    leaves = p.traffic_bytes[k] if k + 1 < p.segments else arrives
    between = np.full(g - 1, arrives + (2 * reductions - 1) * leaves)
    return replace(
        p,
        lat_ms=_spliced(p.lat_ms, k, lat),
        power_w=_spliced(p.power_w, k, np.repeat(p.power_w[k][None], g, 0)),
        weight_mb=_spliced(p.weight_mb, k, shares * p.weight_mb[k]),
        # Each group holds the whole input and output, so its activations are taken as no smaller.
        activation_mb=_spliced(p.activation_mb, k, np.full(g, p.activation_mb[k])),
        traffic_bytes=np.concatenate([p.traffic_bytes[:k], between, p.traffic_bytes[k:]]),
    )


def _spliced(array: Floats, k: int, rows: Floats) -> Floats:
    return np.concatenate([array[:k], rows, array[k + 1 :]])


def _split_segments(
    segments: Sequence[Segment], k: int, shares: NDArray[np.float64], fine: MappingProblem
) -> tuple[Segment, ...]:
    if not segments:
        return ()
    old, g = segments[k], len(shares)
    flow = [old.traffic_in_bytes, *fine.traffic_bytes[k : k + g - 1].tolist(), old.traffic_out_bytes]
    parts = [
        replace(
            old,
            flops=old.flops * share,
            bytes=old.bytes * share,
            weight_bytes=old.weight_bytes * share,
            traffic_in_bytes=flow[n],
            traffic_out_bytes=flow[n + 1],
            can_split_fine=False,
            fine_groups=g,
        )
        for n, share in enumerate(shares.tolist())
    ]
    return tuple(replace(s, id=i) for i, s in enumerate([*segments[:k], *parts, *segments[k + 1 :]]))
