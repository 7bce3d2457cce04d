from dataclasses import replace

from sparseflow.ops.conv2d_spike.check import check, draw
from sparseflow.recipes.spike_bench import correct
from sparseflow.recipes.spike_bench.correct import _configurations


def test_a_few_configurations_hold():
    checks, figures = _configurations("event", 4, seed=3, progress=False)
    assert all(c.ok for c in checks)
    assert figures["configurations"] == 4
    assert figures["neuron_steps"] > 0


def test_a_wrong_spike_fails_the_check(monkeypatch):
    monkeypatch.setattr(correct, "check", lambda case, kernel: replace(check(draw(3), "event"), wrong=1))
    checks, _ = _configurations("event", 2, seed=0, progress=False)
    assert not all(c.ok for c in checks)


def test_refused_configurations_do_not_count_as_run(monkeypatch):
    monkeypatch.setattr(correct, "check", lambda case, kernel: replace(check(draw(3), "event"), refusal="no"))
    checks, figures = _configurations("event", 2, seed=0, progress=False)
    assert figures["refused"] == 2
    assert [c.ok for c in checks] == [False]
