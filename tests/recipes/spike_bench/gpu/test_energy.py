import types

import pytest
import torch

from sparseflow.recipes.spike_bench.gpu import energy


def test_without_a_counter_nothing_is_claimed():
    assert energy.joules(lambda: None, 1, torch.device("cpu")) is None


def test_joules_are_the_difference_of_the_counter_over_all_images(monkeypatch):
    spent = iter([100.0, 700.0])
    clock = iter([0.0, 0.5, 1.5, 2.5, 3.0])
    runs = []
    monkeypatch.setattr(energy, "_counter", lambda device: lambda: next(spent))
    monkeypatch.setattr(energy, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    found = energy.joules(lambda: runs.append(1), 4, torch.device("cpu"))
    # Two rounds of ten forwards began before the second second.
    assert len(runs) == 5 + 20
    assert found == {"joules_an_image": pytest.approx(600.0 / 80), "watts": pytest.approx(200.0), "seconds": 3.0}


def test_a_counter_that_stands_still_claims_nothing(monkeypatch):
    clock = iter([0.0, 0.5, 2.5, 3.0])
    monkeypatch.setattr(energy, "_counter", lambda device: lambda: 5.0)
    monkeypatch.setattr(energy, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert energy.joules(lambda: None, 1, torch.device("cpu")) is None
