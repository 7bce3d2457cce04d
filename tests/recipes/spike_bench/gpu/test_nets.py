import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.neurons import IFNode
from sparseflow.recipes.spike_bench.gpu import nets
from sparseflow.recipes.spike_bench.gpu.nets import (
    CLAIMS,
    NetCase,
    WithReset,
    densities,
    images,
    load_trained,
    net_cases,
    optimized,
    spikingjelly_net,
    synthetic,
)

CPU = torch.device("cpu")


def test_images_are_real_scaled_and_repeated():
    x = images(3, 40, CPU)
    assert x.shape == (3, 3, 40, 40)
    assert images(2005, 32, CPU).shape[0] == 2005
    assert float(x.std()) > 0.1


def test_a_synthetic_network_is_alive():
    case = synthetic("sew_resnet18", 32, 4, CPU)
    assert not case.trained
    assert case.claim == CLAIMS[0]
    rates = densities(case.model, case.x)
    assert len(rates) > 15
    assert all(0.02 < r < 0.4 for r in rates.values())


def test_the_shipped_network_is_trained():
    case = load_trained("spiking_vgg9_cifar10", 2, CPU)
    assert case.trained
    assert case.x.shape == (2, 3, 32, 32)
    assert case.record["test_accuracy"] > 0.9


def test_a_trained_network_takes_the_place_of_a_synthetic_one_of_its_size(tmp_path, monkeypatch):
    def quick(builder, side, count, device, seed):
        return NetCase(
            name=builder, builder=builder, model=nn.Identity(), x=torch.ones(1, 3, side, side), trained=False
        )

    monkeypatch.setattr(nets, "synthetic", quick)
    net = models.build("sew_resnet18", stem="cifar", steps=2)
    models.checkpoint.round_half(net)
    path = str(tmp_path / "sew.safetensors")
    models.save_checkpoint(path, net, name="sew_resnet18", arguments={"stem": "cifar", "steps": 2}, record={})
    found = net_cases([path], 2, CPU, side=32)
    assert [(c.builder, c.trained) for c in found] == [("sew_resnet18", True), ("spiking_resnet50", False)]
    errors = {}
    assert len(net_cases(["missing.safetensors"], 2, CPU, side=32, errors=errors)) == 2
    assert "missing" in next(iter(errors))


def test_state_is_cleared_before_every_forward():
    net = WithReset(nn.Sequential(IFNode(step_mode="m")))
    x = torch.full((1, 3), 0.6)
    assert torch.equal(net(x), net(x))


def test_the_optimiser_gets_its_precision_and_compiles_no_rival(monkeypatch):
    seen = {}

    def optimize_spiking(model, x, **given):
        seen.update(given)
        return model, "report"

    monkeypatch.setattr(nets, "optimize_spiking", optimize_spiking)
    assert optimized(nn.Identity(), torch.ones(1), "exact")[1] == "report"
    assert seen["precision"] == "exact"
    assert seen["effort"].compile_s == 0


def test_spikingjelly_has_no_form_of_a_small_network():
    pytest.importorskip("spikingjelly")
    with pytest.raises(ConfigError):
        spikingjelly_net(
            NetCase(name="n", builder="sew_resnet18", model=nn.Identity(), x=torch.ones(1, 3, 32, 32), trained=False)
        )
