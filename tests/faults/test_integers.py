"""Faults of the earlier design, put back into the integer arithmetic: checks that the arithmetic passes find each.

The numbers are those of the list of faults; `test_fpga.py` does the same with the Verilog.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from sparseflow.nn.models.cmamba import lowering
from sparseflow.ops.fixed_point import reference as fp
from tests.nn.models.cmamba.small import arrays, spec, weights
from tests.ops.fixed_point.test_reference import plain_scan, tables

BLOCK = "encoder.layers.0.mixer."


def wrong_requants() -> int:
    """Count results unlike the rounding of fractions: ties, negatives, ends and far beyond them."""
    v = np.concatenate([np.arange(-600, 601), np.array([2**31 - 1, 1 - 2**31, 10**6, -(10**6)])])
    half = fp.Factor(multiplier=np.int64(2**30), shift=np.int64(32))  # type: ignore[arg-type]
    want = [min(max(round(Fraction(int(i), 4)), -127), 127) for i in v]
    return int((fp.requant(v, half, 8) != np.array(want)).sum())


def wrong_scans() -> int:
    """Count results of scans unlike the plain walk: of any operands, and of those that saturate the state."""
    rng = np.random.default_rng(3)
    x, p, d, z = (rng.integers(-127, 128, (2, 6, 3)) for _ in range(4))
    b, c = (rng.integers(-127, 128, (2, 6, 4)) for _ in range(2))
    full, states = np.full((1, 6, 3), 127), np.full((1, 6, 4), 127)
    ends = tables(delta=np.full(256, 65535), decay=np.full((4, 256), 32767))
    cases = [((x, p, b, c, d, z), tables()), ((full, full, states, states, full, full), ends)]
    return sum(int((fp.scan(*given, t)[0] != plain_scan(*given, t)).sum()) for given, t in cases)


def wrong_tables() -> int:
    """Count entries of Δ and of the decays that are farther from softplus and exp than allowed."""
    found = lowering.lower(lowering.ModelArgs(**dict(spec().model)), weights(), spec())  # type: ignore[arg-type]
    p = spec()[f"{BLOCK}dt_proj"]
    v = np.arange(-128, 128) * p.step + p.offset
    delta = np.log1p(np.exp(v))
    rate = np.exp(np.asarray(weights()[f"{BLOCK}A_log"])[0].astype(np.float64))
    steps = np.minimum(delta / spec()[f"{BLOCK}scan.delta"].step, 65535)
    off = np.abs(found[f"{BLOCK}scan.delta"] - steps) > 0.5 + 1e-6
    far = np.abs(found[f"{BLOCK}scan.decay"] / 2**15 - np.exp(-delta * rate[:, None])) > 2.0**-15
    return int(off.sum() + far.sum())


def wrap(v: Any, bits: int) -> Any:
    return (v + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def one_channel_too_far(name: str, v: Any, limit: int) -> Any:
    del limit
    return np.roll(v, 1, axis=1) if name == "the state of a scan" else v


def unsigned(table: Any, codes: Any) -> Any:
    return table[np.where(codes < 0, codes + 128, codes)]


class Numbers:
    """NumPy with one function replaced."""

    def __init__(self, **replaced: Callable[..., Any]) -> None:
        self.replaced = replaced

    def __getattr__(self, name: str) -> Any:
        return self.replaced.get(name, getattr(np, name))


# What is replaced, where, and the check that must find it.
FAULTS: dict[str, tuple[Any, str, Any, Callable[[], int]]] = {
    "2 codes beyond the range wrap": (fp, "sat", wrap, wrong_requants),
    "2 codes are read without their sign": (fp, "lookup", unsigned, wrong_scans),
    "4 negatives are floored and then decremented": (fp, "_round", lambda v, s: (v >> s) - (v < 0), wrong_requants),
    "5 the fraction of exp keeps its sign": (
        lowering, "np", Numbers(exp=lambda v: 2.0 ** np.floor(v) * (1 - (v - np.floor(v)))), wrong_tables,
    ),
    "5 softplus is x + exp(-x)": (lowering, "np", Numbers(logaddexp=lambda _, v: v + np.exp(-v)), wrong_tables),
    "6 states are written one channel too far": (fp, "bounded", one_channel_too_far, wrong_scans),
    "8 results are truncated": (fp, "_round", lambda v, s: v >> s, wrong_requants),
    "8 halves are rounded up": (fp, "_round", lambda v, s: (v + (np.int64(1) << (s - 1))) >> s, wrong_requants),
    "8 halves are rounded away from 0": (
        fp, "_round", lambda v, s: np.sign(v) * ((np.abs(v) + (np.int64(1) << (s - 1))) >> s), wrong_requants,
    ),
    "8 the state wraps around": (fp, "sat", wrap, wrong_scans),
}  # fmt: skip


@pytest.mark.parametrize("check", [wrong_requants, wrong_scans, wrong_tables])
def test_without_a_fault_nothing_is_wrong(check: Callable[[], int]) -> None:
    assert check() == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays()
    place, name, replaced, check = FAULTS[fault]
    monkeypatch.setattr(place, name, replaced)
    assert check() > 0
