"""Capture: how it was done, what it refuses, what it notes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sparseflow.errors import CaptureError, ConfigError, DataError
from sparseflow.nn import models
from sparseflow.nn.neurons import IFNode, LIFNode
from sparseflow.trace import capture, spike_edges


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.b(self.a(x)) + self.c(x)).mean((2, 3))


def test_a_plain_network_is_traced_and_agrees() -> None:
    model = Residual().eval()
    found = capture(model, torch.randn(1, 2, 5, 5))
    assert found.how == "fx"
    assert [n.name for n in found] == ["input", "a", "b", "c", "add", "relu", "mean", "output"]
    assert found.graph_module is not None
    x = torch.randn(3, 2, 7, 7)
    with torch.no_grad():
        assert torch.equal(found.graph_module(x), model(x))
    assert [n.name for n in found.producers("add")] == ["b", "c"]
    assert [n.name for n in found.consumers("input")] == ["a", "c"]
    assert "a" in found
    assert len(found) == 8
    assert found.node("relu").density == pytest.approx(0.5, abs=0.3)


def test_a_model_of_one_layer() -> None:
    found = capture(nn.ReLU(), torch.randn(2, 3))
    assert (found.how, found.notes) == ("fx", ())
    assert [n.name for n in found] == ["input", "model", "output"]


def test_the_traced_graph_shares_the_modules() -> None:
    model = Residual().eval()
    found = capture(model, torch.randn(1, 2, 5, 5))
    assert found.graph_module is not None
    assert found.graph_module.get_submodule("a") is model.a


def test_branches_on_values_are_recorded() -> None:
    class Shapes(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.amax() > -1e9:
                x = x.flatten(0, 1)
            return super().forward(x)

    found = capture(Shapes().eval(), torch.randn(2, 1, 2, 5, 5))
    assert found.how == "record"
    assert found.graph_module is None
    assert any("no traced graph" in note and "control flow" in note for note in found.notes)
    assert found.node("a").inputs == ("flatten",)


def test_a_trace_that_misses_an_edge_is_not_believed() -> None:
    class Filled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.spike, self.b = nn.Linear(3, 3), IFNode(), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = torch.zeros(2, 4, 3)
            for t in range(2):
                out[t] = self.spike(self.a(x))
            return self.b(out)

    found = capture(Filled(), torch.rand(4, 3))
    assert found.how == "record"
    assert [(e.source, e.layer, e.structure) for e in spike_edges(found)] == [("spike", "b", "spikes")]
    assert found.node("spike").calls == 2


@pytest.mark.parametrize("name", models.names("spiking"))
def test_the_zoo_is_traced_without_notes(name: str) -> None:
    shape = (1, 1, 28, 28) if name == "csnn" else (1, 3, 32, 32)
    found = capture(models.build(name), torch.rand(shape))
    assert (found.how, found.notes) == ("fx", ())
    layers = {n.name for n in found if n.op in ("conv2d", "linear")}
    stem = next(n.name for n in found if n.op == "conv2d")
    assert layers - {e.layer for e in spike_edges(found)} == {stem}


def test_time_steps_of_a_loop_are_one_node() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 4), LIFNode(), nn.Linear(4, 2), LIFNode())

        def forward(self, x: torch.Tensor) -> Any:
            total = 0.0
            for t in range(5):
                total = total + self.net(x[t])
            return total

    found = capture(Loop(), torch.rand(5, 2, 3))
    assert {n.name: n.calls for n in found if n.kind in ("module", "function")} == {
        "select": 5, "net.0": 5, "net.1": 5, "net.2": 5, "net.3": 5, "add": 5,
    }  # fmt: skip
    assert not any(n.shared for n in found)


def test_turns_of_a_loop_over_layers_are_different_nodes() -> None:
    class Stack(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = x + F.relu(block(x))
            return x

    found = capture(Stack(), torch.rand(1, 3))
    assert [n.name for n in found if n.op == "add"] == ["add", "add_1", "add_2"]
    assert found.node("add_1").inputs == ("add", "relu_1")


def test_turns_of_a_loop_over_weights_are_different_nodes() -> None:
    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.ParameterList(torch.rand(3, 3) for _ in range(3))
            self.plain = [torch.ones(3), torch.ones(3)]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for weight in self.weights:
                x = F.linear(x, weight)
            for scale in self.plain:
                x = x * scale
            return x

    found = capture(Weights(), torch.rand(1, 3))
    assert [n.name for n in found if n.op in ("linear", "mul")] == ["linear", "linear_1", "linear_2", "mul", "mul_1"]


def test_explicit_state_of_snntorch_and_norse() -> None:
    snn = pytest.importorskip("snntorch")
    norse = pytest.importorskip("norse.torch")

    class Explicit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.lif, self.b = nn.Linear(6, 5), snn.Leaky(beta=0.9), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mem, out = self.lif.init_leaky(), []
            for _ in range(3):
                spike, mem = self.lif(self.a(x), mem)
                out.append(self.b(spike) + mem.mean())
            return torch.stack(out)

    found = capture(Explicit(), torch.rand(2, 6))
    assert [(e.source, e.layer) for e in spike_edges(found)] == [("lif", "b")]
    assert found.node("b").calls == 3

    chain = norse.SequentialState(nn.Conv2d(1, 4, 3), norse.LIFCell(), nn.Conv2d(4, 2, 3), norse.LICell())
    assert [(e.source, e.layer) for e in spike_edges(capture(chain, torch.rand(1, 1, 8, 8)))] == [("1", "2")]


def test_recurrence_is_no_sharing() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spike, self.lin = IFNode(), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.zeros_like(x)
            for _ in range(4):
                y = self.spike(self.lin(torch.cat([x, y], 1)))
            return y

    found = capture(Recurrent(), torch.rand(2, 3))
    assert not found.node("lin").shared
    assert spike_edges(found) == ()


def test_a_module_used_twice_is_noted() -> None:
    shared = nn.Linear(3, 3)
    found = capture(nn.Sequential(shared, nn.ReLU(), shared), torch.rand(1, 3))
    assert found.node("0").shared
    assert found.node("0").calls == 2
    assert "0 and 2 are one module" in found.notes
    assert "0 runs at several places of the model" in found.notes


def test_an_activation_used_twice_is_two_nodes_of_one_module() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU(inplace=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.b(self.relu(self.a(x))) + x)

    found = capture(Block(), torch.rand(1, 3))
    assert [(n.name, n.target, n.inputs) for n in found if n.op == "relu"] == [
        ("relu", "relu", ("a",)), ("relu_1", "relu", ("add",)),
    ]  # fmt: skip
    assert found.notes == ()
    assert found.how == "fx"


def test_shapes_read_in_python_are_no_edges() -> None:
    class Reshape(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 2, 1), nn.Linear(9, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n, _, h, w = x.shape
            return self.b(self.a(x).reshape(n, x.size(0) * 2, h * w))

    found = capture(Reshape(), torch.rand(1, 1, 3, 3))
    assert found.how == "fx"
    assert found.node("reshape").inputs == ("a",)


def test_keyword_and_several_arguments() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": a + b}

    for sample in ((torch.ones(2), torch.ones(2)), {"a": torch.ones(2), "b": torch.ones(2)}):
        found = capture(Two(), sample)
        assert found.node("add").inputs == ("input", "input_1")
        assert found.sample_shapes == ((2,), (2,))


class Reads(nn.Module):
    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.conv, self._forward = nn.Linear(3, 3), forward

    def forward(self, x: torch.Tensor) -> Any:
        return self._forward(self.conv, x)


def _unseen(conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch._C.DisableTorchFunction():
        y = x * 2
    return conv(y)


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (lambda conv, x: conv(torch.from_numpy(x.numpy())), "numpy array"),
        (lambda conv, x: conv(torch.from_dlpack(x)), "dlpack array"),
        (_unseen, "cannot see"),
        (lambda conv, x: conv(torch.func.vmap(torch.sin)(x)), "cannot see"),
    ],
)
def test_unseen_edges_are_refused(forward: Any, why: str) -> None:
    with pytest.raises(CaptureError, match=why):
        capture(Reads(forward), torch.rand(2, 3))


@pytest.mark.parametrize("make", [torch.Tensor, torch.tensor, torch.FloatTensor, lambda v: nn.Parameter(torch.ones(3))])
def test_constants_made_in_a_forward_are_no_hidden_edges(make: Any) -> None:
    found = capture(Reads(lambda conv, x: conv(x * make([1.0, 2.0, 3.0]))), torch.rand(2, 3))
    assert found.node("conv").inputs == ("mul",)


def test_reading_the_voltage_of_a_neuron_comes_from_the_neuron() -> None:
    class Readout(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.lif, self.b = nn.Linear(3, 3), LIFNode(), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> Any:
            for _ in range(3):
                self.lif(self.a(x))
            return self.b(self.lif.v)

    found = capture(Readout(), torch.rand(2, 3))
    assert found.node("b").inputs == ("lif.state",)
    assert found.node("lif.state").inputs == ("lif",)
    assert spike_edges(found) == ()


def test_values_read_by_python_are_noted() -> None:
    found = capture(Reads(lambda conv, x: conv(x) if x.sum() > 0 else x), torch.rand(2, 3))
    assert any("reads tensor values in Python" in note for note in found.notes)


def test_scripted_modules_are_refused() -> None:
    with pytest.raises(CaptureError, match="scripted"):
        capture(torch.jit.script(nn.Linear(3, 3)), torch.rand(1, 3))
    with pytest.raises(CaptureError, match="1 is scripted"):
        capture(nn.Sequential(nn.Linear(3, 3), torch.jit.script(nn.Linear(3, 3))), torch.rand(1, 3))


def test_compiled_modules_are_refused() -> None:
    with pytest.raises(CaptureError, match=r"torch\.compile"):
        capture(torch.compile(nn.Linear(3, 3)), torch.rand(1, 3))  # type: ignore[arg-type]


def test_lazy_modules_are_refused() -> None:
    with pytest.raises(CaptureError, match="run the model once"):
        capture(nn.LazyLinear(3), torch.rand(1, 3))


def test_a_wrong_sample_shape_says_which() -> None:
    with pytest.raises(CaptureError, match=r"Linear does not run on the sample of shape \(1, 4\)"):
        capture(nn.Linear(3, 3), torch.rand(1, 4))


def test_weights_and_samples_that_are_not_finite() -> None:
    model = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(DataError, match="sample"):
        capture(model, torch.tensor([[float("nan"), 1.0, 2.0]]))
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"weight '0\.weight' holds NaN"):
        capture(model, torch.rand(1, 3))


@pytest.mark.parametrize(("model", "sample"), [(nn.Linear(3, 3), "x"), (nn.Linear(3, 3), None), (len, torch.ones(1))])
def test_what_is_no_model_or_no_sample(model: Any, sample: Any) -> None:
    with pytest.raises(ConfigError):
        capture(model, sample)
