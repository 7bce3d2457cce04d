"""Spike edges against tables written by hand from the networks' source."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.trace import capture, register, spike_edges, structures
from sparseflow.trace.registry import REGISTRY
from tests.torchvision_shim import install

TRUTH = sorted((Path(__file__).parent / "truth").glob("*.json"))
HOMES = {
    "sew_resnet18": "sew_resnet",
    "spiking_resnet18": "spiking_resnet",
    "spiking_vgg11": "spiking_vgg",
    "ms_resnet18": "ms_resnet",
    "Spikformer": "spikformer",
    "SpikeDrivenTransformer": "spike_driven_transformer",
    "QKFormer": "qkformer",
}


def build(truth: dict[str, Any]) -> nn.Module:
    pytest.importorskip("spikingjelly")
    if not install():
        pytest.skip("torchvision is not installed")
    from spikingjelly.activation_based import functional, neuron

    neurons = {"IF": neuron.IFNode, "LIF": neuron.LIFNode}
    arguments = {k: neurons.get(v, v) if isinstance(v, str) else v for k, v in truth["arguments"].items()}
    arguments = {"cnf": truth["arguments"]["cnf"], **arguments} if "cnf" in truth["arguments"] else arguments
    home = importlib.import_module(f"spikingjelly.activation_based.model.{HOMES[truth['builder']]}")
    model: nn.Module = getattr(home, truth["builder"])(**arguments)
    functional.set_step_mode(model, "m")
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.constant_(module.running_var, 0.05)
    return model.eval()


@pytest.mark.parametrize("path", TRUTH, ids=lambda p: p.stem)
def test_no_edge_is_mislabelled(path: Path) -> None:
    truth = json.loads(path.read_text())
    found = capture(build(truth), torch.rand(truth["sample_shape"]))
    layers = [node.name for node in found if node.op.startswith(("conv", "linear"))]
    assert sorted(layers) == sorted(truth["layers"])
    seen: dict[str, Any] = dict.fromkeys(layers)
    for edge in spike_edges(found):
        structure, sources = seen[edge.layer] or (edge.structure, [])
        assert structure == edge.structure
        seen[edge.layer] = (structure, [*sources, edge.source])
    for layer, expected in truth["layers"].items():
        got = seen[layer]
        if expected is None:
            assert got is None, layer
        else:
            assert got is not None, layer
            assert (got[0], sorted(got[1])) == (expected[0], sorted(expected[1])), layer


class Step(nn.Module):
    """Spikes where its input is positive."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x > 0).float()


@pytest.fixture(autouse=True)
def _step() -> Any:
    register(Step)
    yield
    REGISTRY.unregister(Step)


class Net(nn.Module):
    """A neuron, something in between, a layer."""

    def __init__(self, between: Any, channels: int = 4) -> None:
        super().__init__()
        self.spike, self.other = Step(), Step()
        self.between = between
        self.conv = nn.Conv2d(channels, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if isinstance(self.between, nn.Module):
            return self.conv(self.between(self.spike(x)))
        return self.conv(self.between(self.spike(x), self.other(-x), x))


def edges_of(between: Any, channels: int = 4) -> dict[str, str]:
    found = capture(Net(between, channels).eval(), torch.randn(2, 4, 6, 6))
    return {edge.source: edge.structure for edge in spike_edges(found) if edge.layer == "conv"}


SAME = {"spike": "spikes"}


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (nn.Identity(), SAME),
        (nn.MaxPool2d(2), SAME),
        (nn.MaxPool2d(3, stride=2, padding=1), SAME),
        (nn.Dropout(0.5), SAME),
        (nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (4, 6, 6))), SAME),
        (nn.ReLU(), SAME),
        (nn.Upsample(scale_factor=2), SAME),
        (nn.ZeroPad2d(1), SAME),
        (nn.AvgPool2d(2), {"spike": "sparse"}),
        (nn.AdaptiveAvgPool2d(1), {"spike": "sparse"}),
        (nn.BatchNorm2d(4), {}),
        (nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4)), {}),
        (nn.GroupNorm(1, 4), {}),
        (nn.Sigmoid(), {}),
        (nn.Upsample(scale_factor=2, mode="bilinear"), {"spike": "sparse"}),
        (nn.ConstantPad2d(1, 1.0), {}),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_modules_between(between: nn.Module, expected: dict[str, str]) -> None:
    assert edges_of(between) == expected


BOTH = {"spike": "spikes", "other": "spikes"}
COUNTS = {"spike": "counts", "other": "counts"}


@pytest.mark.parametrize(
    ("between", "expected", "channels"),
    [
        (lambda s, o, x: s + o, COUNTS, 4),
        (lambda s, o, x: s + x, {}, 4),
        (lambda s, o, x: s * o, BOTH, 4),
        (lambda s, o, x: s * (1 - o), BOTH, 4),
        (lambda s, o, x: 1 - s, {}, 4),
        (lambda s, o, x: s * x, {"spike": "sparse"}, 4),
        (lambda s, o, x: 0.5 * s, {"spike": "sparse"}, 4),
        (lambda s, o, x: s - o, {"spike": "sparse", "other": "sparse"}, 4),
        (lambda s, o, x: s + 1, {}, 4),
        (lambda s, o, x: torch.maximum(s, o), BOTH, 4),
        (lambda s, o, x: torch.cat([s, o], 1), BOTH, 8),
        (lambda s, o, x: torch.cat([s, x], 1), {}, 8),
        (lambda s, o, x: torch.stack([s, o]).flatten(0, 1), BOTH, 4),
        (lambda s, o, x: s.permute(0, 1, 3, 2).contiguous(), SAME, 4),
        (lambda s, o, x: s.repeat(2, 1, 1, 1)[:2], SAME, 4),
        (lambda s, o, x: s.unsqueeze(0).expand(3, -1, -1, -1, -1).flatten(0, 1), SAME, 4),
        (lambda s, o, x: s.chunk(2, 1)[1], SAME, 2),
        (lambda s, o, x: nn.functional.pad(s, (1, 1, 1, 1)), SAME, 4),
        (lambda s, o, x: nn.functional.pad(s, (1, 1, 1, 1), value=1.0), {}, 4),
        (lambda s, o, x: nn.functional.max_pool2d(s, 2), SAME, 4),
        (lambda s, o, x: nn.functional.dropout(s, training=True), {"spike": "sparse"}, 4),
        (lambda s, o, x: s.matmul(o), COUNTS, 4),
        (lambda s, o, x: s.matmul(o) * 0.125, {"spike": "sparse", "other": "sparse"}, 4),
        (lambda s, o, x: s.matmul(x), {}, 4),
        (lambda s, o, x: s.clone().add_(o), COUNTS, 4),
        (lambda s, o, x: s.add_(x), {}, 4),
        (lambda s, o, x: torch.where(x > 0, s, o), {}, 4),
    ],
)
def test_functions_between(between: Any, expected: dict[str, str], channels: int) -> None:
    assert edges_of(between, channels) == expected


def test_writing_into_a_view_of_spikes_ends_the_edge() -> None:
    def write(s: torch.Tensor, o: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        s[:, 0] = x[:, 0]
        return s

    assert edges_of(write) == {}

    def write_through(s: torch.Tensor, o: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        s.view(2, -1)[0].copy_(x.view(2, -1)[0])
        return s

    assert edges_of(write_through) == {}


def test_a_neuron_that_emits_more_than_bits_is_not_believed() -> None:
    class Graded(Step):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

    net = Net(nn.Identity())
    net.spike = Graded()
    edges = spike_edges(capture(net, torch.randn(1, 4, 3, 3)))
    assert [edge.structure for edge in edges] == ["sparse"]


def test_a_layer_used_twice_has_edges_only_if_both_uses_read_spikes() -> None:
    class Twice(nn.Module):
        def __init__(self, both: bool) -> None:
            super().__init__()
            self.spike, self.conv, self.both = Step(), nn.Conv2d(4, 4, 1), both

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.spike(x)) + self.conv(self.spike(-x) if self.both else x)

    x = torch.randn(1, 4, 3, 3)
    assert [e.source for e in spike_edges(capture(Twice(True), x))] == ["spike"]
    assert spike_edges(capture(Twice(False), x)) == ()


def test_via_names_the_nodes_in_between() -> None:
    found = capture(Net(nn.Sequential(nn.MaxPool2d(2), nn.Dropout())).eval(), torch.randn(1, 4, 4, 4))
    (edge,) = spike_edges(found)
    assert (edge.source, edge.via, edge.layer) == ("spike", ("between.0", "between.1"), "conv")


def test_functional_layers_are_named_by_their_node() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike, self.w = Step(), nn.Parameter(torch.randn(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(self.spike(x), self.w)

    (edge,) = spike_edges(capture(Functional(), torch.randn(3, 4)))
    assert (edge.source, edge.layer) == ("spike", "linear")


def test_structures_tell_what_every_tensor_holds() -> None:
    found = capture(Net(nn.AvgPool2d(2)), torch.randn(1, 4, 4, 4))
    held = {found.calls[i].node: structure for (i, _), structure in structures(found).items()}
    assert held == {"spike": "spikes", "between": "sparse"}
