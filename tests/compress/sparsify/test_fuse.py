"""A fused graph computes what the model computes, keeps its state, and stays packed between blocks."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from sparseflow.compress.sparsify.fuse import Fused, fuse, neuron_constants
from sparseflow.compress.sparsify.regions import observe
from sparseflow.errors import UnsupportedError
from sparseflow.nn import spikes as packed
from sparseflow.nn.functional import reset_net
from sparseflow.nn.fused_net import FusedNet
from sparseflow.nn.models import build
from sparseflow.nn.neurons import LIFNode
from sparseflow.nn.spike_block import ConvNeuronBlock
from sparseflow.trace import capture, register
from sparseflow.trace.registry import REGISTRY
from tests.spiking_nets import NEURONS, Residual, alive, chain

KERNELS = ("dense", "event")


def _fused(model: nn.Module, x: Tensor, kernel: str | None = None) -> Fused:
    traced = capture(model, x).graph_module
    assert traced is not None
    with torch.no_grad():
        facts = observe(traced, (x,))
    reset_net(model)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return fuse(traced, facts, dict.fromkeys(layers, kernel) if kernel else {})


def _functions(fused: Fused) -> list[Any]:
    return [n.target for n in fused.graph_module.graph.nodes if n.op == "call_function"]


@torch.no_grad()
def _check(model: nn.Module, x: Tensor, kernel: str | None = None) -> None:
    twin = copy.deepcopy(model)
    fused = _fused(model, x, kernel)
    for _ in range(2):
        # The second round starts from the state that the first one left.
        torch.testing.assert_close(fused.graph_module(x), twin(x), rtol=1e-4, atol=1e-4)
    for name, module in twin.named_modules():
        if hasattr(module, "v"):
            mine = model.get_submodule(name)
            torch.testing.assert_close(mine.v, module.v, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
def test_every_neuron(neuron: Callable[[], nn.Module], kernel: str) -> None:
    _check(*chain(neuron), kernel)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("sew", [False, True])
def test_forks_and_joins(sew: bool, down: bool, kernel: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    _check(alive(Residual(sew, down), x), x, kernel)


@pytest.mark.parametrize("name", ["csnn", "spiking_vgg9", "sew_resnet18", "spiking_resnet18"])
def test_zoo(name: str) -> None:
    width = {"csnn": {"channels": 8}, "spiking_vgg9": {"hidden": 32}}.get(name, {"width": 8})
    x = torch.randn(2, 1, 28, 28) if name == "csnn" else torch.randn(2, 3, 32, 32)
    _check(alive(build(name, **width), x), x)


def test_a_sequence_in_place_of_an_image() -> None:
    model, _ = chain()
    _check(model, torch.randn(3, 2, 3, 8, 8))


def test_other_batch_and_steps_than_the_sample() -> None:
    model, x = chain()
    twin = copy.deepcopy(model)
    fused = _fused(model, x)
    y = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(fused.graph_module(y), twin(y), rtol=1e-4, atol=1e-4)


def test_nothing_is_unpacked_inside_a_chain() -> None:
    fused = _fused(*chain())
    assert packed.unpack not in _functions(fused)
    assert packed.pool in _functions(fused)
    assert sum(n.op == "call_module" for n in fused.graph_module.graph.nodes) == 6


def test_unpacks_once_for_readers_of_floats() -> None:
    x = torch.randn(2, 3, 8, 8)
    fused = _fused(alive(Residual(sew=True), x), x)
    # The stem's spikes and those of sn2 are added as floats; conv1 and conv2 read bits.
    assert _functions(fused).count(packed.unpack) == 2


@pytest.mark.parametrize("sew", [None, False, True])
@torch.no_grad()
def test_can_be_pickled_with_its_model(sew: bool | None) -> None:
    model, x = chain()
    if sew is not None:
        model = alive(Residual(sew=sew, down=True), x)
    net = FusedNet(model, _fused(model, x).graph_module).eval()
    want = net(x)
    loaded = pickle.loads(pickle.dumps(net))
    reset_net(loaded)
    assert torch.equal(loaded(x), want)
    for one in (net, loaded):
        reset_net(one)
        for p in one.parameters():
            p.mul_(0.9)
    assert torch.equal(loaded(x), net(x))


def test_weights_may_change_afterwards() -> None:
    model, x = chain()
    twin = copy.deepcopy(model)
    fused = _fused(model, x, "event")
    for net in (model, twin):
        torch.manual_seed(1)
        for p in net.parameters():
            p.data = p.data + 0.05 * torch.randn_like(p)
        with torch.no_grad():
            net.features[5].running_mean.add_(0.1)  # type: ignore[index, union-attr, operator]
    with torch.no_grad():
        torch.testing.assert_close(fused.graph_module(x), twin(x), rtol=1e-4, atol=1e-4)


class _Steps(nn.Module):
    """Single-step neurons in a loop over time, written with views."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.sn1 = nn.Conv2d(3, 8, 3), LIFNode(v_threshold=0.2)
        self.conv2, self.sn2 = nn.Conv2d(8, 8, 3), LIFNode(v_threshold=0.1)
        self.fc = nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.sn2(self.conv2(self.sn1(self.conv1(x))))
        out: Tensor = self.fc(y.view(y.shape[0], -1))
        return out


def test_single_step_with_views() -> None:
    x = torch.randn(2, 3, 8, 8)
    _check(_Steps(), x)
    fused = _fused(_Steps(), x)
    assert packed.reshape in _functions(fused)
    assert packed.unpack in _functions(fused)


def test_spikingjelly_s_flatten_leaves_time_alone() -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    model = nn.Sequential(
        layer.Conv2d(3, 8, 3, padding=1, step_mode="m"),
        neuron.LIFNode(v_threshold=0.3, step_mode="m"),
        layer.MaxPool2d(2, step_mode="m"),
        layer.Flatten(step_mode="m"),
        layer.Linear(8 * 16, 5, step_mode="m"),
        neuron.IFNode(v_threshold=0.3, step_mode="m"),
    ).eval()
    x = 2 * torch.randn(3, 2, 3, 8, 8)
    assert packed.flatten in _functions(_fused(model, x))
    _check(model, x)


class _Own(nn.Module):
    """A user's leaky neuron: decay 1/2, threshold 1, reset to 0."""

    def __init__(self, step_mode: str | None = "m") -> None:
        super().__init__()
        self.v: Tensor | float = 0.0
        if step_mode is not None:
            self.step_mode = step_mode

    def reset(self) -> None:
        self.v = 0.0

    def forward(self, x: Tensor) -> Tensor:
        spikes = []
        for now in x:
            h = self.v + (now - self.v) / 2.0
            spikes.append((h >= 1.0).to(x))
            self.v = h * (1.0 - spikes[-1])
        return torch.stack(spikes)


def _own_params(_: nn.Module) -> dict[str, Any]:
    return {"kind": "lif", "tau": 2.0, "v_threshold": 1.0, "v_reset": 0.0, "decay_input": True, "step_mode": "m"}


@pytest.mark.parametrize("step_mode", ["m", None])
def test_a_registered_neuron_is_fused_if_its_state_can_be_kept(step_mode: str | None) -> None:
    register(_Own, kind="lif", params=_own_params)
    try:
        model, x = chain(lambda: _Own(step_mode))
        fused = _fused(model, x)
        assert any(isinstance(m, ConvNeuronBlock) for m in fused.graph_module.modules()) == (step_mode == "m")
        _check(model, x)
    finally:
        REGISTRY.unregister(_Own)


def test_constants_need_known_maths() -> None:
    assert neuron_constants(LIFNode(tau=3.0)).tau == 3.0
    with pytest.raises(UnsupportedError, match="ReLU is no IF"):
        neuron_constants(nn.ReLU())
    assert isinstance(_fused(*chain()).graph_module, fx.GraphModule)
