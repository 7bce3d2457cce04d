"""The network against plain torch, on a small one."""

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.recipes.forecast.bench import network, rival


@pytest.fixture(autouse=True)
def small(monkeypatch):
    def make():
        torch.manual_seed(0)
        args = ModelArgs.paper(7, 6, n_layer=1, d_model=16, d_state=4, dt_rank=4)
        return args, CMamba(args)

    monkeypatch.setattr(network, "_network", make)
    monkeypatch.setattr(network, "BATCH", 2)


def test_both_sides_agree_and_are_timed(monkeypatch):
    monkeypatch.setattr(rival, "parallel", lambda: rival.one_after_the_other)
    before = torch.get_num_threads()
    checks, rows = network.network_checks((1,), repeats=2, compile=False, progress=False)
    assert torch.get_num_threads() == before
    assert [(r.what, r.threads) for r in rows] == [("forecast", 1), ("training step", 1)]
    for row in rows:
        plain = {"plain, step by step", "plain, mambapy's parallel scan"}
        assert set(row.ratios) == plain and set(row.seconds) == {"sparseflow", *plain}  # noqa: PT018
        assert 0 <= row.difference < 1e-5
        assert not row.failures
    values = {c.name: c for c in checks}
    assert len(values) == 4
    over = values["forecast, 1 thread, over plain eager torch"]
    assert over.value == min(rows[0].ratios.values())
    assert all(c.ok for c in checks if "difference" in c.name)


def test_without_mambapy_the_comparison_fails(monkeypatch):
    def missing():
        raise UnsupportedError("pip install mambapy==1.2.0")

    monkeypatch.setattr(rival, "parallel", missing)
    checks, rows = network.network_checks((1,), repeats=1, compile=False, progress=False)
    assert all("mambapy" in row.failures["plain, mambapy's parallel scan"] for row in rows)
    assert [c.ok for c in checks] == [False, True, False, True]


def test_other_results_are_told(monkeypatch):
    right = rival.forecast
    monkeypatch.setattr(rival, "forecast", lambda *given: right(*given) * 1.01)
    checks, _ = network.network_checks((1,), repeats=1, compile=False, progress=False)
    assert not any(c.ok for c in checks if "difference" in c.name)
