"""Chains of layer, normalisation and ReLU: found where nothing reads in between, and folded as they compute."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparseflow.compress.quantize.fuse import find_chains, fold_scale, relu_cap
from sparseflow.errors import UnsupportedError
from sparseflow.trace import capture
from tests.quantized_nets import net


def _chains(model: nn.Module, x: Tensor) -> list[tuple[str, bool, bool]]:
    traced = capture(model, x).graph_module
    assert traced is not None
    interpreter, shapes = fx.Interpreter(traced, garbage_collect_values=False), {}
    interpreter.run(x)
    for node, value in interpreter.env.items():
        shapes[node] = tuple(value.shape) if isinstance(value, Tensor) else None
    found = find_chains(traced, shapes)
    return [(str(c.layer.target), c.bn is not None, c.relu is not None) for c in found]


def test_finds_whole_chains() -> None:
    assert _chains(*net("chain")) == [
        ("features.0", True, True), ("features.4", True, True), ("head.2", False, True), ("head.4", False, False),
    ]  # fmt: skip


def test_functions_and_shared_relus_count() -> None:
    assert _chains(*net("lenet"))[0] == ("conv1", False, True)
    found = {name: rest for name, *rest in _chains(*net("residual"))}
    assert found["layer1.conv1"] == [True, True]
    assert found["layer1.conv2"] == [True, False]
    assert found["layer2.down.0"] == [True, False]


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return F.relu(self.bn(y)) + y


def test_a_second_reader_keeps_the_normalisation_apart() -> None:
    assert _chains(_Twice().eval(), torch.rand(2, 1, 3, 3)) == [("conv", False, False)]


def test_a_normalisation_over_rows_stays_apart() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(3)).eval()
    assert _chains(model, torch.rand(2, 3, 4)) == [("0", False, False)]
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU()).eval()
    assert _chains(model, torch.rand(2, 4)) == [("0", True, True)]


def test_a_normalisation_without_statistics_stays_apart() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    assert _chains(model, torch.rand(2, 1, 3, 3)) == [("0", False, False)]


def test_a_layer_with_a_forward_of_its_own_is_left() -> None:
    class Odd(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) * 2

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd, self.fc = Odd(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.odd(x))

    assert [name for name, *_ in _chains(Around().eval(), torch.rand(2, 4))] == ["fc"]


def test_a_layer_with_hooks_is_left() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].register_forward_pre_hook(lambda module, args: None)
    assert [name for name, *_ in _chains(model, torch.rand(2, 4))] == ["1"]


class _Caps(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.relu(x), torch.relu(x), x.relu(), F.relu6(x), x.clamp(min=0), x.clamp(0, 4), torch.clamp_min(x, 0),
            F.hardtanh(x, 0.0, 2.0), F.hardtanh(x, 0.0), F.threshold(x, 0, 0), x.clamp(1, 4), F.hardtanh(x),
        )  # fmt: skip


def test_caps() -> None:
    traced = fx.symbolic_trace(_Caps())
    caps = [relu_cap(n, {}) for n in traced.graph.nodes if n.op in ("call_function", "call_method")]
    inf = math.inf
    assert caps == [inf, inf, inf, 6.0, inf, 4.0, inf, 2.0, 1.0, inf, None, None]
    modules = nn.Sequential(nn.Hardtanh(0.0, 3.0), nn.Threshold(0.0, 0.0), nn.Threshold(0.5, 0.0))
    traced = fx.symbolic_trace(modules)
    nodes = [n for n in traced.graph.nodes if n.op == "call_module"]
    named = dict(traced.named_modules())
    assert [relu_cap(n, named) for n in nodes[:2]] == [3.0, inf]
    with pytest.raises(UnsupportedError, match=r"threshold at 0\.5"):
        relu_cap(nodes[2], named)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_fold_scale(bias: bool, affine: bool) -> None:
    conv, bn, x = nn.Conv2d(3, 5, 3, bias=bias), nn.BatchNorm2d(5, affine=affine).eval(), torch.randn(2, 3, 6, 5)
    with torch.no_grad():
        bn.running_mean.normal_()  # type: ignore[union-attr]
        bn.running_var.uniform_(0.1, 2.0)  # type: ignore[union-attr]
        if affine:
            bn.weight.copy_(torch.tensor([1.0, -2.0, 0.0, 1e-12, 3.0]))
            bn.bias.normal_()
    factor, shift = fold_scale(bn, conv.bias, 5)
    sums = F.conv2d(x, conv.weight).double()
    got = sums * factor.view(-1, 1, 1) + shift.view(-1, 1, 1)
    torch.testing.assert_close(got.float(), bn(conv(x)), rtol=1e-5, atol=1e-5)


def test_without_normalisation_the_factor_is_one() -> None:
    factor, shift = fold_scale(None, None, 3)
    assert factor.tolist() == [1.0] * 3
    assert shift.tolist() == [0.0] * 3
