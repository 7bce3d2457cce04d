import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from sparseflow.compress.quantize.roles import operation, role, writes_in_place


def traced(body):
    module = body if isinstance(body, nn.Module) else _Call(body)
    graph_module = fx.symbolic_trace(nn.Sequential(module))
    return graph_module, dict(graph_module.named_modules())


class _Call(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x)


def last(body):
    """Return the node that a body's result comes from."""
    graph_module, modules = traced(body)
    output = next(n for n in graph_module.graph.nodes if n.op == "output")
    return output.args[0], modules


class Own(nn.ReLU):
    def forward(self, input):
        return torch.tanh(input)


W = torch.ones(2, 2, 3, 3)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.ReLU6(), "relu"),
        (nn.Hardtanh(0.0, 4.0), "relu"),
        (nn.Hardtanh(), "activation"),
        (nn.Threshold(0.1, 0.0), "relu"),
        (nn.Threshold(0.1, 0.5), "activation"),
        (nn.Threshold(-1.0, 0.0), "activation"),
        (nn.LeakyReLU(), "activation"),
        (nn.PReLU(), "activation"),
        (nn.GELU(), "activation"),
        (nn.Sigmoid(), "activation"),
        (nn.Softmax(1), "activation"),
        (nn.Conv1d(1, 1, 1), "layer"),
        (nn.Conv3d(1, 1, 1), "layer"),
        (nn.ConvTranspose2d(1, 1, 1), "layer"),
        (nn.Linear(1, 1), "layer"),
        (nn.BatchNorm2d(1), "norm"),
        (nn.MaxPool2d(2), "carry"),
        (nn.AdaptiveMaxPool2d(1), "carry"),
        (nn.Flatten(), "carry"),
        (nn.Dropout2d(), "carry"),
        (nn.Identity(), "carry"),
        (nn.PixelShuffle(2), "carry"),
        (nn.ZeroPad2d(1), "carry"),
        (nn.ReflectionPad2d(1), "carry"),
        (nn.ConstantPad2d(1, 0.5), "other"),
        (nn.Upsample(scale_factor=2), "carry"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "mean"),
        (nn.AvgPool2d(2), "mean"),
        (nn.AdaptiveAvgPool2d(1), "mean"),
        (nn.LayerNorm(1), "other"),
    ],
    ids=lambda v: str(v),
)
def test_modules(body, expected):
    node, modules = last(body)
    assert role(node, modules) == expected
    assert operation(node, modules) == type(body).__name__


@pytest.mark.parametrize(
    ("body", "expected", "name"),
    [
        (F.relu, "relu", "relu"),
        (torch.relu, "relu", "relu"),
        (torch.relu_, "relu", "relu"),
        (F.relu6, "relu", "relu6"),
        (lambda x: x.relu(), "relu", "relu"),
        (lambda x: x.relu_(), "relu", "relu"),
        (lambda x: torch.clamp(x, 0, 6), "relu", "clamp"),
        (lambda x: torch.clamp(x, min=0.0), "relu", "clamp"),
        (lambda x: x.clamp(min=0), "relu", "clamp"),
        (lambda x: x.clamp_min(0.0), "relu", "clamp_min"),
        (lambda x: torch.clip(x, 0.0), "relu", "clip"),
        (lambda x: F.threshold(x, 0.0, 0.0), "relu", "threshold"),
        (lambda x: F.hardtanh(x, 0.0, 6.0), "relu", "hardtanh"),
        (lambda x: torch.clamp(x, -1, 1), "activation", "clamp"),
        (lambda x: torch.clamp(x, max=1), "activation", "clamp"),
        (lambda x: torch.clamp(x, min=x), "activation", "clamp"),
        (F.hardtanh, "activation", "hardtanh"),
        (F.gelu, "activation", "gelu"),
        (torch.tanh, "activation", "tanh"),
        (lambda x: F.conv2d(x, W), "layer", "conv2d"),
        (lambda x: F.linear(x, W), "layer", "linear"),
        (lambda x: F.max_pool2d(x, 2), "carry", "max_pool2d"),
        (lambda x: F.dropout(x, training=False), "carry", "dropout"),
        (lambda x: x.view(1, -1), "carry", "view"),
        (lambda x: x[0], "carry", "getitem"),
        (lambda x: torch.flatten(x, 1), "carry", "flatten"),
        (lambda x: F.pad(x, (1, 1)), "carry", "pad"),
        (lambda x: F.pad(x, (1, 1), mode="reflect"), "carry", "pad"),
        (lambda x: F.pad(x, (1, 1), value=1.0), "other", "pad"),
        (lambda x: F.interpolate(x, scale_factor=2), "carry", "interpolate"),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), "mean", "interpolate"),
        (lambda x: F.avg_pool2d(x, 2), "mean", "avg_pool2d"),
        (lambda x: F.adaptive_avg_pool2d(x, 1), "mean", "adaptive_avg_pool2d"),
        (lambda x: x.mean((2, 3)), "mean", "mean"),
        (lambda x: torch.cat([x, x]), "join", "cat"),
        (lambda x: F.batch_norm(x, None, None), "norm", "batch_norm"),
        (lambda x: x.size(0), "shape", "size"),
        (lambda x: x.shape, "shape", "getattr"),
        (lambda x: x + x, "other", "add"),
        (lambda x: x.sum(), "other", "sum"),
    ],
)
def test_functions_and_methods(body, expected, name):
    node, modules = last(body)
    assert (role(node, modules), operation(node, modules)) == (expected, name)


def test_a_subclass_with_a_forward_of_its_own_is_no_relu():
    class Tracer(fx.Tracer):
        def is_leaf_module(self, m, name):
            return isinstance(m, Own)

    net = nn.Sequential(Own())
    node = next(n for n in Tracer().trace(net).nodes if n.op == "call_module")
    assert role(node, dict(net.named_modules())) == "activation"


def test_inputs_and_outputs_have_no_role():
    graph_module, modules = traced(nn.ReLU())
    assert [role(n, modules) for n in graph_module.graph.nodes] == ["other", "relu", "other"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (nn.ReLU(), False),
        (nn.ReLU(inplace=True), True),
        (F.relu, False),
        (lambda x: F.relu(x, inplace=True), True),
        (lambda x: F.relu(x, True), True),
        (torch.relu_, True),
        (lambda x: x.relu_(), True),
        (lambda x: x.clamp_(0), True),
        (lambda x: F.threshold(x, 0.0, 0.0, inplace=True), True),
        (lambda x: F.threshold(x, 0.0, 0.0), False),
        (lambda x: x.clamp(0), False),
    ],
)
def test_writing_in_place(body, expected):
    node, modules = last(body)
    assert writes_in_place(node, modules) == expected
