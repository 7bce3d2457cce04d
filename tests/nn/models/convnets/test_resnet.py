import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.models import ResNet
from tests.torchvision_shim import install


def bare(**arguments):
    with torch.device("meta"):
        return models.build("resnet18", **arguments)


def test_parameters_layers_and_logits():
    model = bare()
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 20
    assert model(torch.empty(2, 3, 32, 32, device="meta")).shape == (2, 10)
    assert model(torch.empty(2, 3, 40, 56, device="meta")).shape == (2, 10)


def test_it_is_torchvisions_but_for_the_stem():
    install()
    theirs = pytest.importorskip("torchvision.models").resnet18(num_classes=10)
    state = {k: v.shape for k, v in theirs.state_dict().items() if k != "conv1.weight"}
    assert {k: v.shape for k, v in bare().state_dict().items() if k != "conv1.weight"} == state


def test_every_parameter_learns():
    torch.manual_seed(0)
    model = models.build("resnet18", width=0.125, num_classes=3, in_channels=1)
    y = model(torch.randn(4, 1, 16, 16))
    assert y.shape == (4, 3)
    y.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("blocks", [(1, 1, 1), (1, 1, 0, 1)])
def test_four_stages_with_blocks(blocks):
    with pytest.raises(ConfigError, match="four stages"):
        ResNet(blocks)


def test_width():
    with pytest.raises(ConfigError, match="width"):
        models.build("resnet18", width=0.0)
