import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import ParametricLIFNode
from sparseflow.recipes.analog import AnalogTwin


def test_the_twin_has_one_step_and_rates():
    model = models.build("csnn", channels=4, steps=4, in_channels=3, image_size=16).eval()
    seen = []
    model.features.conv2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 3
    spiking = model(x)
    reset_net(model)
    twin = AnalogTwin(model)
    assert twin.steps == 4
    twin.use(True)
    assert twin.steps == 4
    rates = model(x)
    twin.use(False)
    assert torch.equal(model(x), spiking)
    assert rates.shape == spiking.shape
    assert seen[0].shape[0] == 4
    assert torch.equal(seen[0], seen[0].round())
    assert seen[1].shape[0] == 1
    assert 0 <= seen[1].min() < seen[1].max() <= 1
    assert not torch.equal(seen[1], seen[1].round())


def test_switching_forgets_the_state():
    model = models.build("csnn", channels=4, steps=2, in_channels=1, image_size=8).eval()
    model(torch.ones(3, 1, 8, 8))
    twin = AnalogTwin(model)
    twin.use(True)
    model(torch.ones(1, 1, 8, 8))
    twin.use(False)
    assert model(torch.ones(2, 1, 8, 8)).shape == (2, 10)


def test_gradients_reach_the_first_layer_of_a_deep_network():
    model = models.build("spiking_resnet18", width=4, steps=2).train()
    AnalogTwin(model).use(True)
    model(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert model.conv1.weight.grad.abs().max() > 0


def test_a_neuron_without_rates_says_so():
    model = models.build("csnn", channels=4, steps=2, in_channels=1, image_size=8, neuron=ParametricLIFNode)
    AnalogTwin(model).use(True)
    with pytest.raises(ConfigError, match="ParametricLIFNode has no analog form"):
        model(torch.ones(1, 1, 8, 8))
