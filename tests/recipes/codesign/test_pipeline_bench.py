import pytest

from sparseflow.recipes.codesign import pipeline_bench


@pytest.mark.parametrize(("measured", "ok"), [(10.0, True), (11.0, True), (20.0, False)])
def test_the_period_is_held_to_fifteen_hundredths(monkeypatch, measured, ok):
    body = {
        "measured_ms": measured, "predicted_ms": 10.0, "error": abs(10.0 / measured - 1), "difference": 0.0,
        "device": "cpu",
    }  # fmt: skip
    monkeypatch.setattr(pipeline_bench, "run_pipeline", lambda config: body)
    assert pipeline_bench.bench(quick=True)["ok"] is ok
