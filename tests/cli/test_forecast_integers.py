import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.recipes.forecast import quantize as recipe


@pytest.fixture
def told(monkeypatch):
    """What the recipe is called with; it returns made-up scores that miss their bound."""
    seen = []
    scores = {"mse": 0.25, "mae": 0.125, "windows": 3}
    check = {"show": "2", "name": "W8A8 MSE over FP32", "value": 1.1, "unit": "x", "target": "<= 1.005", "ok": False}

    def run(config, progress):
        seen.append((config, progress))
        return {"fp32": scores, "integers": scores, "checks": [check], "ok": False, "files": ["made"]}

    monkeypatch.setattr(recipe, "quantize", run)
    return seen


def call(*arguments):
    return CliRunner().invoke(app, ["forecast", "quantize", *arguments])


def test_options_reach_the_recipe(told):
    result = call(
        "--checkpoint", "a.safetensors", "--weights", "4", "--epochs", "2", "--rule", "least_error", "--limit", "9"
    )
    assert result.exit_code == 0
    config, progress = told[0]
    assert (config.checkpoint, config.weights, config.activations, config.epochs) == ("a.safetensors", 4, 8, 2)
    assert (config.rule, config.limit, progress) == ("least_error", 9, True)
    assert "integers: MSE 0.2500" in result.output
    assert "made" in result.output


def test_json_and_the_bound(told):
    result = call("--checkpoint", "a", "--json", "--check")
    assert result.exit_code == 1
    assert json.loads(result.output)["ok"] is False
    assert told[0][1] is False


def test_bits_out_of_range_are_said():
    result = call("--checkpoint", "a", "--weights", "9")
    assert result.exit_code != 0


@pytest.fixture
def proven(monkeypatch):
    """What the proof is called with; it returns a made-up check that does not hold."""
    seen = []
    check = {"show": "2", "name": "W8A8 MSE over FP32", "value": 1.1, "unit": "x", "target": "<= 1.005", "ok": False}
    task = {"task": "ETTh1_96", "fp32": {"mse": 0.25}, "forms": {"W8A8": {"mse": 0.275}}}

    def run(config, progress, say):
        seen.append(config)
        say("begins")
        return {"tasks": [task], "checks": [check], "ok": False}

    monkeypatch.setattr("sparseflow.recipes.forecast.prove.prove", run)
    return seen


def test_the_proof_takes_several_forecasters(proven):
    result = CliRunner().invoke(
        app, ["forecast", "prove", "--checkpoint", "a", "--checkpoint", "b", "--no-cells", "--epochs", "1", "--check"]
    )
    assert result.exit_code == 1
    assert (proven[0].checkpoints, proven[0].cells, proven[0].epochs) == (("a", "b"), False, 1)
    assert "ETTh1_96: MSE in float32 0.2500, W8A8 0.2750" in result.output
    assert CliRunner().invoke(app, ["forecast", "prove"]).exit_code == 0
    assert proven[1].checkpoints == ("cmamba_etth1_96",)
