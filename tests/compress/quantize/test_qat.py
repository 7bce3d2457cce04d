"""A prepared model: the same function without rounding, near it with rounding, trainable; the original untouched."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.compress.quantize.fake_quant import FakeQuantize, WeightFakeQuantize
from sparseflow.compress.quantize.qat import (
    QuantLayer,
    calibrate,
    freeze_bn,
    freeze_observers,
    prepare_qat,
    quantizers,
    set_enabled,
)
from sparseflow.compress.quantize.spec import QuantConfig
from sparseflow.errors import CaptureError, ConfigError, UnsupportedError
from tests.quantized_nets import NETS, net


@pytest.mark.parametrize("name", list(NETS))
def test_every_graph(name: str) -> None:
    model, x = net(name)
    before = copy.deepcopy(model.state_dict())
    made = prepare_qat(model, x)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(isinstance(m, FakeQuantize) for m in model.modules())
    want, got = model(x), made(x)
    assert (got - want).abs().max() < 0.15 * want.abs().max()
    set_enabled(made, False)
    torch.testing.assert_close(made(x), want)
    left = [m for m in made.modules() if isinstance(m, nn.BatchNorm2d | nn.ReLU)]
    inside = [m.bn for m in made.modules() if isinstance(m, QuantLayer) and m.bn is not None]
    assert all(isinstance(m, nn.ReLU) or any(m is bn for bn in inside) for m in left)
    made(x[:1])
    kept = {k: v.clone() for k, v in made.state_dict().items()}
    made(x * 3)
    assert all(torch.equal(kept[k], v) for k, v in made.state_dict().items())


def test_each_value_in_front_of_a_layer_is_on_a_grid() -> None:
    model, x = net("residual")
    made = prepare_qat(model, x)
    seen: dict[str, Tensor] = {}
    for name, module in made.named_modules():
        if isinstance(module, QuantLayer):
            module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    made(x)
    assert len(seen) == 7
    assert all(len(v.unique()) <= 128 for v in seen.values())


def test_points_are_nodes_of_the_capture() -> None:
    made = prepare_qat(*net("chain"))
    assert set(quantizers(made)) == {"x", "features_2", "features_6", "head_3"}
    assert made.get_submodule("head.4").output is None
    asked = prepare_qat(*net("chain"), QuantConfig(quantize_logits=True))
    assert set(quantizers(asked)) == {"x", "features_2", "features_6", "head_3", "head_4"}


def test_what_follows_the_last_layer_is_left_alone() -> None:
    model, x = net("fire")
    made = prepare_qat(model, x)
    assert set(quantizers(made)) == {"x", "relu", "relu_1", "relu_2", "cat"}


def test_trains_weights_normalisation_and_ranges() -> None:
    model, x = net("chain", batch=8)
    made = prepare_qat(model, x).train()
    bn = made.get_submodule("features.0").bn
    mean, low = bn.running_mean.clone(), made.x_quant.low.clone()
    loss = F.cross_entropy(made(x * 2), torch.arange(8))
    loss.backward()
    assert not torch.equal(bn.running_mean, mean)
    assert not torch.equal(made.x_quant.low, low)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())
    assert bn.weight.grad.abs().max() > 0


def test_learns() -> None:
    torch.manual_seed(0)
    model, _ = net("chain")
    x, y = torch.randn(32, 3, 8, 8), torch.arange(32) % 10
    made = prepare_qat(model, x).train()
    optimizer = torch.optim.SGD(made.parameters(), 0.05, momentum=0.9)
    losses = []
    for step in range(30):
        if step == 20:
            freeze_observers(made)
            freeze_bn(made)
        optimizer.zero_grad()
        loss = F.cross_entropy(made(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_frozen_is_frozen() -> None:
    model, x = net("residual")
    made = prepare_qat(model, x).train()
    freeze_observers(made)
    freeze_bn(made)
    made.eval().train()
    before = {k: v.clone() for k, v in made.named_buffers()}
    made(x * 5).sum().backward()
    assert all(torch.equal(before[k], v) for k, v in made.named_buffers())
    assert not any(m.bn.training for m in made.modules() if isinstance(m, QuantLayer) and m.bn is not None)


def test_calibrate_takes_the_mean_of_the_ranges() -> None:
    made = prepare_qat(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), torch.ones(1, 2)).eval()
    calibrate(made, [torch.tensor([[1.0, -1.0]]), torch.tensor([[4.0, -2.0]]), torch.tensor([[1.0, 0.0]])])
    found = quantizers(made)["input_1"]
    assert (float(found.high), float(found.low)) == (2.0, -1.0)
    assert (found.averaging, found.observing, found.calibrating) == (0.01, True, False)
    with pytest.raises(ConfigError, match="no batch"):
        calibrate(made, [])


def test_state_dict_comes_back() -> None:
    model, x = net("depthwise")
    made = prepare_qat(model, x)
    other = prepare_qat(model, torch.randn_like(x))
    assert not torch.equal(made(x), other(x))
    other.load_state_dict(made.state_dict())
    assert torch.equal(made(x), other(x))


def test_a_factor_of_zero_or_below_is_exact() -> None:
    layer, bn = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
    with torch.no_grad():
        bn.weight.copy_(torch.tensor([0.0, -1.5, 1e-15]))
    made = QuantLayer(layer, bn=bn, cap=math.inf)
    y = made(torch.randn(4, 2, 3, 3))
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert layer.weight.grad is not None
    assert torch.isfinite(layer.weight.grad).all()


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(F.relu(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def test_a_layer_that_runs_twice_keeps_one_weight() -> None:
    made = prepare_qat(_Shared().eval(), torch.randn(2, 2, 5, 5))
    layers = [m for m in made.modules() if isinstance(m, QuantLayer)]
    assert len(layers) == 3
    assert layers[0].layer is layers[2].layer or layers[0].layer is layers[1].layer
    assert len(list(made.parameters())) == 4


class _Overwrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        z = F.relu_(y)
        return self.two(z) + y


def test_refusals() -> None:
    with pytest.raises(CaptureError):
        prepare_qat(_Overwrites().eval(), torch.randn(3, 4))
    with pytest.raises(UnsupportedError, match="no convolution or linear"):
        prepare_qat(nn.Sequential(nn.ReLU()), torch.rand(2, 2))

    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError, match="Branches has no traced graph"):
        prepare_qat(Branches(), torch.rand(2, 2))


def test_named_arguments_and_modes() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.fc(a + b)

    made = prepare_qat(Two().train(), {"b": torch.rand(3, 4), "a": torch.rand(3, 4)})
    assert made.training
    assert set(quantizers(made)) == {"a", "b", "add"}
    assert isinstance(made.get_submodule("fc").weight, WeightFakeQuantize)
