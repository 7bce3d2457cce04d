import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg.average import Average


def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_it_is_the_exponential_average_of_every_floating_tensor():
    net = make()
    average = Average(net, 0.75)
    expected = {k: v.clone() for k, v in net.state_dict().items() if v.is_floating_point()}
    for step in range(40):
        with torch.no_grad():
            for tensor in net.state_dict().values():
                tensor.add_(step + 1)
        average.update()
        share = 1 - min(0.75, (2 + step) / (11 + step))
        for key, value in net.state_dict().items():
            if key in expected:
                expected[key] = expected[key] + share * (value - expected[key])
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with average.applied():
        for key, value in net.state_dict().items():
            torch.testing.assert_close(value, expected.get(key, before[key]))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_the_state_comes_back_after_an_error_and_after_the_hook():
    net = make()
    average = Average(net, 0.5)
    with torch.no_grad():
        net[0].weight.zero_()
    calls = []

    def broken():
        with average.applied(lambda: calls.append(net[0].weight.abs().sum().item())):
            net[1].num_batches_tracked.add_(7)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert calls[0] > 0
    assert net[0].weight.abs().sum() == 0
    assert net[1].num_batches_tracked == 0


def test_it_is_saved_as_a_module():
    net = make()
    one, other = Average(net, 0.5), Average(make(), 0.5)
    with torch.no_grad():
        net[0].weight.add_(1)
    one.update()
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ConfigError, match="decay"):
        Average(make(), decay)
