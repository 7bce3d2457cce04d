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
    assert len(checks) == 2
    assert not any(c.ok for c in checks)


@pytest.mark.gpu
def test_speed(monkeypatch):
    monkeypatch.setattr(rival, "parallel", lambda: rival.one_after_the_other)
    checks, rows = scan.scan_speed(((3, 20),), ("eager", "graph"), repeats=2, progress=False)
    assert all(r.failure is None and r.ours_s > 0 and r.rival_s > 0 for r in rows)
    assert rows[0].rival_bytes > rows[0].ours_bytes > 0
    assert len(checks) == 2


def test_the_best_form_of_each_side_counts():
    def row(form, ours, theirs, **more):
        return scan.SpeedRow(sequences=2, steps=3, form=form, ours_s=ours, rival_s=theirs, **more)

    none = float("nan")
    rows = [row("eager", 8.0, 9.0, ours_bytes=1, rival_bytes=5), row("graph", 0.5, 7.0), row("compiled", none, 5.5)]
    speed, memory = scan.speed_checks(rows)
    assert (speed.value, speed.ok) == (11.0, True)
    assert (memory.value, memory.ok) == (0.2, True)
    assert not scan.speed_checks([row("graph", 1.0, none)])[0].ok
    assert not scan.speed_checks([row("graph", none, 1.0)])[0].ok
    assert not scan.speed_checks([row("eager", 1.0, 20.0, ours_bytes=0, rival_bytes=5)])[1].ok


def test_long_sequences_are_not_compiled(monkeypatch):
    monkeypatch.setattr(rival, "parallel", lambda: rival.one_after_the_other)
    monkeypatch.setattr(scan, "_moved", lambda given, device: given)
    monkeypatch.setattr(scan, "_compare", lambda *given: given[3])
    assert scan._speed(1, 64, ("graph", "compiled"), 1) == ["graph", "compiled"]
    left = scan._speed(1, 65, ("graph", "compiled"), 1)[1]
    assert (left.form, left.failure) == ("compiled", "not compiled above 64 steps")


def test_a_side_that_fails_leaves_the_other_timed(monkeypatch):
    def fails(*_):
        raise ValueError("no such thing")

    monkeypatch.setattr(scan, "_peak", lambda step: len(step()))
    given = scan.draw(1, 3, 4)
    run = scan._operator("dense")
    found = scan._compare(given, lambda *t: run(scan._named(t), False), fails, "eager", 1)
    assert found.ours_s > 0
    assert math.isnan(found.rival_s)
    assert math.isnan(found.ratio)
    assert found.failure == "mambapy: ValueError: no such thing"


def test_steps_differentiate_by_all_operands():
    given = scan.draw(1, 3, 4)
    found = scan._step(given, lambda *t: scan._operator("dense")(scan._named(t), False))()
    assert [g.shape for g in found] == [t.shape for t in given.tensors() if t is not None]
    assert all(bool(torch.isfinite(g).all()) for g in found)
