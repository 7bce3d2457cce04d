import pytest

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.recipes.codesign.pipeline import PipelineConfig, run_pipeline

SMALL = {
    "device": "cpu", "embed_dim": 48, "num_heads": 3, "depth": 3, "num_frames": 2, "img_size": 32, "samples": 8,
    "warmup": 2, "rounds": 2, "turns": 1,
}  # fmt: skip


def test_a_pipeline_of_processes_computes_the_network_and_its_prediction_is_the_objective_s():
    body = run_pipeline(PipelineConfig(**SMALL))
    assert body["difference"] <= 1e-4
    assert body["mapping"] == sorted(body["mapping"])
    assert set(body["mapping"]) == {0, 1}
    assert body["predicted_ms"] >= max(body["slot_ms"])
    assert body["measured_ms"] > 0


def test_a_stage_that_fails_is_an_error_and_not_a_wait():
    with pytest.raises(MeasurementError, match="stage"):
        run_pipeline(PipelineConfig(**SMALL | {"num_heads": 5}))


@pytest.mark.parametrize("given", [{"stages": 1}, {"samples": 5, "warmup": 4}, {"rounds": 0}, {"turns": 0}])
def test_counts_are_checked(given):
    with pytest.raises(ConfigError):
        PipelineConfig(**given)
