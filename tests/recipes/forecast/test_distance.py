"""FakeQuant beside the integers, tensor by tensor."""

from dataclasses import replace

import pytest
import torch

from sparseflow.compress.quantize import ForecastBits, calibrate_forecaster
from sparseflow.errors import ConfigError
from sparseflow.nn.models.cmamba import CMamba, ModelArgs, lower
from sparseflow.recipes.forecast.distance import fake_distance

ARGS = ModelArgs.paper(3, d_model=16, n_layer=2, d_state=4)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return CMamba(ARGS).eval(), torch.randn(6, 3, 96)


def arrays_of(model, spec):
    return lower(ARGS, {name: p.detach().numpy() for name, p in model.named_parameters()}, spec)


@pytest.mark.parametrize("bits", [ForecastBits(), ForecastBits(weights=4)])
def test_every_tensor_is_within_a_code(network, bits):
    model, windows = network
    spec = calibrate_forecaster(model, [windows], bits)
    found = fake_distance(model, spec, arrays_of(model, spec), windows)
    assert "encoder.layers.1.mixer.scan.h" in found
    assert "restore" in found
    assert max(found.values()) <= 1


def test_a_tensor_that_differs_is_seen(network):
    model, windows = network
    spec = calibrate_forecaster(model, [windows])
    arrays = dict(arrays_of(model, spec))
    name = "encoder.layers.1.mixer.out_proj.bias"
    arrays[name] = arrays[name] + 10**6
    found = fake_distance(model, spec, arrays, windows)
    assert found["encoder.layers.1.mixer.scan"] == 0
    assert found["encoder.layers.1.mixer.out_proj"] > 1


def test_another_networks_specification_is_refused(network):
    model, windows = network
    spec = calibrate_forecaster(model, [windows])
    other = CMamba(replace(ARGS, d_model=8)).eval()
    with pytest.raises(ConfigError, match="other sizes"):
        fake_distance(other, spec, {}, windows)
