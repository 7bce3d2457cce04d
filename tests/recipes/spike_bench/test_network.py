import pytest
import torch

from sparseflow.nn import models
from sparseflow.recipes.spike_bench.network import spiking_inputs, time_network


@pytest.fixture
def net():
    torch.manual_seed(0)
    return models.build("csnn", channels=16, steps=2).eval()


def test_inputs_are_the_spikes_that_the_layers_really_read(net):
    x = torch.rand(2, 1, 28, 28)
    found = spiking_inputs(net, x)
    assert found
    for name, (layer, spikes) in found.items():
        assert layer is net.get_submodule(name)
        assert set(spikes.unique().tolist()) <= {0.0, 1.0}
        assert len(spikes) == 4
        assert torch.isfinite(layer(spikes)).all()


def test_a_row_compares_the_same_network_with_itself(net):
    before = {k: v.clone() for k, v in net.state_dict().items()}
    row = time_network(net, torch.rand(2, 1, 28, 28), name="csnn", repeats=3, compile=False)
    assert row.top1_equal == 1.0
    assert row.dense.startswith("eager")
    assert row.ratio > 0
    assert set(row.candidates_s) == {"eager nchw", "eager channels_last", "optimized"}
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
