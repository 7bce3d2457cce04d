"""The integers against float32, on a small network."""

import pytest
import torch

from sparseflow.nn.models.cmamba import ModelArgs
from sparseflow.nn.models.cmamba.int_engine import isas
from sparseflow.recipes.forecast.bench import integers, rival

pytestmark = pytest.mark.skipif(not isas(), reason="the compiled kernels are missing")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    args = ModelArgs.paper(7, 6, n_layer=1, d_model=16, d_state=4, dt_rank=4)
    monkeypatch.setattr(ModelArgs, "paper", classmethod(lambda *_: args))


def test_all_sides_are_timed_and_the_integers_are_the_references():
    pytest.importorskip("onnxruntime")
    before = torch.get_num_threads()
    checks, rows = integers.integer_checks((1,), repeats=2, compile=False, progress=False)
    assert torch.get_num_threads() == before
    rivals = {
        "plain torch", "onnxruntime float32", "onnxruntime INT8, dynamic", "onnxruntime INT8, calibrated",
        "float32, C++",
    }  # fmt: skip
    assert set(rows[0].ratios) == rivals
    assert set(rows[0].seconds) == {"integers, C++", *rivals}
    assert not rows[0].failures
    bounds = {c.name: c.bound for c in checks}
    assert bounds["one forecast, 1 thread, over plain torch"] == 5.0
    assert bounds["one forecast, 1 thread, over onnxruntime INT8, dynamic"] == 1.0
    assert checks[-1].ok
    assert checks[-1].value == 0


def test_a_rival_that_is_missing_fails(monkeypatch):
    def missing(*_):
        raise ImportError("no onnxruntime")

    monkeypatch.setattr(integers, "_sessions", missing)
    checks, rows = integers.integer_checks((1,), repeats=1, compile=False, progress=False)
    assert "pip install" in rows[0].failures["onnxruntime"]
    assert not next(c for c in checks if "onnxruntime" in c.name).ok


def test_a_rival_that_computes_something_else_is_refused(monkeypatch):
    pytest.importorskip("onnxruntime")
    right, calls = rival.forecast, []

    def drifts(*given):
        calls.append(1)
        return right(*given) + 0.01 * len(calls)

    monkeypatch.setattr(rival, "forecast", drifts)
    _, rows = integers.integer_checks((1,), repeats=1, compile=False, progress=False)
    assert "no rival" in rows[0].failures["onnxruntime"]
