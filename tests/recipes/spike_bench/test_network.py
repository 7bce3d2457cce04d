import pytest
import torch

from sparseflow.nn import models
from sparseflow.recipes.spike_bench.network import spiking_layers, time_network


@pytest.fixture
def net():
    torch.manual_seed(0)
    return models.build("csnn", channels=16, steps=2).eval()


def test_layers_come_with_the_spikes_that_they_really_read_and_what_fuses_with_them(net):
    found = spiking_layers(net, torch.rand(2, 1, 28, 28))
    assert found
    assert any(layer.neuron is not None for layer in found.values())
    for name, layer in found.items():
        assert layer.layer is net.get_submodule(name)
        assert set(layer.x.unique().tolist()) <= {0.0, 1.0}
        assert len(layer.folded) == 4
        assert torch.isfinite(layer.layer(layer.folded)).all()


def test_a_row_compares_the_same_network_with_itself(net):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    row = time_network(net, torch.rand(2, 1, 28, 28), name="csnn", repeats=3, compile=False)
    assert row.top1_equal == 1.0
    assert row.dense.startswith("eager")
    assert row.ratio > 0
    assert set(row.candidates_s) == {"eager nchw", "eager channels_last", "optimized"}
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
