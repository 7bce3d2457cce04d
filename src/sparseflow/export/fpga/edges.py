"""How often vectors meet what an implementation gets wrong first: ends of the codes, halves, saturation."""

from collections.abc import Sequence

import numpy as np

from sparseflow.export.fpga.drive import Matrix
from sparseflow.export.fpga.network import Scan
from sparseflow.ops.fixed_point import Factor, Ints, linear, requant, scan

__all__ = ["edges_of_layers", "edges_of_scans"]


def edges_of_layers(layers: Sequence[Matrix], vectors: Sequence[tuple[int, Ints]]) -> dict[str, int]:
    """Count what is special in vectors of linear layers.

    Args:
        layers: their integers.
        vectors: number of a layer and int8 vector `[N]`, each.

    Returns:
        How many, by name: inputs of ±127, sums below 0, sums beyond 2^30, results on a half before they are rounded,
        and saturated results.
    """
    found = dict.fromkeys(("inputs of ±127", "sums below 0", "sums beyond 2^30", "halves", "saturated results"), 0)
    for i, layer in enumerate(layers):
        chosen = [x for j, x in vectors if j == i]
        if not chosen:
            continue
        x = np.stack(chosen)
        sums = linear(x, layer.weight, layer.bias)
        _add(found, "inputs of ±127", np.abs(x) == 127)
        _add(found, "sums below 0", sums < 0)
        _add(found, "sums beyond 2^30", np.abs(sums) > 2**30)
        _add(found, "halves", _half(sums * layer.factor.multiplier, layer.factor.shift))
        _add(found, "saturated results", np.abs(requant(sums, layer.factor, layer.bits)) == 2 ** (layer.bits - 1) - 1)
    return found


def edges_of_scans(scans: Sequence[Scan]) -> dict[str, int]:
    """Count what is special in scans, at each place where they round or saturate.

    Args:
        scans: with their operands.

    Returns:
        How many, by name: inputs of ±127, largest Δ, and halves and saturated numbers of w, h, y and the result.
    """
    found: dict[str, int] = {}
    for one in scans:
        tables, (x, p, b, c, d, z) = one.tables, one.operands
        out, between = scan(x, p, b, c, d, z, tables)
        w, h, y = (between[name] for name in "why")
        before = np.concatenate([np.zeros_like(h[:, :1]), h[:, :-1]], 1)
        kept = np.moveaxis(tables.decay[:, p + 128], 0, -1) * before
        pushed = w[..., None] * (b << tables.j)[:, :, None, :]
        both = np.einsum("bken,bkn->bke", h, c) * tables.state + d * x * tables.skip
        halves = {
            "w": _half(between["delta"] * x, np.asarray(tables.t)),
            "h": _half(kept + pushed, np.asarray(15)),
            "y": _half(both, tables.shift),
            "results": _half_of(y * between["z"], tables.out),
        }
        ends = {
            "w": (w, 2**15 - 1),
            "h": (h, 2**15 - 1),
            "y": (y, 2**15 - 1),
            "results": (out, 2 ** (tables.bits - 1) - 1),
        }
        _add(found, "inputs of ±127", np.abs(x) == 127)
        _add(found, "largest Δ", between["delta"] == 2**16 - 1)
        for name, where in halves.items():
            _add(found, f"halves of {name}", where)
        for name, (values, limit) in ends.items():
            _add(found, f"saturated {name}", np.abs(values) == limit)
    return found


def _add(found: dict[str, int], name: str, where: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    found[name] = found.get(name, 0) + int(where.sum())


def _half(v: Ints, shift: Ints) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return where v / 2^shift lies in the middle of two whole numbers."""
    s = np.asarray(shift, np.int64)
    some = np.maximum(s, 1)
    middle = (v & ((np.int64(1) << some) - 1)) == np.int64(1) << (some - 1)
    return np.asarray(middle & (s > 0))


def _half_of(v: Ints, by: Factor) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return _half(v * by.multiplier, by.shift)
