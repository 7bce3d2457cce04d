"""Errors of the scan as the bench reports them, and what it says where the rival is missing."""

import math

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ops.selective_scan import cpp, reference
from sparseflow.recipes.forecast.bench import rival, scan


def test_short_memory_leaves_nothing_of_a_state():
    states = {}
    for memory in ("long", "short"):
        given = scan.draw(1, 9, 4, memory=memory)
        other = scan.draw(1, 9, 4, memory=memory)
        other.x[:, 0] += 1
        states[memory] = (reference.selective_scan(given)[1] - reference.selective_scan(other)[1]).abs().max()
    assert states["short"] < 1e-4 * states["long"]


def test_errors_hold_and_a_wrong_kernel_fails(monkeypatch):
    monkeypatch.setattr(scan, "LENGTHS", (1, 5))
    checks, rows = scan.scan_errors("cpu", progress=False)
    kernels = {"dense"} if cpp.ABSENT else {"cpp", "dense"}
    assert {(r.kernel, r.steps, r.memory) for r in rows} == {
        (k, n, m) for k in kernels for n in (1, 5) for m in ("long", "short")
    }
    assert len(checks) == 4 * len(kernels)
    assert all(c.ok and c.show == "3" for c in checks)

    def wrong(kernel):
        run = right(kernel)
        return lambda given, state: [t * (1 + 3e-5) for t in run(given, state)]

    right = scan._operator
    monkeypatch.setattr(scan, "_operator", wrong)
    assert not any(c.ok for c in scan.scan_errors("cpu", progress=False)[0])


def test_a_missing_rival_fails_every_row(monkeypatch):
    def missing():
        raise UnsupportedError("not installed; pip install mambapy==1.2.0")

    monkeypatch.setattr(rival, "parallel", missing)
    checks, rows = scan.scan_speed(((2, 3),), ("eager", "graph"), repeats=1, progress=False)
    assert [r.form for r in rows] == ["eager", "graph"]
    assert all("pip install" in r.failure and math.isnan(r.ratio) and r.to_dict()["ratio"] is None for r in rows)
    assert len(checks) == 3
    assert not any(c.ok for c in checks)


@pytest.mark.gpu
def test_speed(monkeypatch):
    monkeypatch.setattr(rival, "parallel", lambda: rival.one_after_the_other)
    checks, rows = scan.scan_speed(((3, 20),), ("eager", "graph"), repeats=2, progress=False)
    assert all(r.failure is None and r.ours_s > 0 and r.rival_s > 0 for r in rows)
    assert rows[0].rival_bytes > rows[0].ours_bytes > 0
    assert len(checks) == 3


def test_steps_differentiate_by_all_operands():
    given = scan.draw(1, 3, 4)
    found = scan._step(given, lambda *t: scan._operator("dense")(scan._named(t), False))()
    assert [g.shape for g in found] == [t.shape for t in given.tensors() if t is not None]
    assert all(bool(torch.isfinite(g).all()) for g in found)
