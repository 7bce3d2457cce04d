"""The bench of the forecaster as one body of JSON."""

import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast.bench import ForecastBenchConfig, bench, scan


def test_body_and_file(monkeypatch, tmp_path):
    monkeypatch.setattr(scan, "LENGTHS", (2,))
    out = tmp_path / "deep" / "bench.json"
    body = bench(ForecastBenchConfig(device="cpu", suites=("errors",), out=str(out)), progress=False)
    assert body["ok"] and body["checks"]  # noqa: PT018
    assert body["errors"][0]["steps"] == 2
    assert body["speed"] == body["networks"] == []
    assert body["rival"] == "mambapy 1.2.0"
    assert json.loads(out.read_text()) == json.loads(json.dumps(body))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"suites": ("speeds",)}, "suites has speeds"),
        ({"forms": ("slow",)}, "forms has slow"),
        ({"forms": ()}, "at least one"),
        ({"threads": (0,)}, "threads is"),
        ({"repeats": 0}, "repeats 0"),
    ],
)
def test_refusals(given, says):
    with pytest.raises(ConfigError, match=says):
        ForecastBenchConfig(**given)


def test_a_suite_of_another_device_is_refused():
    with pytest.raises(ConfigError, match="speed does not run on cpu"):
        bench(ForecastBenchConfig(device="cpu", suites=("speed",)), progress=False)
