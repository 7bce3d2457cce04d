"""Workloads: shapes, FLOPs, bytes, density, repeat."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from sparseflow.errors import CaptureError
from sparseflow.ir import Workload
from sparseflow.nn import models
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture, table, trace
from sparseflow.trace.workload import to_workload
from tests.torchvision_shim import install


def test_a_convolution() -> None:
    found = trace(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), torch.ones(2, 4, 9, 9), name="one")
    (layer,) = found
    assert found.name == "one"
    assert layer.op == "conv2d"
    assert [(o.role, o.shape) for o in layer.operands] == [
        ("input", (2, 4, 9, 9)), ("weight", (6, 2, 3, 3)), ("bias", (6,)), ("output", (2, 6, 5, 5)),
    ]  # fmt: skip
    assert layer.flops == 2 * (2 * 6 * 5 * 5) * (2 * 3 * 3) + 2 * 6 * 5 * 5
    assert layer.bytes == 4 * (2 * 4 * 81 + 6 * 2 * 9 + 6 + 2 * 6 * 25)
    assert layer.attr("stride") == (2, 2)
    assert layer.attr("groups") == 2
    assert layer.density == 1.0


def test_density_is_measured_per_operand() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))
    found = trace(model, torch.tensor([[1.0, -1.0, -1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]))
    assert found.layer("0").density == 1.0
    assert found.layer("1").density == 3 / 8
    assert found.layer("1").uses == ("0",)
    assert found.layer("1").flops == 2 * 2 * 2 * 4 + 4


def test_density_of_weights() -> None:
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight[:, 1:] = 0
    weight = trace(model, torch.rand(1, 4)).layer("model").operand("weight")
    assert weight is not None
    assert weight.density == 0.25


def test_a_plain_network_and_pools_of_a_sequence() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    found = trace(model, torch.rand(1, 1, 6, 6))
    assert [layer.op for layer in found] == ["conv2d", "batch_norm", "relu", "max_pool2d", "flatten"]
    assert found.layer("3").flops == 2 * 2 * 2 * 4
    assert found.layer("4").flops == 0
    assert found.layer("4").attr("view") is True
    assert found.captured_by == "fx"
    roles = [o.role for o in found.layer("1").operands]
    assert roles.count("state") == 3


def test_time_steps_fold_into_repeat() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.lif, self.b = nn.Linear(3, 4), LIFNode(v_threshold=0.1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.b(self.lif(self.a(x))) for _ in range(6)])

    found = trace(Loop(), torch.rand(2, 3))
    assert [(layer.name, layer.repeat) for layer in found] == [("a", 6), ("lif", 6), ("b", 6), ("stack", 1)]
    assert found.flops == 6 * sum(found.layer(n).flops for n in ("a", "lif", "b"))
    spikes = found.layer("b").operand("input")
    assert spikes is not None
    assert spikes.structure == "spikes"
    assert 0 < found.layer("b").density < 1  # type: ignore[operator]


def test_time_as_a_dimension_stays_in_the_shapes() -> None:
    found = trace(models.build("spiking_vgg9", steps=3), torch.rand(2, 3, 32, 32))
    neuron = next(layer for layer in found if layer.op in ("if", "lif", "plif"))
    assert neuron.operands[0].shape[:2] == (3, 2)
    state = neuron.operand("state")
    assert state is not None
    assert state.shape == neuron.operands[0].shape[1:]
    assert neuron.repeat == 1


def test_a_transformer_keeps_attention_whole() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = (t.unflatten(-1, (2, 4)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v)
            return self.out(y.transpose(1, 2).flatten(2)) + (q @ k.mT).sum()

    found = trace(Block(), torch.rand(2, 5, 8))
    attention = found.layer("attention")
    assert [o.role for o in attention.operands] == ["input", "key", "value", "output"]
    scores = 2 * 2 * 5 * 5
    assert attention.flops == 2 * scores * (4 + 4) + 5 * scores
    assert found.layer("matmul").flops == 2 * scores * 4


def test_a_published_count_is_met() -> None:
    if not install():
        pytest.skip("torchvision is not installed")
    from torchvision.models import resnet18

    found = trace(resnet18(weights=None), torch.rand(1, 3, 224, 224))
    products = sum(layer.flops for layer in found if layer.op in ("conv2d", "linear"))
    assert products == 2 * 1_814_073_344 + 1000
    assert found.notes == ()


def test_torchs_own_transformer() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    found = trace(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.rand(2, 7, 16))
    heads = found.layer("layers.0.self_attn")
    projections, scores = 4 * (2 * 2 * 7 * 16 * 16 + 2 * 7 * 16), 2 * 4 * 7 * 7
    assert heads.flops == projections + 2 * scores * 8 + 5 * scores
    assert len([x for x in found if x.op == "linear"]) == 4


def test_one_module_on_two_shapes_is_two_layers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lin(x) + self.lin(x[:1])

    found = trace(Two(), torch.rand(4, 3))
    assert found.layer("lin").flops == 4 * found.layer("lin#2").flops


def test_half_precision_halves_the_bytes() -> None:
    full = trace(nn.Linear(8, 8), torch.rand(1, 8)).layer("model")
    half = trace(nn.Linear(8, 8).bfloat16(), torch.rand(1, 8).bfloat16()).layer("model")
    assert half.bytes == full.bytes / 2
    assert half.operands[0].precision.name == "bfloat16"


def test_an_operator_without_formula_is_noted() -> None:
    found = trace(nn.LSTM(3, 4), torch.rand(5, 2, 3))
    assert found.layer("model").flops == 0
    assert any("'lstm' has no flop formula" in note for note in found.notes)


def test_a_neuron_with_weights_of_its_own_is_noted() -> None:
    norse = pytest.importorskip("norse.torch")
    found = trace(norse.LIFRecurrentCell(3, 4), torch.rand(2, 3))
    assert any("weights of its own" in note for note in found.notes)


def test_a_residual_block_with_one_relu_keeps_its_order() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.b(self.relu(self.a(x))) + x)

    found = trace(Block(), torch.rand(1, 3))
    assert [(x.name, x.uses, x.repeat) for x in found] == [
        ("a", (), 1), ("relu", ("a",), 1), ("b", ("relu",), 1), ("add", ("b",), 1), ("relu_1", ("add",), 1),
    ]  # fmt: skip


def test_feedback_is_noted_and_the_order_stays_valid() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike, self.lin = LIFNode(), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.zeros(2, 3)
            for _ in range(4):
                y = self.spike(self.lin(torch.cat([x, y], 1)))
            return y

    found = trace(Recurrent(), torch.rand(2, 3))
    seen: set[str] = set()
    for layer in found:
        assert set(layer.uses) <= seen
        seen.add(layer.name)
    assert "lin reads cat_1 of the step before" in found.notes


@pytest.mark.parametrize("name", models.names())
def test_workloads_of_the_zoo_survive_json(name: str) -> None:
    shape = {"csnn": (1, 1, 28, 28), "cmamba": (1, 7, 96)}.get(name, (1, 3, 32, 32))
    found = trace(models.build(name), torch.rand(shape))
    assert Workload.from_json(found.to_json()) == found
    assert Workload.from_json(found.to_json()).hash == found.hash
    assert not any("no flop formula" in note for note in found.notes)


def test_equal_layers_have_equal_keys() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()) for _ in range(3)))
    found = trace(model, torch.rand(2, 4))
    assert len({layer.key for layer in found if layer.op == "linear"}) == 1


def test_to_workload_takes_a_capture() -> None:
    found = capture(nn.ReLU(), torch.rand(1))
    assert to_workload(found).layer("model").op == "relu"


def test_a_refusal_comes_through() -> None:
    with pytest.raises(CaptureError):
        trace(nn.Linear(3, 3), torch.rand(1, 4))


def test_the_table_is_readable() -> None:
    out = io.StringIO()
    found = trace(nn.Sequential(nn.Conv2d(1, 2, 3), LIFNode(), nn.Flatten()), torch.rand(1, 1, 5, 5))
    Console(file=out, width=140).print(table(found))
    text = out.getvalue()
    for word in ("conv2d", "lif", "1×1×5×5", "100.0 %", "FLOP", "dense"):
        assert word in text
    assert "flatten" not in text
    Console(file=out, width=140).print(table(found, views=True))
    assert "flatten" in out.getvalue()
